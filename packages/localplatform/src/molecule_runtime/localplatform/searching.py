"""The search through what a workspace did and remembers (contract 7.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import memory as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import activity, memories
from molecule_runtime.localplatform.store.memories import MemoryRow, Query, Where

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.activity import ActivityRow

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_TEXT_CHARS = 200


async def search(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/session-search?q=&limit=`: the newest first."""
    own = await require_own(platform, request)
    text = request.query_params.get("q", "").strip()[:MAX_TEXT_CHARS]
    limit = web.limit_of(request, default=DEFAULT_LIMIT, ceiling=MAX_LIMIT)
    if not text:
        return web.answer([])

    def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        query = Query(where=(Where(owner=own.id),), text=text, limit=limit, now=platform.now())
        rows: list[ActivityRow | MemoryRow] = [*activity.containing(connection, own.id, text, limit)]
        rows += memories.search(connection, query)
        rows.sort(key=lambda row: row.created_at, reverse=True)
        return list(_page(rows[:limit]))

    return web.answer(await platform.store.read(read))


def _page(rows: Iterable[ActivityRow | MemoryRow]) -> Iterator[dict[str, Any]]:
    size = 0
    for row in rows:
        texts = (row.content,) if isinstance(row, MemoryRow) else (row.request_json, row.response_json)
        size += sum(len(text) for text in texts if text)
        if size > activity.MAX_PAGE_BYTES:
            return
        yield _memory(row) if isinstance(row, MemoryRow) else _activity(row)


def _activity(row: ActivityRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "kind": "activity",
        "id": row.id,
        "workspace_id": row.workspace_id,
        "label": row.activity_type,
        "content": row.summary or "",
        "method": row.method,
        "status": row.status,
        "created_at": timestamps.render(row.created_at),
    }
    for key, stored in (("request_body", row.request_json), ("response_body", row.response_json)):
        if stored is not None:
            body[key] = web.loads(stored)
    return body


def _memory(row: MemoryRow) -> dict[str, Any]:
    return {
        "kind": "memory",
        "id": row.id,
        "workspace_id": row.workspace_id,
        "label": row.scope,
        "content": row.content,
        "method": None,
        "status": None,
        "created_at": timestamps.render(row.created_at),
    }


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/session-search", handler=search, section="7.4", access="workspace",
        summary="Search what it did and remembers.", answers={200: list[wire.Found]},
        parameters=(Parameter(name="q", meaning="a text"), Parameter(name="limit", meaning="1 to 200; 50")),
        test="test_session_search.py::test_what_happened_and_what_is_remembered_are_found_together",
    ),
)  # fmt: skip
