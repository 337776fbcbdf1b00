"""The watch over a team's processes: a guard process that ends them when this one is gone."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from anyio.abc import Process

logger = logging.getLogger(__name__)

_SCRIPT = Path(__file__).with_name("guard.py")
_END_SECONDS = 5.0
_PAUSE_SECONDS = 0.2
"""Before another guard is started: one that cannot run must not keep this process busy."""


class Watch:
    """Tells the guard which process groups are alive, and replaces a guard that ended."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._pipe = -1
        self._guard: Process | None = None
        self._changed = anyio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncGenerator[Watch]:
        """Keep a guard for the length of the block."""
        watch = cls()
        await watch._start()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch._keep)
                try:
                    yield watch
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await watch._end()

    @property
    def guard(self) -> int:
        """The id of the guard process."""
        return 0 if self._guard is None else self._guard.pid

    async def replaced(self, guard: int) -> int:
        """Wait until there is another guard than this one; returns its id."""
        while self.guard == guard:
            await self._changed.wait()
        return self.guard

    @contextlib.contextmanager
    def over(self, group: int) -> Generator[None]:
        """Have a process group ended with this process, for the length of the block."""
        self._groups.add(group)
        self._tell(f"+{group}\n")
        try:
            yield
        finally:
            self._groups.discard(group)
            self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        # What was written is read, even if this process is killed in the next moment. A guard that is gone is noticed in `_keep`.
        with contextlib.suppress(OSError):
            os.write(self._pipe, line.encode())

    async def _start(self) -> None:
        reader, self._pipe = os.pipe()
        try:
            self._guard = await anyio.open_process(
                [sys.executable, "-I", "-S", str(_SCRIPT)],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )
        finally:
            os.close(reader)
        for group in self._groups:
            self._tell(f"+{group}\n")
        self._changed.set()
        self._changed = anyio.Event()

    async def _keep(self) -> None:
        while self._guard is not None:
            code = await self._guard.wait()
            logger.warning("the guard of the team's processes ended with code %d; another takes over", code)
            os.close(self._pipe)
            self._pipe = -1
            await anyio.sleep(_PAUSE_SECONDS)
            await self._start()

    async def _end(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        if self._guard is not None:
            with anyio.move_on_after(_END_SECONDS):
                await self._guard.wait()
                return
            self._guard.kill()
            await self._guard.wait()
