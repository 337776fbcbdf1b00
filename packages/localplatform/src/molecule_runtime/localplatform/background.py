"""Work that outlives the request that began it: turns of agents, delegations, queued messages."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Background:
    """The tasks of one platform. A task that fails is logged and ends alone; leaving the context cancels what still runs."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncGenerator[Background]:
        """Run tasks until the end of the context."""
        background = cls()
        try:
            yield background
        finally:
            with anyio.CancelScope(shield=True):
                await background._cancel()

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Begin a task; whoever awaits the returned one should shield it."""
        if self._closing:
            work.close()
            raise RuntimeError("the platform is stopping")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self._done)
        return task

    async def idle(self) -> None:
        """Wait until nothing runs."""
        await self._idle.wait()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("background task %s failed", task.get_name(), exc_info=error)

    async def _cancel(self) -> None:
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
