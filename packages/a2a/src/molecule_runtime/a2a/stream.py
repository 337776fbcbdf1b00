"""Answers that come piece by piece: server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse

from molecule_runtime.a2a.answering import to_json
from molecule_runtime.a2a.wire_errors import known

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from a2a.utils.errors import A2AError
    from starlette.responses import Response

PING_SECONDS = 15
"""Between the comments that keep proxies from closing a stream in which the agent says nothing."""


async def stream_response(
    events: AsyncGenerator[Any, None],
    write: Callable[[Any], object],
    write_error: Callable[[A2AError], object],
    *,
    error_event: str | None = "error",
) -> Response:
    """Return a stream of events, each written as JSON; an error that comes later is the last event, named `error_event`.

    Raises:
        Exception: what `events` raised before the first of them; the answer is no stream then.
    """
    try:
        first = await anext(events)
    except StopAsyncIteration:
        first = None

    async def written() -> AsyncGenerator[ServerSentEvent, None]:
        try:
            if first is not None:
                yield ServerSentEvent(to_json(write(first)).decode())
            async for event in events:
                yield ServerSentEvent(to_json(write(event)).decode())
        except Exception as exc:  # it has begun: an error is its last event
            yield ServerSentEvent(to_json(write_error(known(exc))).decode(), event=error_event)
        finally:
            await events.aclose()

    return EventSourceResponse(written(), ping=PING_SECONDS)
