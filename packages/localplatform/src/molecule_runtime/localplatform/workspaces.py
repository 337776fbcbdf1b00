"""Workspace rows, their lifecycle and their tokens (contract 14, 24.11)."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.wire.boot import SetSecretRequest
from molecule_runtime.core.platform.wire.memory import RememberRequest
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own, require_row
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.memories import cleaned, remember
from molecule_runtime.localplatform.registry import removed_refusal
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import queue, tokens, workspaces
from molecule_runtime.localplatform.store.memories import NewMemory
from molecule_runtime.localplatform.vault import store_secrets
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

DEFAULT_RUNTIME = "claude-code"
"""The default of June (24.11)."""

_TOKEN_MESSAGE = "Save this token now: it is not shown again."  # noqa: S105 - a sentence
_LINE_BREAK = re.compile(r"[\r\n]")
NAME_UNSAFE = re.compile(r"[\r\n{}\[\]|>*&!]")
"""What no name and no role may hold (14.2)."""

_MAX_TIER = 4
MAX_CHARS = {"name": 255, "role": 1000, "runtime": 100, "workspace_dir": 4096}
"""Characters of a name, a role, a runtime (14.2) and a folder."""

_COSMETIC = frozenset({"name", "role", "x", "y", "collapsed"})
_CHANGEABLE = _COSMETIC | {"tier", "parent_id", "runtime", "workspace_dir"}
_NULLABLE = frozenset({"parent_id", "role", "workspace_dir"})
_MAX_COORDINATE = 1e9


async def create(platform: Platform, request: Request) -> Response:
    """`POST /workspaces` (admin)."""
    platform.auth.require_admin(credentials_of(request))
    data = await web.read_object(request, error="invalid workspace fields")
    wanted = web.validate(wire.CreateWorkspaceRequest, data, error="invalid workspace fields")
    for key, value in wanted.secrets.items():
        web.validate(SetSecretRequest, {"key": key, "value": value}, error="invalid workspace fields")
    for memory in wanted.initial_memories:
        web.validate(
            RememberRequest, {"content": memory.content, "scope": memory.scope}, error="invalid workspace fields"
        )
    name = wanted.name.strip()
    texts = (wanted.runtime or "", wanted.model or "")
    unsafe = NAME_UNSAFE.search(name + (wanted.role or "")) or any(_LINE_BREAK.search(text) for text in texts)
    if not name or unsafe:
        hint = "name and role: no line breaks and none of { } [ ] | > * & !; runtime and model: no line breaks"
        raise Refusal(400, "invalid workspace fields", hint=hint)
    parent_id = wanted.parent_id or None
    if parent_id is not None:
        parent_id = web.require_workspace_id(parent_id, error="parent_id must be a workspace id")
    external = wanted.external or wanted.runtime == "external"
    url = (wanted.url or "").strip() if external else ""
    status = "provisioning" if not external else "online" if url else "awaiting_agent"
    workspace_id = str(uuid.uuid4())
    remembered = [
        NewMemory(workspace_id=workspace_id, scope=memory.scope, content=await cleaned(memory.content))
        for memory in wanted.initial_memories
    ]

    def store(connection: sqlite3.Connection) -> str | None:
        if parent_id is not None:
            parent = workspaces.get(connection, parent_id)
            if parent is None or parent.removed:
                raise Refusal(400, "parent workspace not found")
        if wanted.kind == "platform" and (parent_id is not None or workspaces.has_platform_root(connection)):
            raise Refusal(409, "the platform workspace must be a root, and there is one at most")
        now = platform.now()
        workspaces.insert(
            connection,
            workspace_id=workspace_id,
            name=name,
            role=wanted.role or None,
            model=wanted.model,
            tier=wanted.tier,
            runtime="external" if external else (wanted.runtime or DEFAULT_RUNTIME),
            status=status,
            parent_id=parent_id,
            url=url,
            delivery_mode=wanted.delivery_mode or "push",
            max_concurrent_tasks=web.clamp(wanted.max_concurrent_tasks),
            budget_limit=None if wanted.budget_limit is None else web.clamp(wanted.budget_limit),
            kind=wanted.kind,
            workspace_dir=wanted.workspace_dir,
            workspace_access=wanted.workspace_access,
            place=(wanted.canvas.x, wanted.canvas.y) if wanted.canvas else (0.0, 0.0),
            now=now,
        )
        row = require_row(connection, workspace_id)
        secrets = {**wanted.secrets, **({"MODEL": wanted.model} if wanted.model else {})}
        if secrets:
            store_secrets(connection, workspace_id, secrets, now)
        for new in remembered:
            remember(connection, row, new, now)
        if not external or url:
            return None
        return tokens.mint(connection, workspace_id, kind="api", now=now)

    token = await platform.store.write(store)
    if external:
        body: dict[str, Any] = {"id": workspace_id, "external": True, "status": status}
        if token is None:
            platform.bus.publish("WORKSPACE_ONLINE", workspace_id, {"url": url, "agent_card": None})
        else:
            body["connection"] = connection_of(request, workspace_id, token)
            platform.bus.publish("WORKSPACE_AWAITING_AGENT", workspace_id, {"name": name})
        return web.answer(body, 201)
    platform.bus.publish("WORKSPACE_PROVISIONING", workspace_id, {"name": name, "tier": wanted.tier})
    body = {
        "id": workspace_id,
        "status": status,
        "awareness_namespace": f"workspace:{workspace_id}",
        "workspace_access": wanted.workspace_access,
    }
    return web.answer(body, 201)


async def list_all(platform: Platform, request: Request) -> Response:
    """`GET /workspaces` (admin)."""
    platform.auth.require_admin(credentials_of(request))

    def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        waiting = queue.depths(connection)
        return [{**_full_body(row), "queue_depth": waiting.get(row.id, 0)} for row in workspaces.alive(connection)]

    return web.answer(await platform.store.read(read))


async def get_one(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id`: open, without the figures that concern only the operator."""
    row = await platform.store.read(workspaces.get, web.workspace_id_of(request))
    if row is None:
        raise Refusal(404, "workspace not found")
    if row.removed and request.query_params.get("include_removed") != "true":
        raise removed_refusal(row)
    return web.answer(_public_body(row))


