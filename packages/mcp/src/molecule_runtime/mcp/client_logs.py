"""What this process logs, as its clients may hear it: by level, without credentials, and bounded.

Sessions that begin with a handshake choose a level once, for all that the process logs (`telling.py`). With 2026-07-28 a request says
for itself from which level on it wants to hear what is logged while it is served (`io.modelcontextprotocol/logLevel` in its `_meta`),
and one that says nothing is told nothing. It hears it on its own stream and before its answer.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, get_args

import anyio
import mcp_types as types
from mcp_types import LOG_LEVEL_META_KEY
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from molecule_runtime.core.redaction import redact_text
from molecule_runtime.tools.result import bounded

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

MAX_WAITING: Final = 200
"""Entries that wait for one client; the oldest give way."""

MAX_TEXT_BYTES: Final = 4096

LAST_SECONDS: Final = 5.0
"""For a client to take what a request logged, once its answer is there."""

LEVELS: Final[tuple[types.LoggingLevel, ...]] = get_args(types.LoggingLevel)
"""The least severe first."""

Entry = dict[str, Any]
"""The params of one `notifications/message`."""


def reaches(entry: Entry, level: types.LoggingLevel) -> bool:
    """Tell whether an entry is at least as severe as a level."""
    return LEVELS.index(entry["level"]) >= LEVELS.index(level)


class RequestLog:
    """What is logged while one request is served; of other threads too, where they work for it."""

    def __init__(self, ctx: ServerRequestContext[Any, Any], level: types.LoggingLevel) -> None:
        self._ctx = ctx
        self._level: types.LoggingLevel = level
        self._waiting: deque[Entry] = deque(maxlen=MAX_WAITING)
        self._news = anyio.Event()
        self._over = False

    def take(self, entry: Entry) -> bool:
        """Keep an entry for the client, in any thread; True where it is one to tell."""
        if self._over or not reaches(entry, self._level):
            return False
        self._waiting.append(entry)
        return True

    def wake(self) -> None:
        """Have told what waits."""
        self._news.set()

    def end(self) -> None:
        """Take nothing more: work that goes on in the background belongs to no request."""
        self._over = True
        self._news.set()

    async def tell(self) -> None:
        """Send what comes until the end, or until nobody reads it."""
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while not self._over or self._waiting:
                await self._news.wait()
                self._news = anyio.Event()
                while self._waiting:
                    await self._send(self._waiting.popleft())

    async def _send(self, entry: Entry) -> None:
        params = types.LoggingMessageNotificationParams.model_validate(entry)
        # The id makes it go over the request's own stream, the only one on which this era allows it.
        await self._ctx.session.send_notification(
            types.LoggingMessageNotification(params=params), related_request_id=self._ctx.request_id
        )


_served: ContextVar[RequestLog | None] = ContextVar("molecule_mcp_request_log", default=None)
"""The log of the request for which this code works; None where its client asked for none."""


async def attend(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware of the SDK's server: tells a request what is logged while it is served, where it asks for that."""
    level: Any = ctx.meta.get(LOG_LEVEL_META_KEY) if ctx.meta else None
    if ctx.request_id is None or level not in LEVELS or ctx.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return await call_next(ctx)
    log = RequestLog(ctx, level)
    result: HandlerResult = None
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(log.tell)
        token = _served.set(log)
        try:
            result = await call_next(ctx)
        except Exception as exc:
            failure = exc
        finally:
            _served.reset(token)
            log.end()
        group.cancel_scope.deadline = anyio.current_time() + LAST_SECONDS
    if failure is not None:
        raise failure
    return result


class Forward(logging.Handler):
    """Passes on what this process logs.

    Args:
        loop: of the clients.
        take: gets each entry, in the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[Entry], object]) -> None:
        super().__init__()
        self._loop = loop
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record; what cannot be is said as every handler of logging says it, and ends nothing."""
        try:
            text = bounded(redact_text(record.getMessage()), MAX_TEXT_BYTES)
            entry = {"level": _level_of(record.levelno), "logger": record.name, "data": text}
            log = _served.get()
            if log is not None and log.take(entry):
                self._loop.call_soon_threadsafe(log.wake)
            self._loop.call_soon_threadsafe(self._take, entry)
        except Exception:
            self.handleError(record)


def _level_of(level: int) -> types.LoggingLevel:
    if level >= logging.CRITICAL:
        return "critical"
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warning"
    return "info" if level >= logging.INFO else "debug"
