"""`GET /transcript`: a page of what the agent did, as its adapter tells it (contract `runtime.md` 11.1, `platform-api.md` 18)."""

from __future__ import annotations

import inspect
import json
import logging
import re
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
from starlette.responses import Response

from molecule_runtime.a2a.refusals import Refusal
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from starlette.requests import Request

    from molecule_runtime.core.adapter import BaseAdapter

logger = logging.getLogger(__name__)

TRANSCRIPT_SECONDS = 9.0
"""For all of it; the platform waits 10 (contract `platform-api.md` 18)."""

MAX_TRANSCRIPT_BYTES = 1024 * 1024
"""The platform cuts there (contract `platform-api.md` 21), and what it cuts is no JSON any more."""

DEFAULT_LINES, MAX_LINES = 100, 1000

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_TOO_LONG = "[this line is larger than a whole page may be, and is left out]"
_MAX_DETAIL = 300


async def transcript(request: Request, adapter: BaseAdapter | None) -> Response:
    """Answer with the page that `since` and `limit` ask for; `limit` counts from 1 to 1000.

    Raises:
        Refusal: 400 for what is no integer, 503 when the adapter fails.
    """
    since, limit = _integer(request, "since", 0), _integer(request, "limit", DEFAULT_LINES)
    if adapter is None:
        raise Refusal(503, "transcript unavailable", detail="the adapter is not loaded")
    try:
        with anyio.fail_after(TRANSCRIPT_SECONDS):
            content = await _page(adapter, max(0, since), min(max(1, limit), MAX_LINES))
    except Exception as exc:  # an adapter may raise anything
        logger.warning("the adapter's transcript failed", exc_info=True)
        detail = redact_text(f"{type(exc).__name__}: {exc}")[:_MAX_DETAIL]
        raise Refusal(503, "transcript unavailable", detail=detail) from None
    return Response(content, media_type="application/json", headers={"Cache-Control": "no-store"})


async def _page(adapter: BaseAdapter, since: int, limit: int) -> bytes:
    """Return a page that fits; a shorter one is asked for again, since only the adapter knows where it then goes on."""
    while True:
        page = await _ask(adapter, since, limit)
        content = await anyio.to_thread.run_sync(_json, page)
        if len(content) <= MAX_TRANSCRIPT_BYTES:
            return content
        if limit == 1:
            break
        limit = max(1, limit // max(2, len(content) // MAX_TRANSCRIPT_BYTES))
    lines = page.get("lines")
    count = len(cast("list[object]", lines)) if isinstance(lines, list) else 0
    content = _json({**page, "lines": [_TOO_LONG] * min(count, 1)})
    if len(content) > MAX_TRANSCRIPT_BYTES:
        raise ValueError(f"one line of it is larger than {MAX_TRANSCRIPT_BYTES} bytes")
    return content


async def _ask(adapter: BaseAdapter, since: int, limit: int) -> dict[str, Any]:
    lines: Any = adapter.transcript_lines
    if inspect.iscoroutinefunction(lines):
        answer: object = await lines(since=since, limit=limit)
    else:
        # Some adapters override it without async, and read files in it.
        answer = await anyio.to_thread.run_sync(lambda: lines(since=since, limit=limit), abandon_on_cancel=True)
        if inspect.isawaitable(answer):
            answer = await answer
    if not isinstance(answer, dict):
        raise TypeError(f"transcript_lines() returned {type(answer).__name__}, not a dict")
    return cast("dict[str, Any]", answer)


def _json(page: dict[str, Any]) -> bytes:
    return json.dumps(page, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _integer(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "").strip()
    if not text:
        return default
    if not _INTEGER.fullmatch(text):
        raise Refusal(400, "since and limit must be integers", hint=f"{name} is {text[:40]!r}")
    return int(text)
