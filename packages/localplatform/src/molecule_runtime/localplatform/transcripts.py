"""The transcript of a workspace, read from its agent (contract 18.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx
from starlette.responses import Response

from molecule_runtime.localplatform import urls
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

    from molecule_runtime.localplatform.platform import Platform

MAX_BYTES = 1024 * 1024
SECONDS = 10.0
"""Both of contract 18."""

_FORWARDED = ("since", "limit")


async def read(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/transcript?since=&limit=`: what the agent answers to the caller's own bearer."""
    own = await require_own(platform, request)
    card = own.agent_card or {}
    stated = card.get("url")
    if not isinstance(stated, str):
        raise Refusal(
            404, "the agent card has no url", hint="register a card whose `url` is where the agent is reached"
        )
    if not stated.strip():
        raise Refusal(503, "workspace has no URL", status=own.status)
    if problem := await urls.problem_of(stated.strip(), platform.settings.url_rule):
        raise Refusal(400, "workspace URL not allowed", reason=problem)
    parts = urlsplit(stated.strip())
    target = urlunsplit((parts.scheme, parts.netloc, "/transcript", "", ""))
    query = {name: request.query_params[name] for name in _FORWARDED if name in request.query_params}
    headers = {"Authorization": request.headers.get("authorization", ""), "Accept": "*/*"}
    try:
        with anyio.fail_after(SECONDS):
            async with platform.agents.stream("GET", target, params=query, headers=headers) as answer:
                body = await _start_of(answer)
    except (httpx.HTTPError, TimeoutError) as exc:
        raise Refusal(502, "workspace unreachable", reason=type(exc).__name__) from None
    kind = answer.headers.get("content-type", "application/octet-stream")
    return Response(body, answer.status_code, headers={"Content-Type": kind})


async def _start_of(answer: httpx.Response) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.aiter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size >= MAX_BYTES:
            break
    return b"".join(chunks)[:MAX_BYTES]


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/transcript", handler=read, section="18.1", access="workspace",
        summary="What the agent's session holds, as it answers itself.", refusals=(502,), passes_through=True,
        parameters=(Parameter(name="since", meaning="a line number"), Parameter(name="limit", meaning="lines")),
        test="test_transcript.py::test_a_transcript_is_read_from_the_agent_with_the_callers_bearer",
    ),
)  # fmt: skip
