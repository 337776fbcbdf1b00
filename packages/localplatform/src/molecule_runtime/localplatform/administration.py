"""What mostly admins do: org tokens, tokens of workspaces, the queue, the ledger (contract 5.6, 14.4, 24.6, 24.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.wire import workspaces as shapes
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own, require_row
from molecule_runtime.localplatform.delegation import body_of
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import delegations, queue, tokens
from molecule_runtime.localplatform.web import Refusal
from molecule_runtime.localplatform.workspaces import connection_of, mint_token

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform

_MAX_LISTED = 200
_STALE_MINUTES = 60


async def list_org_tokens(platform: Platform, request: Request) -> Response:
    """`GET /org/tokens`."""
    require_admin(platform, request)
    rows = await platform.store.read(tokens.live_of_org)
    listed = [
        {"id": row.id, "prefix": row.prefix, "name": row.name, "created_at": timestamps.render(row.created_at)}
        for row in rows
    ]
    return web.answer({"tokens": listed, "count": len(listed)})


async def create_org_token(platform: Platform, request: Request) -> Response:
    """`POST /org/tokens`: full admin over this platform."""
    require_admin(platform, request)
    wanted = web.validate(shapes.OrgTokenRequest, await web.read_object(request))

    def store(connection: sqlite3.Connection) -> tuple[str, str]:
        if len(tokens.live_of_org(connection)) >= tokens.MAX_LIVE:
            raise Refusal(429, f"there are {tokens.MAX_LIVE} live org tokens; revoke one first")
        return tokens.mint_org(connection, wanted.name, now=platform.now())

    token_id, token = await platform.store.write(store)
    platform.auth.add_org_token(token)
    body = {
        "id": token_id,
        "prefix": token[: tokens.PREFIX_CHARS],
        "name": wanted.name,
        "auth_token": token,
        "warning": "Save this token now: it is not shown again. It opens everything on this platform.",
    }
    return web.answer(body)


async def revoke_org_token(platform: Platform, request: Request) -> Response:
    """`DELETE /org/tokens/:tokenId`."""
    require_admin(platform, request)
    token_id: str = request.path_params["token_id"]
    digest = await platform.store.write(tokens.revoke_org, token_id, platform.now())
    if digest is None:
        raise Refusal(404, "token not found")
    platform.auth.remove_org_token(digest)
    return web.answer({"status": "revoked"})


async def create_workspace_token(platform: Platform, request: Request) -> Response:
    """`POST /admin/workspaces/:id/tokens`."""
    require_admin(platform, request)
    return await mint_token(platform, web.workspace_id_of(request))


async def revoke_workspace_tokens(platform: Platform, request: Request) -> Response:
    """`POST /admin/workspaces/:id/revoke-auth-tokens`."""
    require_admin(platform, request)
    workspace_id = web.workspace_id_of(request)

    def store(connection: sqlite3.Connection) -> int:
        require_row(connection, workspace_id)
        return tokens.revoke_all(connection, workspace_id, platform.now())

    return web.answer({"status": "revoked", "revoked": await platform.store.write(store)})


async def rotate_external(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/external/rotate`: a new token instead of all old ones."""
    own = await require_own(platform, request)

    def store(connection: sqlite3.Connection) -> str:
        if own.runtime != "external":
            raise Refusal(400, "not an external workspace", hint="POST /workspaces/:id/tokens makes a further token")
        tokens.revoke_all(connection, own.id, platform.now())
        return tokens.mint(connection, own.id, kind="api", now=platform.now())

    token = await platform.store.write(store)
    return web.answer({"status": "rotated", "connection": connection_of(request, own.id, token)})


