"""What agents remember (contract 8.1, 24.10): in the older shape with scopes, and in namespaces.

A memory keeps who wrote it and from what source, and credentials are taken out before it is stored. Text of the whole organisation comes
back inside a fence: it was written by another agent, and being remembered does not make it an instruction.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import memory as wire
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import activity, memories, workspaces
from molecule_runtime.localplatform.store.memories import MemoryRow, NewMemory, Query, Where
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.memories import Scope
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

SCOPES: tuple[Scope, ...] = ("LOCAL", "TEAM", "GLOBAL")
KINDS = ("fact", "summary", "checkpoint")
MAX_OLD_LISTED = 50
MAX_LISTED = 100

_BY_NAME: Mapping[str, Scope] = {scope: scope for scope in SCOPES}
_FENCE = "[MEMORY "
_HARMLESS_FENCE = "[_MEMORY "


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where a workspace stands.

    Attributes:
        own: its id.
        team: its parent's id; of a root, its own (8.1).
        org: the id of the root above it.
    """

    own: str
    team: str
    org: str

    @property
    def names(self) -> tuple[str, str, str]:
        """The namespaces that it reads: its own, its team's, the organisation's."""
        return f"workspace:{self.own}", f"team:{self.team}", f"org:{self.org}"

    def where(self, namespace: str) -> Where | None:
        """Return what a namespace holds, or None when this workspace may not read it."""
        own, team, org = self.names
        known = {
            own: Where(scope="LOCAL", owner=self.own),
            team: Where(scope="TEAM", team=self.team),
            org: Where(scope="GLOBAL", org=self.org),
        }
        return known.get(namespace)


def reach_of(connection: sqlite3.Connection, row: WorkspaceRow) -> Reach:
    """Return where a workspace stands."""
    return Reach(own=row.id, team=row.parent_id or row.id, org=workspaces.root_of(connection, row.id))


async def cleaned(content: str) -> str:
    """Return a text without credentials, as it may be stored."""
    # In a thread: large ones take a while, and neither the loop nor the database has to wait for them.
    return await anyio.to_thread.run_sync(redact_text, content)


def remember(connection: sqlite3.Connection, row: WorkspaceRow, new: NewMemory, now: int) -> str:
    """Store a memory of a workspace, whose content was cleaned, and return its id.

    Raises:
        Refusal: 403 when it is for the whole organisation and the workspace is no root.
    """
    content = new.content
    if new.scope == "GLOBAL":
        if row.parent_id is not None:
            raise Refusal(
                403,
                "only root workspaces can write GLOBAL memories",
                hint="write it with scope TEAM, or ask your parent",
            )
        content = content.replace(_FENCE, _HARMLESS_FENCE)
    memory_id = memories.insert(connection, replace(new, content=content), now)
    if new.scope == "GLOBAL":
        audit = activity.NewActivity(
            workspace_id=row.id,
            activity_type="memory_write_global",
            source_id=row.id,
            method="memory_write_global",
            summary=f"memory {memory_id}",
            request_body={"memory_id": memory_id, "content_sha256": hashlib.sha256(content.encode()).hexdigest()},
        )
        activity.insert(connection, audit, now)
    return memory_id


