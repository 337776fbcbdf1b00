"""Words to a caller who waits: now and then, how it stands."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

PROGRESS_SECONDS: Final = 10.0
"""Between two words to a caller who waits."""


@asynccontextmanager
async def ticking(say: Callable[[str], Awaitable[None]], doing: Callable[[], str]) -> AsyncGenerator[None]:
    """While the body runs, say every `PROGRESS_SECONDS` what is being done, and for how long already."""
    started = time.monotonic()

    async def tick() -> None:
        while True:
            await anyio.sleep(PROGRESS_SECONDS)
            await say(f"{doing()} ({time.monotonic() - started:.0f} s)")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            yield
            group.cancel_scope.cancel()
    except BaseExceptionGroup as exc:
        # The group wraps what went wrong in the body, too; who catches it looks for the error itself.
        if len(exc.exceptions) == 1:
            raise exc.exceptions[0] from None
        raise