async def external_connection(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/external/connection`: without the token, which is shown once."""
    own = await require_own(platform, request)
    return web.answer({"connection": connection_of(request, own.id, "")})


async def drop_stale(platform: Platform, request: Request) -> Response:
    """`POST /admin/a2a-queue/drop-stale?max_age_minutes=60[&workspace_id=]`."""
    require_admin(platform, request)
    minutes = request.query_params.get("max_age_minutes") or str(_STALE_MINUTES)
    if not minutes.isascii() or not minutes.isdigit():
        raise Refusal(400, "max_age_minutes must be a whole number of 0 or more")
    workspace_id = request.query_params.get("workspace_id") or None
    if workspace_id is not None:
        workspace_id = web.require_workspace_id(workspace_id, error="workspace_id must be a workspace id")
    now = platform.now()
    before = now - min(int(minutes[:9]), 10**7) * 60 * timestamps.SECOND
    dropped = await platform.store.write(queue.drop_stale, workspace_id=workspace_id, before=before, now=now)
    return web.answer({"dropped": dropped})


async def list_delegations(platform: Platform, request: Request) -> Response:
    """`GET /admin/delegations[?status=]`."""
    require_admin(platform, request)
    limit = web.limit_of(request, default=delegations.MAX_LISTED, ceiling=_MAX_LISTED)
    status = request.query_params.get("status") or None
    rows = await platform.store.read(delegations.newest_of_all, status, limit)
    return web.answer([body_of(row) for row in rows])


async def delegation_stats(platform: Platform, request: Request) -> Response:
    """`GET /admin/delegations/stats`: how many there are of each status."""
    require_admin(platform, request)
    counts = await platform.store.read(delegations.count_by_status)
    body: dict[str, Any] = {**counts, "total": sum(counts.values())}
    return web.answer(body)


_ORG_TEST = "test_administration.py::test_an_org_token_opens_what_the_admin_token_opens_until_it_is_revoked"
_LEDGER_TEST = "test_administration.py::test_the_admin_reads_the_ledger_of_all_delegations"

ROUTES = (
    Route(
        method="GET", path="/org/tokens", handler=list_org_tokens, section="14.4", access="admin", summary="The live org tokens.",
        test=_ORG_TEST,
    ),
    Route(
        method="POST", path="/org/tokens", handler=create_org_token, section="14.4", access="admin",
        summary="Mint an org token, shown once.", body=shapes.OrgTokenRequest, answers={200: shapes.OrgTokenResponse}, test=_ORG_TEST,
    ),
    Route(
        method="DELETE", path="/org/tokens/{token_id}", handler=revoke_org_token, section="14.4", access="admin",
        summary="Revoke an org token.", answers={200: wire.StatusResponse}, test=_ORG_TEST,
    ),
    Route(
        method="POST", path="/admin/workspaces/{id}/tokens", handler=create_workspace_token, section="24.11", access="admin",
        summary="Mint a token for a workspace.", answers={201: wire.TokenResponse},
        test="test_administration.py::test_the_admin_mints_and_revokes_tokens_of_a_workspace",
    ),
    Route(
        method="POST", path="/admin/workspaces/{id}/revoke-auth-tokens", handler=revoke_workspace_tokens, section="24.11",
        access="admin", summary="Revoke every token of a workspace.", answers={200: wire.StatusResponse},
        test="test_administration.py::test_the_admin_mints_and_revokes_tokens_of_a_workspace",
    ),
    Route(
        method="POST", path="/workspaces/{id}/external/rotate", handler=rotate_external, section="24.11", access="workspace",
        summary="A new token instead of all old ones.", answers={200: wire.StatusResponse},
        test="test_administration.py::test_an_external_workspace_rotates_its_token",
    ),
    Route(
        method="GET", path="/workspaces/{id}/external/connection", handler=external_connection, section="24.11", access="workspace",
        summary="How to connect, without the token.", test="test_administration.py::test_an_external_workspace_rotates_its_token",
    ),
    Route(
        method="POST", path="/admin/a2a-queue/drop-stale", handler=drop_stale, section="5.6", access="admin",
        summary="Drop what has waited too long.", answers={200: shapes.DroppedResponse},
        parameters=(
            Parameter(name="max_age_minutes", meaning="60", schema={"type": "integer", "minimum": 0}),
            Parameter(name="workspace_id", meaning="of this workspace only"),
        ),
        test="test_queue.py::test_messages_that_waited_too_long_are_dropped_by_the_admin",
    ),
    Route(
        method="GET", path="/admin/delegations", handler=list_delegations, section="24.6", access="admin",
        summary="Every delegation, newest first.", answers={200: list[wire.Delegation]},
        parameters=(Parameter(name="status", meaning="of this status only"), Parameter(name="limit", meaning="1 to 200; 50")),
        test=_LEDGER_TEST,
    ),
    Route(
        method="GET", path="/admin/delegations/stats", handler=delegation_stats, section="24.6", access="admin",
        summary="How many there are of each status.", test=_LEDGER_TEST,
    ),
)  # fmt: skip
