"""Runs code of others that may never return: in a thread that cannot hold up the end of the process, unlike one of a pool."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


async def in_daemon_thread(work: Callable[[], _T], *, name: str) -> _T:
    """Return what `work` returns, or raise what it raises. Whoever waits may give up: the thread is left behind then."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def report(result: list[_T], error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result[0])

    def run() -> None:
        result: list[_T] = []
        error: BaseException | None = None
        try:
            result.append(work())
        except BaseException as exc:
            error = exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(report, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await future
