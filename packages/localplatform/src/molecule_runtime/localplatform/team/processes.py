"""One child process: in a group of its own, watched over, logged to a bounded file, and always ended with all that it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.localplatform.team.logfile import LogFile, Output

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import ByteReceiveStream, ByteSendStream, Process

    from molecule_runtime.localplatform.team.watch import Watch

STOP_SECONDS = 15.0
"""How long a child may take to stop after SIGTERM: a workspace host gives its running turns 10."""

_KILL_SECONDS = 5.0

# The program begins when it is told to, which is after the guard knows of it. If we are killed before, it never begins.
_GATE = 'read -r go && exec "$@"'
_GATE_WITHOUT_INPUT = f"{_GATE} </dev/null"
_GO = b"go\n"


class Child:
    """A process that runs."""

    def __init__(self, process: Process, output: Output) -> None:
        self._process = process
        self._output = output

    @property
    def pid(self) -> int:
        """Its id, and that of its group."""
        return self._process.pid

    @property
    def tail(self) -> str:
        """The end of what it wrote to its log in this life."""
        return self._output.tail

    @property
    def stdin(self) -> ByteSendStream:
        """Its stdin, when it was started with pipes."""
        if self._process.stdin is None:
            raise ValueError("the process was started without pipes")
        return self._process.stdin

    @property
    def stdout(self) -> ByteReceiveStream:
        """Its stdout, when it was started with pipes."""
        if self._process.stdout is None:
            raise ValueError("the process was started without pipes")
        return self._process.stdout

    async def wait(self) -> int:
        """Return its exit code once it ended: minus the number of the signal that ended it."""
        return await self._process.wait()


@asynccontextmanager
async def child(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    log: Path,
    folder: Path | None = None,
    watch: Watch | None = None,
    piped: bool = False,
    stop_seconds: float = STOP_SECONDS,
) -> AsyncGenerator[Child]:
    """Run a command for the length of the block; its stderr (and stdout, unless piped) goes to `log`.

    It gets a session of its own, so that a Ctrl-C reaches this process alone, which then ends its children in order.

    Args:
        command: the program and its arguments.
        environ: its whole environment.
        log: the file, 0600 and of bounded size.
        folder: where it runs.
        watch: ends it if this process is killed.
        piped: its stdin and stdout are for us.
        stop_seconds: what it gets between SIGTERM and SIGKILL at the end of the block.

    Raises:
        OSError: it cannot be started.
    """
    output = Output(LogFile(log))
    try:
        process = await anyio.open_process(
            ["/bin/sh", "-c", _GATE if piped else _GATE_WITHOUT_INPUT, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if piped else output.writer,
            stderr=output.writer,
            env=dict(environ),
            cwd=folder,
            start_new_session=True,
        )
    except BaseException:
        with anyio.CancelScope(shield=True):
            await output.close()
        raise
    output.handed_over()
    running = Child(process, output)
    try:
        with watch.over(process.pid) if watch is not None else contextlib.nullcontext():
            try:
                # One that was killed before it began says so in `wait`.
                with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await running.stdin.send(_GO)
                if not piped:
                    await running.stdin.aclose()
                yield running
            finally:
                with anyio.CancelScope(shield=True):
                    await _end(process, stop_seconds)
    finally:
        with anyio.CancelScope(shield=True):
            await output.close()


async def _end(process: Process, stop_seconds: float) -> None:
    """End a process and whatever it left in its group."""
    if process.stdin is not None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await process.stdin.aclose()
    if process.returncode is None:
        for number, seconds in ((signal.SIGTERM, stop_seconds), (signal.SIGKILL, _KILL_SECONDS)):
            _signal(process.pid, number)
            with anyio.move_on_after(seconds):
                await process.wait()
                break
    _signal(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        await process.stdout.aclose()


def _signal(group: int, number: int) -> None:
    # PermissionError: what is left of the group has ended and waits to be reaped (macOS).
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
