"""The trace that this process takes part in, as W3C text: what came in with a message, and what goes out with a request.

The host and the platform client need no OpenTelemetry for it. Only `traceparent` travels: random ids, which say nothing.
`tracestate` and baggage may carry what one tenant's system wrote, and stay here.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

KEY = "traceparent"
"""In HTTP headers and in the metadata of an A2A message (contract `workspace-host.md` 19.1)."""

_SHAPE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_outgoing: ContextVar[tuple[str, str]] = ContextVar("molecule_runtime_traceparent_outgoing", default=("", ""))


def traceparent(*candidates: object) -> str:
    """Return the first of what a stranger sent that is a W3C `traceparent`; `""` for none."""
    return next((value for value in candidates if isinstance(value, str) and _SHAPE.fullmatch(value)), "")


@contextmanager
def continuing(value: str) -> Generator[None]:
    """Let what is done within the block, and in tasks that it starts, belong to the trace that a message came with.

    That is of use to whoever traces, and so of none where OpenTelemetry is not loaded: it is never imported for this.
    """
    trace, context = sys.modules.get("opentelemetry.trace"), sys.modules.get("opentelemetry.context")
    if not value or trace is None or context is None:
        yield
        return
    _, trace_id, span_id, flags = value.split("-")
    sender = trace.SpanContext(
        int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=trace.TraceFlags(int(flags, 16))
    )
    token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(sender)))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def sending(value: str, *, origin: str) -> Generator[None]:
    """Let requests to one platform, by its origin, carry a `traceparent` within the block; requests to any other carry none."""
    token = _outgoing.set((origin, value))
    try:
        yield
    finally:
        _outgoing.reset(token)


def outgoing(origin: str) -> str:
    """Return the `traceparent` for a request to this origin; `""` for none."""
    allowed, value = _outgoing.get()
    return value if allowed == origin else ""
