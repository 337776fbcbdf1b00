"""Runs one process tree: its output bounded while it streams, a deadline, and an end of the tree as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.tools.sandbox.job import (
    MAX_OUTPUT_CHARS,
    MAX_PRODUCED_BYTES,
    Captured,
    Outcome,
    SandboxUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from anyio.abc import ByteReceiveStream, ByteSendStream, Process

    from molecule_runtime.tools.sandbox.gate import Gate
    from molecule_runtime.tools.sandbox.job import Ended

START_SECONDS: Final = 10.0
"""From the start of the process to the gate."""

END_SECONDS: Final = 5.0
"""For what was killed to be gone."""

# A character has at most four bytes.
_KEPT_BYTES = 4 * MAX_OUTPUT_CHARS


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to run.

    Attributes:
        argv: the command.
        environ: all of its environment.
        seconds: until it is ended, from the gate on.
        kill: ends what the process (whose number it gets) started; called when that ended or is to end. It itself is always killed.
        watch: returns when the run has too much memory; None where something else sees to that.
        gate: what its launcher waits at; None for a process without one.
        at_gate: called when the launcher waits there.
        pass_fds: descriptors that it inherits.
        user: number of the user and group that it becomes; None for those of this process.
        stdin: what it reads.
        cwd: where it starts.
    """

    argv: Sequence[str]
    environ: Mapping[str, str]
    seconds: float
    kill: Callable[[int], Awaitable[None]]
    watch: Callable[[], Awaitable[None]] | None = None
    gate: Gate | None = None
    at_gate: Callable[[], None] | None = None
    pass_fds: Sequence[int] = ()
    user: int | None = None
    stdin: bytes = b""
    cwd: str = "/"


async def run(launch: Launch) -> Outcome:
    """Run a process to its end, its deadline or too much output; then nothing of it is alive.

    Raises:
        SandboxUnavailableError: it did not reach the gate; the message has what it said.
    """
    process = await _open(launch)
    output = Output()
    passed, code, started, seconds = False, None, 0.0, 0.0
    try:
        async with anyio.create_task_group() as tasks:
            try:
                tasks.start_soon(output.read, process.stdout, output.stdout)
                tasks.start_soon(output.read, process.stderr, output.stderr)
                tasks.start_soon(_feed, process.stdin, launch.stdin)
                passed = await _passed(launch)
                started = time.monotonic()
                if passed:
                    tasks.start_soon(output.wait, process)
                    if launch.watch is not None:
                        tasks.start_soon(output.watch, launch.watch)
                    with anyio.move_on_after(launch.seconds):
                        await output.finished.wait()
                # What ended by itself has a code now; what is killed below must not pass for it.
                code = process.returncode
                seconds = time.monotonic() - started
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(launch, process)
            # Nobody is left who could write, so reading ends; with a backend that leaves somebody, here.
            tasks.cancel_scope.deadline = anyio.current_time() + END_SECONDS
            output.watched.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()
    stdout, stderr = output.stdout.captured(), output.stderr.captured()
    if not passed:
        raise SandboxUnavailableError(stderr.text.strip() or f"it did not start within {START_SECONDS:.0f} s")
    ended: Ended = output.ended or ("timeout" if code is None else "")
    exit_code = -1 if ended or code is None else 128 - code if code < 0 else code
    return Outcome(exit_code=exit_code, stdout=stdout, stderr=stderr, seconds=seconds, ended=ended)


async def _open(launch: Launch) -> Process:
    process = await anyio.open_process(
        list(launch.argv),
        stdin=subprocess.PIPE if launch.stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=launch.environ,
        cwd=launch.cwd,
        pass_fds=launch.pass_fds,
        start_new_session=True,
        user=launch.user,
        group=launch.user,
        extra_groups=None if launch.user is None else [],
    )
    if launch.gate is not None:
        launch.gate.started()
    return process


async def _passed(launch: Launch) -> bool:
    if launch.gate is None:
        return True
    reached = False
    with anyio.move_on_after(START_SECONDS):
        reached = await launch.gate.reached()
    if reached:
        if launch.at_gate is not None:
            launch.at_gate()
        launch.gate.lift()
    return reached


async def _end(launch: Launch, process: Process) -> None:
    with anyio.move_on_after(END_SECONDS):
        await launch.kill(process.pid)
        if process.returncode is None:
            # Not process.kill(): it looks whether the process has ended, and may take its status away from asyncio.
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await process.wait()


async def _feed(stream: ByteSendStream | None, content: bytes) -> None:
    if stream is None:
        return
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(content)
    await stream.aclose()


@dataclass(slots=True)
class Stream:
    """The beginning of a stream, and its length."""

    kept: bytearray = field(default_factory=bytearray)
    produced: int = 0

    def take(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self.produced += len(chunk)
        self.kept += chunk[: max(0, _KEPT_BYTES - len(self.kept))]

    def captured(self) -> Captured:
        """Return what is kept, as text."""
        text = self.kept.decode(errors="replace")
        truncated = self.produced > len(self.kept) or len(text) > MAX_OUTPUT_CHARS
        return Captured(text=text[:MAX_OUTPUT_CHARS], truncated=truncated, produced=self.produced)


@dataclass(slots=True)
class Output:
    """What a run writes.

    Attributes:
        finished: it ended, or is to end.
        exhausted: it has too much memory.
        watched: what watches its memory.
    """

    stdout: Stream = field(default_factory=Stream)
    stderr: Stream = field(default_factory=Stream)
    finished: anyio.Event = field(default_factory=anyio.Event)
    exhausted: bool = False
    watched: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def flooded(self) -> bool:
        """It wrote more than `MAX_PRODUCED_BYTES`."""
        return self.stdout.produced + self.stderr.produced > MAX_PRODUCED_BYTES

    @property
    def ended(self) -> Ended:
        """Why it is to end."""
        return "memory" if self.exhausted else "output" if self.flooded else ""

    async def watch(self, exceeded: Callable[[], Awaitable[None]]) -> None:
        """Watch the memory of a process until it is too much, or `watched` is cancelled."""
        with self.watched:
            await exceeded()
            self.exhausted = True
            self.finished.set()

    async def wait(self, process: Process) -> None:
        """Wait for the end of a process."""
        await process.wait()
        self.finished.set()

    async def read(self, source: ByteReceiveStream | None, stream: Stream) -> None:
        """Read a stream of a process to its end, or until both brought too much."""
        if source is None:
            return
        async for chunk in source:
            stream.take(chunk)
            if self.flooded:
                self.finished.set()
                return