async def create(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/memories`."""
    own = await require_own(platform, request)
    wanted = web.validate(wire.RememberRequest, await web.read_object(request))
    scope = _BY_NAME.get(wanted.scope)
    if scope is None:
        raise Refusal(400, "scope must be LOCAL, TEAM, or GLOBAL")
    namespace = wanted.namespace or "general"
    if len(namespace) > wire.MAX_NAMESPACE_CHARS:
        raise Refusal(400, "namespace must be <= 50 characters")
    new = NewMemory(
        workspace_id=own.id,
        scope=scope,
        content=await cleaned(wanted.content),
        namespace=namespace,
        kind=wanted.kind,
        source=wanted.source,
        pin=wanted.pin,
        expires_at=_end_of(wanted.expires_at, platform.now()),
    )
    memory_id = await platform.store.write(remember, own, new, platform.now())
    return web.answer({"id": memory_id, "scope": scope, "namespace": namespace}, 201)


async def list_old(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/memories?scope=&q=&namespace=&limit=`: the older shape."""
    own = await require_own(platform, request)
    values = request.query_params
    scope = values.get("scope", "")

    def read(connection: sqlite3.Connection) -> list[MemoryRow]:
        match scope:
            case "TEAM":
                where = Where(scope="TEAM", team=own.parent_id or own.id)
            case "GLOBAL":
                where = Where(scope="GLOBAL")  # of every organisation of the tenant (8.1)
            case "LOCAL":
                where = Where(scope="LOCAL", owner=own.id)
            case _:
                where = Where(owner=own.id)
        query = Query(
            where=(where,),
            text=values.get("q", ""),
            namespace=values.get("namespace") or None,
            limit=_old_limit(request),
            now=platform.now(),
        )
        return memories.search(connection, query)

    return web.answer([_old_body(row) for row in await platform.store.read(read)])


async def list_namespaces(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/v2/namespaces`."""
    own = await require_own(platform, request)
    reach = await platform.store.read(reach_of, own)
    labels = (own.name, "your team", "the whole organisation")
    readable = [
        {"name": name, "kind": name.partition(":")[0], "label": label}
        for name, label in zip(reach.names, labels, strict=True)
    ]
    return web.answer({"readable": readable, "writable": readable if own.parent_id is None else readable[:2]})


async def list_all(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/v2/memories?namespace=&q=&kind=&limit=`."""
    own = await require_own(platform, request)
    values = request.query_params
    kind = values.get("kind") or None
    if kind is not None and kind not in KINDS:
        raise Refusal(400, f"kind must be one of: {', '.join(KINDS)}")
    namespace = values.get("namespace") or None

    def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        reach = reach_of(connection, own)
        wheres = [reach.where(name) for name in ((namespace,) if namespace else reach.names)]
        if None in wheres:
            raise Refusal(403, "namespace is not readable", hint=f"readable are: {', '.join(reach.names)}")
        query = Query(
            where=tuple(where for where in wheres if where is not None),
            text=values.get("q", ""),
            kind=kind,
            limit=web.limit_of(request, default=MAX_OLD_LISTED, ceiling=MAX_LISTED),
            now=platform.now(),
        )
        names = dict(zip(SCOPES, reach.names, strict=True))
        return [_body(row, names[row.scope]) for row in memories.search(connection, query)]

    return web.answer({"memories": await platform.store.read(read)})


async def delete(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/v2/memories/:memoryId`: its own ones."""
    own = await require_own(platform, request)
    memory_id: str = request.path_params["memory_id"]
    if not await platform.store.write(memories.delete, own.id, memory_id):
        raise Refusal(404, "memory not found or not owned by this workspace")
    return web.answer({"status": "deleted"})


def _end_of(text: str | None, now: int) -> int | None:
    if not text:
        return None
    try:
        moment = timestamps.parse(text)
        timestamps.render(moment)  # the last hours of the year 9999 may lie behind it in UTC
    except (ValueError, OverflowError):
        moment = 0
    if moment <= now:
        raise Refusal(400, "expires_at must be an RFC 3339 time in the future, such as 2026-06-30T12:00:00Z")
    return moment


def _old_limit(request: Request) -> int:
    # 1 to 49 count, everything else is 50 (contract 8.1).
    limit = web.limit_of(request, default=MAX_OLD_LISTED, ceiling=MAX_OLD_LISTED)
    return limit if limit < MAX_OLD_LISTED else MAX_OLD_LISTED


def _old_body(row: MemoryRow) -> dict[str, Any]:
    content = row.content
    if row.scope == "GLOBAL":
        content = f"{_FENCE}id={row.id} scope=GLOBAL from={row.workspace_id}]: {content}"
    return {
        "id": row.id,
        "workspace_id": row.workspace_id,
        "content": content,
        "scope": row.scope,
        "namespace": row.namespace,
        "created_at": timestamps.render(row.created_at),
    }


def _body(row: MemoryRow, namespace: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": row.id,
        "namespace": namespace,
        "content": row.content,
        "kind": row.kind,
        "source": row.source,
        "pin": bool(row.pin),
        "created_at": timestamps.render(row.created_at),
        "source_workspace_id": row.workspace_id,
    }
    if row.expires_at is not None:
        body["expires_at"] = timestamps.render(row.expires_at)
    if row.score is not None:
        body["score"] = round(row.score, 6)
    return body


_TEST = "test_memories.py::test_a_memory_is_stored_and_found_by_its_words"
_V2_TEST = "test_memories.py::test_namespaces_are_those_of_the_workspace_its_team_and_its_organisation"

ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/memories", handler=create, section="8.1, 24.10", access="workspace",
        summary="Remember something.", body=wire.RememberRequest, answers={201: wire.RememberResponse}, test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/memories", handler=list_old, section="8.1, 24.10", access="workspace",
        summary="Recall, in the older shape.", answers={200: list[wire.MemoryRow]},
        parameters=(
            Parameter(name="scope", meaning="LOCAL, TEAM or GLOBAL; without it the workspace's own of all scopes"),
            Parameter(name="q", meaning="words that must occur, in any form"),
            Parameter(name="namespace", meaning="of this label only"),
            Parameter(name="limit", meaning="1 to 50; 50"),
        ),
        test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/v2/namespaces", handler=list_namespaces, section="24.10", access="workspace",
        summary="Where it may read and write.", answers={200: wire.MemoryNamespaces}, test=_V2_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/v2/memories", handler=list_all, section="24.10", access="workspace",
        summary="Recall, from namespaces.", answers={200: wire.MemoryList},
        parameters=(
            Parameter(name="namespace", meaning="one of the readable ones; without it all of them"),
            Parameter(name="q", meaning="words that must occur, in any form"),
            Parameter(name="kind", meaning="fact, summary or checkpoint", schema={"type": "string", "enum": [*KINDS]}),
            Parameter(name="limit", meaning="1 to 100; 50"),
        ),
        test=_V2_TEST,
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/v2/memories/{memory_id}", handler=delete, section="24.10", access="workspace",
        summary="Forget a memory of its own.", answers={200: StatusResponse},
        test="test_memories.py::test_only_a_workspaces_own_memory_is_forgotten",
    ),
)  # fmt: skip
