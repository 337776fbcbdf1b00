"""The client's ends of stdin and stdout, which nobody else in the process can reach, and the lines that come in.

Importing this costs next to nothing: it is the first thing that `molecule-mcp` loads.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")

MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of one line. A file that a tool sends comes by its path, not in a call, so a line is far shorter; what is longer than this is
no message, and would only fill the memory."""

MAX_WAITING: Final = MAX_LINE
"""Bytes of the lines that were read and not yet taken; then the client waits until some are."""

_READ_BYTES = 64 * 1024
_PRIVATE_FROM = 3
"""Above stdin, stdout and stderr, which may be closed."""


class TooLong:
    """Stands in the place of a line of more than `MAX_LINE` bytes, which was skipped."""


Line = bytes | TooLong


class Wire:
    """Descriptors of the client's ends, and whole lines out.

    Attributes:
        reading: what the client writes.
        writing: what the client reads.
    """

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self._writer = threading.Lock()

    @classmethod
    def claim(cls) -> Wire:
        """Take stdin and stdout: from now on fd 0 is empty, and what anybody prints goes to stderr.

        Children and libraries keep the descriptors 0 and 1, so they neither take the client's lines nor write among ours.

        Raises:
            OSError: stdout is closed.
        """
        writing = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, _PRIVATE_FROM)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            reading = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _PRIVATE_FROM)
        except OSError:
            # A closed stdin has ended.
            reading = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, _PRIVATE_FROM)
        os.dup2(null, 0)
        try:
            os.dup2(2, 1)
        except OSError:
            os.dup2(null, 1)
            os.dup2(null, 2)
        if null > _PRIVATE_FROM - 1:
            os.close(null)
        return cls(reading, writing)

    def write_line(self, data: bytes) -> None:
        """Write one line, its newline not included. Blocking; lines of several threads never mix.

        Raises:
            OSError: the client does not read any more.
        """
        rest = memoryview(data + b"\n")
        with self._writer:
            while rest:
                rest = rest[os.write(self.writing, rest) :]


class Splitter:
    """Cuts what was read into lines, however it was cut on the way."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._length = 0
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that end in this data, without their newline."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._add(part)
            yield self._take()
        self._add(rest)

    def end(self) -> Iterator[Line]:
        """Yield the last line, when nothing ended it."""
        if self._skipping or self._length:
            yield self._take()

    def _add(self, part: bytes) -> None:
        self._length += len(part)
        if self._length > self._limit:
            self._skipping = True
            self._parts.clear()
        elif part:
            self._parts.append(part)

    def _take(self) -> Line:
        line: Line = TooLong() if self._skipping else b"".join(self._parts)
        self._parts.clear()
        self._length, self._skipping = 0, False
        return line


class Intake:
    """Reads the client's lines in a thread of its own, which works alike for a pipe, a file, a terminal and a socket.

    Where an event loop can wait for the client by itself, it takes over from the thread, which costs every line a turn of two threads.

    Args:
        wire: where they come from.
        first: sees each line before anybody waits for it, in the reading thread, and says whether it has dealt with it. Once it has
            not, it sees no further one, so that the order is kept.
        ended: called in the reading thread when stdin ended; gets whether lines are waiting.
    """

    def __init__(
        self, wire: Wire, *, first: Callable[[bytes], bool] | None = None, ended: Callable[[bool], None] | None = None
    ) -> None:
        self.wire = wire
        self._first = first
        self._at_end = ended
        self._splitter = Splitter()
        self._leaves = False
        self.has_left = False
        """The thread reads no more, although stdin has not ended: `read` does."""
        self._waiting: deque[Line] = deque()
        self._bytes = 0
        self._ended = False
        self._changed = threading.Condition()
        self._wake: Callable[[], object] | None = None

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="molecule-mcp-stdin", daemon=True).start()

    def wait_for_line(self, seconds: float) -> bool:
        """Wait until a line waits or stdin ended; returns False when that took too long. Blocking."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended or bool(self._waiting), seconds)

    def hold(self) -> None:
        """Let every further line wait: none is seen first any more, and an end is only noted."""
        with self._changed:
            self._first = None
            self._at_end = None

    def attach(self, wake: Callable[[], object], *, take_over: bool = False) -> None:
        """Have `wake` called, in the reading thread, whenever there is something to take.

        To take over, the thread ends when it has read once more, which `has_left` says.
        """
        self.hold()
        with self._changed:
            self._wake = wake
            self._leaves = take_over
        wake()

    @property
    def has_line(self) -> bool:
        """Whether a line waits."""
        with self._changed:
            return bool(self._waiting)

    def take_if(self, wanted: Callable[[bytes], _T | None]) -> _T | None:
        """Take the line that waits first, where `wanted` makes something of it, and let every further one wait; returns that, else None."""
        with self._changed:
            line = self._waiting[0] if self._waiting else None
            if not isinstance(line, bytes) or (found := wanted(line)) is None:
                return None
            self.hold()
            self._waiting.popleft()
            self._bytes -= len(line)
            self._changed.notify_all()
            return found

    def read(self) -> bool:
        """Read once, for who took over; False when stdin ended, or something must be taken first. Blocking where nothing is there."""
        lines, ended = self._read_once()
        with self._changed:
            self._waiting.extend(lines)
            self._bytes += sum(map(_size, lines))
            self._ended = ended
            return not ended and self._bytes <= MAX_WAITING

    def take(self) -> tuple[list[Line], bool]:
        """Return the lines that wait, in their order, and whether they were the last."""
        with self._changed:
            lines = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            self._changed.notify_all()
            return lines, self._ended

    def _read(self) -> None:
        while True:
            lines, ended = self._read_once()
            for line in lines:
                self._put(line)
            with self._changed:
                if ended:
                    self._ended = True
                    if self._at_end is not None:
                        self._at_end(bool(self._waiting))
                elif self._leaves:
                    self.has_left = True
                else:
                    continue
                self._told()
                return

    def _read_once(self) -> tuple[list[Line], bool]:
        try:
            data = os.read(self.wire.reading, _READ_BYTES)
        except OSError:
            # A terminal that hung up, a socket that was reset.
            data = b""
        return list(self._splitter.feed(data) if data else self._splitter.end()), not data

    def _put(self, line: Line) -> None:
        with self._changed:
            if self._first is not None:
                if isinstance(line, bytes) and self._first(line):
                    self._changed.notify_all()
                    return
                self._first = None
            size = _size(line)
            self._changed.wait_for(lambda: not self._waiting or self._bytes + size <= MAX_WAITING)
            self._waiting.append(line)
            self._bytes += size
            self._told()

    def _told(self) -> None:
        self._changed.notify_all()
        if self._wake is not None:
            self._wake()


def _size(line: Line) -> int:
    return len(line) if isinstance(line, bytes) else 0