async def patch(platform: Platform, request: Request) -> Response:
    """`PATCH /workspaces/:id`: name and role with the workspace's own token, the rest with the admin token."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)
    await platform.store.read(platform.auth.require_workspace, credentials, workspace_id)
    data = await web.read_object(request)
    # Null takes away what a workspace need not have, and is as good as nothing for what it must have.
    changes = {key: data[key] for key in _CHANGEABLE & data.keys() if data[key] is not None or key in _NULLABLE}
    if not _COSMETIC.issuperset(changes) and not platform.auth.is_admin(credentials):
        raise Refusal(
            403,
            "a workspace token may change its name, role and place only",
            code="WORKSPACE_INFRASTRUCTURE_AUTH_REQUIRED",
        )
    for key, value in changes.items():
        _check_change(key, value)

    def store(connection: sqlite3.Connection) -> None:
        row = workspaces.get(connection, workspace_id)
        if row is None or row.removed:
            raise Refusal(404, "workspace not found")
        parent_id = changes.get("parent_id")
        if parent_id is not None:
            parent = workspaces.get(connection, parent_id)
            if parent is None or parent.removed:
                raise Refusal(400, "parent workspace not found")
            if parent_id == workspace_id or parent_id in workspaces.descendants(connection, workspace_id):
                raise Refusal(400, "parent_id would make the workspace its own ancestor")
        if changes:
            workspaces.update(connection, workspace_id, changes, platform.now())

    await platform.store.write(store)
    needs_restart = bool({"runtime", "workspace_dir"} & changes.keys())
    return web.answer({"status": "updated", "needs_restart": True} if needs_restart else {"status": "updated"})


async def delete(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id[?confirm=true][&purge=true]` (admin)."""
    workspace_id = web.workspace_id_of(request)
    platform.auth.require_admin(credentials_of(request))
    confirmed = request.query_params.get("confirm") == "true"
    purge = request.query_params.get("purge") == "true"

    def store(connection: sqlite3.Connection) -> list[WorkspaceRow] | list[str]:
        row = workspaces.get(connection, workspace_id)
        if row is None or (row.removed and not purge):
            raise Refusal(404, "workspace not found")
        children = workspaces.children(connection, workspace_id)
        if children and not confirmed:
            return children
        below = workspaces.descendants(connection, workspace_id)
        now = platform.now()
        for identifier in (workspace_id, *below):
            tokens.revoke_all(connection, identifier, now)
        workspaces.remove(connection, (workspace_id, *below), now)
        if purge:
            workspaces.purge(connection, workspace_id)
        return [workspace_id, *below]

    removed: list[str] = []
    children: list[dict[str, str]] = []
    for item in await platform.store.write(store):
        if isinstance(item, str):
            removed.append(item)
        else:
            children.append({"id": item.id, "name": item.name})
    if children:
        body = {
            "status": "confirmation_required",
            "message": "the workspace has children, which are removed with it; repeat with ?confirm=true",
            "children": children,
            "children_count": len(children),
        }
        return web.answer(body, 409)
    for identifier in removed:
        platform.metadata.pop(identifier, None)
        platform.bus.publish("WORKSPACE_REMOVED", identifier, {})
    return web.answer({"status": "purged" if purge else "removed", "cascade_deleted": len(removed) - 1})


