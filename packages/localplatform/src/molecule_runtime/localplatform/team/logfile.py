"""What a process writes, kept in a file of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1024 * 1024
"""Of the file, and of the one before it (`.1`) that is kept."""

_TAIL_BYTES = 2000
_CHUNK = 64 * 1024


class LogFile:
    """A file (0600) that is put aside when it is full; the one put aside before is then lost."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            OSError: it cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size + len(data) > self._max_bytes:
                self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, data[-self._max_bytes :])
        finally:
            os.close(descriptor)


class Output:
    """The pipe that a process writes to, emptied into a log file by the event loop."""

    def __init__(self, log: LogFile) -> None:
        self._log = log
        self._tail = b""
        self._closed = asyncio.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    @property
    def writer(self) -> int:
        """The descriptor for the process."""
        return self._writer

    @property
    def tail(self) -> str:
        """The end of what was written, for a message about what went wrong."""
        return self._tail.decode(errors="replace").strip()

    def handed_over(self) -> None:
        """Close our copy of the writer, so that the pipe ends with the process."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    async def close(self, *, seconds: float = 1.0) -> None:
        """Read what is left. A process that outlives the one we started may hold the pipe: it gets a moment only."""
        self.handed_over()
        with anyio.move_on_after(seconds):
            await self._closed.wait()
        if not self._closed.is_set():
            self._end()

    def _read(self) -> None:
        try:
            data = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        # A full disk must not stop the process that writes.
        with contextlib.suppress(OSError):
            self._log.write(data)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        self._closed.set()


def tail(path: Path) -> str:
    """Return the end of a log file."""
    try:
        with path.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - _TAIL_BYTES))
            data = handle.read()
    except OSError:
        return ""
    return data.decode(errors="replace").strip()
