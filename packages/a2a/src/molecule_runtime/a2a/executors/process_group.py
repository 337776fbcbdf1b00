"""A program and whatever it starts, as one group that ends as a whole: when it is told to, and when this process is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from molecule_runtime.a2a.executors.failures import SUBPROCESS_ERROR, AgentFailure

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TERM_SECONDS = 0.3
"""Between SIGTERM and SIGKILL; the host waits 0.8 s for a cancelled turn (turns.END_SECONDS)."""

_POLL_SECONDS = 0.02

_GUARD = ("/bin/sh", "-c", "trap '' TERM INT HUP; read line; kill -KILL 0")
"""Leads the group. Its input ends when this process does, however that dies, and then the group dies with it. prctl(PDEATHSIG) would
do the same for the program alone, not for what it started, and not on macOS."""


class ProcessGroup:
    """A running program. `end` must be called, whatever happens; it leaves neither an orphan nor a zombie."""

    def __init__(self, guard: Process, process: Process) -> None:
        self._guard = guard
        self.process = process

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, environ: Mapping[str, str], folder: Path | None, line_bytes: int
    ) -> ProcessGroup:
        """Start a program, without a shell, with pipes for its input, output and errors.

        Raises:
            AgentFailure: it cannot be started.
        """
        guard = await asyncio.create_subprocess_exec(
            *_GUARD, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, env={}, process_group=0
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=dict(environ),
                cwd=folder,
                limit=line_bytes,
                process_group=guard.pid,
            )
        except BaseException as exc:
            _kill(guard.pid, signal.SIGKILL)
            await guard.wait()
            if isinstance(exc, OSError):
                raise AgentFailure(SUBPROCESS_ERROR, f"{argv[0]}: {exc.strerror}") from None
            raise
        return cls(guard, process)

    async def exited(self) -> int:
        """Wait for the program itself and return its exit code.

        `Process.wait` would wait until its pipes are closed as well, which something that it left running may keep open.
        """
        while self.process.returncode is None:  # noqa: ASYNC110 - asyncio announces it with the pipes only
            await asyncio.sleep(_POLL_SECONDS)
        return self.process.returncode

    def kill(self) -> None:
        """End the whole group at once."""
        # The guard is not yet waited for, so its number is still its own, also when it is dead.
        _kill(self._guard.pid, signal.SIGKILL)

    async def end(self) -> None:
        """End whatever still runs of the group: politely, then not; then wait for it."""
        try:
            if self.process.returncode is None:
                _kill(self._guard.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TERM_SECONDS):
                        await self.exited()
        finally:
            # Also when the wait was cancelled: nothing of a turn outlives it.
            self.kill()
        try:
            await self.exited()
        finally:
            for process in (self.process, self._guard):
                # The only way to let go of a pipe that a daemon outside of the group keeps open; `wait` would wait for that.
                process._transport.close()  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]
        await self._guard.wait()


def _kill(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