async def list_tokens(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/tokens`."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)

    def store(connection: sqlite3.Connection) -> list[tokens.TokenRow]:
        platform.auth.require_workspace(connection, credentials, workspace_id)
        require_row(connection, workspace_id)
        platform.auth.store_used(connection)
        return tokens.live(connection, workspace_id)

    rows = [
        {
            "id": row.id,
            "prefix": row.prefix,
            "created_at": timestamps.render(row.created_at),
            "last_used_at": timestamps.render(row.last_used_at),
        }
        for row in await platform.store.write(store)
    ]
    return web.answer({"tokens": rows, "count": len(rows)})


async def create_token(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/tokens`."""
    return await mint_token(platform, (await require_own(platform, request)).id)


async def mint_token(platform: Platform, workspace_id: str) -> Response:
    """Mint a token for a workspace and answer with it, this once."""

    def store(connection: sqlite3.Connection) -> str:
        require_row(connection, workspace_id)
        if tokens.count_live(connection, workspace_id) >= tokens.MAX_LIVE:
            raise Refusal(429, f"the workspace has {tokens.MAX_LIVE} live tokens; revoke one first")
        return tokens.mint(connection, workspace_id, kind="api", now=platform.now())

    token = await platform.store.write(store)
    return web.answer({"auth_token": token, "workspace_id": workspace_id, "message": _TOKEN_MESSAGE}, 201)


async def revoke_token(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/tokens/:token_id`."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)
    token_id: str = request.path_params["token_id"]

    def store(connection: sqlite3.Connection) -> None:
        platform.auth.require_workspace(connection, credentials, workspace_id)
        if not tokens.revoke(connection, workspace_id, token_id, platform.now()):
            raise Refusal(404, "token not found")

    await platform.store.write(store)
    return web.answer({"status": "revoked"})


def _check_change(key: str, value: Any) -> None:
    if key == "tier":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_TIER:
            raise Refusal(400, f"tier must be a whole number from 0 to {_MAX_TIER}")
        return
    if key in {"x", "y"}:
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > _MAX_COORDINATE:
            raise Refusal(400, f"{key} must be a number")
        return
    if key == "collapsed":
        if not isinstance(value, bool):
            raise Refusal(400, "collapsed must be true or false")
        return
    if value is None:
        return
    if not isinstance(value, str):
        raise Refusal(400, f"{key} must be a string")
    if key == "parent_id":
        web.require_workspace_id(value, error="parent_id must be a workspace id")
        return
    if key in {"name", "runtime"} and not value.strip():
        raise Refusal(400, f"{key} must not be empty")
    if len(value) > MAX_CHARS[key]:
        raise Refusal(400, f"{key} must be at most {MAX_CHARS[key]} characters")
    if (_LINE_BREAK if key == "workspace_dir" else NAME_UNSAFE).search(value):
        raise Refusal(400, f"{key} contains invalid characters")


def connection_of(request: Request, workspace_id: str, token: str) -> dict[str, str]:
    """Return what an external workspace needs to connect (14.5)."""
    # The gate has checked the Host header, so this is an address under which the caller just reached us.
    base = f"{request.url.scheme}://{request.headers['host']}"
    return {
        "workspace_id": workspace_id,
        "platform_url": base,
        "auth_token": token,
        "registry_endpoint": f"{base}/registry/register",
        "heartbeat_endpoint": f"{base}/registry/heartbeat",
        "curl_register_template": (
            f"curl -X POST {base}/registry/register -H 'Authorization: Bearer '\"$MOLECULE_WORKSPACE_TOKEN\""
            " -H 'Content-Type: application/json'"
            f' -d \'{{"id":"{workspace_id}","delivery_mode":"poll","agent_card":{{"name":"my agent"}}}}\''
        ),
        "python_snippet": (
            "import os, httpx\n"
            f'body = {{"id": "{workspace_id}", "delivery_mode": "poll", "agent_card": {{"name": "my agent"}}}}\n'
            'headers = {"Authorization": "Bearer " + os.environ["MOLECULE_WORKSPACE_TOKEN"]}\n'
            f'httpx.post("{base}/registry/register", json=body, headers=headers).raise_for_status()\n'
        ),
        "mcp_template": (f"WORKSPACE_ID={workspace_id} PLATFORM_URL={base} MOLECULE_WORKSPACE_TOKEN=... molecule-mcp"),
    }


def _public_body(row: WorkspaceRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "tier": row.tier,
        "kind": row.kind,
        "status": row.status,
        "url": row.url,
        "parent_id": row.parent_id,
        "agent_card": row.agent_card,
        "active_tasks": row.active_tasks,
        "max_concurrent_tasks": row.max_concurrent_tasks,
        "last_error_rate": row.error_rate,
        "uptime_seconds": row.uptime_seconds,
        "runtime": row.runtime,
        "delivery_mode": row.delivery_mode,
        "x": row.x,
        "y": row.y,
        "collapsed": bool(row.collapsed),
        "last_heartbeat_at": timestamps.render(row.last_heartbeat_at),
        "last_outbound_at": timestamps.render(row.last_outbound_at),
        "created_at": timestamps.render(row.created_at),
        "removed_at": timestamps.render(row.removed_at),
    }


def _full_body(row: WorkspaceRow) -> dict[str, Any]:
    return {
        **_public_body(row),
        "current_task": row.current_task,
        "last_sample_error": row.sample_error,
        "budget_limit": row.budget_limit,
        "monthly_spend": row.monthly_spend,
        "workspace_dir": row.workspace_dir,
        "workspace_access": row.workspace_access,
    }


ROUTES = (
    Route(
        method="POST", path="/workspaces", handler=create, section="14.2, 14.5, 24.11", access="admin",
        summary="Create a workspace; an external one without URL gets its token, once.", body=wire.CreateWorkspaceRequest,
        answers={201: wire.CreateWorkspaceResponse}, refusals=(409,),
        test="test_workspaces.py::test_an_external_workspace_is_created_with_a_token_shown_once",
    ),
    Route(
        method="GET", path="/workspaces", handler=list_all, section="14.1", access="admin", summary="Every workspace.",
        answers={200: list[wire.Workspace]}, test="test_workspaces.py::test_the_admin_lists_workspaces",
    ),
    Route(
        method="GET", path="/workspaces/{id}", handler=get_one, section="14.1, 24.11", access="anyone",
        summary="One workspace; 410 when it was removed.", answers={200: wire.Workspace},
        parameters=(Parameter(name="include_removed", meaning="`true`: a removed one too"),),
        test="test_workspaces.py::test_one_workspace_is_read_without_credentials_and_without_private_figures",
    ),
    Route(
        method="PATCH", path="/workspaces/{id}", handler=patch, section="14.3", access="workspace",
        summary="Change it: name, role and place with its own token, the rest with the admin token.", body=wire.PatchWorkspaceRequest,
        answers={200: wire.StatusResponse}, test="test_workspaces.py::test_a_workspace_changes_its_own_name_and_role",
    ),
    Route(
        method="DELETE", path="/workspaces/{id}", handler=delete, section="14.3", access="admin",
        summary="Remove it, with everything below it when confirmed.", answers={200: wire.StatusResponse, 409: wire.StatusResponse},
        parameters=(
            Parameter(name="confirm", meaning="`true`: children too"),
            Parameter(name="purge", meaning="`true`: delete the history too"),
        ),
        test="test_workspaces.py::test_a_parent_is_removed_only_when_confirmed",
    ),
    Route(
        method="GET", path="/workspaces/{id}/tokens", handler=list_tokens, section="14.4", access="workspace",
        summary="Its live tokens, never their values.", test="test_workspaces.py::test_tokens_are_minted_listed_and_revoked",
    ),
    Route(
        method="POST", path="/workspaces/{id}/tokens", handler=create_token, section="14.4", access="workspace",
        summary="Mint a token, shown once.", answers={201: wire.TokenResponse},
        test="test_workspaces.py::test_tokens_are_minted_listed_and_revoked",
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/tokens/{token_id}", handler=revoke_token, section="14.4", access="workspace",
        summary="Revoke a token.", answers={200: wire.StatusResponse},
        test="test_workspaces.py::test_tokens_are_minted_listed_and_revoked",
    ),
)  # fmt: skip
