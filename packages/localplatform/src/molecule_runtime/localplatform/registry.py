"""The registry (contract 4, 24.1, 24.2): who is there, how to reach it, and whether it is alive."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform import wire
from molecule_runtime.localplatform import timestamps, urls, web
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.proxy import claim_waiting
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import (
    activity,
    delegations,
    events,
    key_values,
    memories,
    queue,
    tokens,
    uploads,
    workspaces,
)
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.auth import Credentials
    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.queue import QueueRow
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

logger = logging.getLogger(__name__)

DEGRADED_FROM = 0.5
"""Error rate from which a workspace is degraded (contract 2.5)."""

RECOVERED_BELOW = 0.1
"""Error rate below which it is online again."""

REGISTER_FAILURE = 300 * timestamps.SECOND
"""How long a refused registration degrades a workspace (contract 24.1)."""

MCP_GRACE = 120 * timestamps.SECOND
"""How long a platform workspace may take to load its tools (contract 24.2; the length is ours)."""

REQUIRED_TOOLS = frozenset(f"mcp__molecule-platform__{name}_workspace" for name in ("create", "provision"))
"""One of these a platform workspace must have loaded (contract 24.2)."""

MAX_SPEND = 10**12
"""Cents."""

MAX_REGISTRY_BODY = 256 * 1024
"""Bytes of a register, heartbeat or card body: cards are repeated in every list of peers."""

_REVIVED = frozenset({"provisioning", "awaiting_agent", "offline", "failed"})
_KEPT_TEXT = 4096


@dataclass(frozen=True, slots=True)
class _Beat:
    """What a heartbeat changed."""

    before: WorkspaceRow
    after: WorkspaceRow
    proven: bool
    claimed: list[QueueRow]


async def register(platform: Platform, request: Request) -> Response:
    """`POST /registry/register`."""
    credentials = credentials_of(request)
    wanted = _read_register(await web.read_object(request, limit=MAX_REGISTRY_BODY))
    row = await platform.store.read(_admit_register, platform, credentials, wanted)
    try:
        url, mode = await _admit_url(platform, wanted, row)
    except Refusal:
        if row is not None and credentials.digest is not None:
            await platform.store.write(workspaces.set_register_failed, wanted.id, platform.now())
        raise
    stored, token = await platform.store.write(_store_register, platform, credentials, wanted, url, mode)
    payload = {"url": stored.url, "agent_card": stored.agent_card, "delivery_mode": stored.delivery_mode}
    platform.bus.publish("WORKSPACE_ONLINE", stored.id, payload)
    body: dict[str, Any] = {
        "status": "registered",
        "delivery_mode": stored.delivery_mode,
        "platform_inbound_secret": stored.inbound_secret,
    }
    if token is not None:
        body["auth_token"] = token
    return web.answer(body)


async def _admit_url(platform: Platform, wanted: wire.RegisterRequest, row: WorkspaceRow | None) -> tuple[str, str]:
    """Return the URL and the delivery mode to store.

    Raises:
        Refusal: 400 when the URL is missing or may not be called, or a platform workspace lacks its management MCP.
    """
    if wanted.kind == "platform" and wanted.mcp_server_present is not True:
        raise Refusal(400, "platform agent identity is incomplete", hint="mcp_server_present must be true")
    mode = wanted.delivery_mode or (row.delivery_mode if row else "push")
    url = wanted.url.strip()
    card_url = wanted.agent_card.get("url")
    card_url = card_url.strip() if isinstance(card_url, str) else ""
    if mode == "push":
        if card_url and (problem := await urls.problem_of(card_url, platform.settings.url_rule)):
            raise Refusal(
                400, "workspace agent_card URL not allowed", reason=problem, hint=f"agent_card.url: {problem}"
            )
        url = url or card_url
        if not url:
            hint = "send the url that the agent listens on, or delivery_mode: poll if it listens nowhere"
            raise Refusal(400, "url is required for push-mode workspaces", code="url_required_for_push", hint=hint)
        if url != card_url and (problem := await urls.problem_of(url, platform.settings.url_rule)):
            raise Refusal(400, "invalid request body", reason=problem, hint=f"url: {problem}")
    else:
        # Nothing calls a workspace that polls; what it names instead (`remote://no-inbound`) is of no use to peers either.
        url = ""
    return url, mode


async def heartbeat(platform: Platform, request: Request) -> Response:
    """`POST /registry/heartbeat`."""
    credentials = credentials_of(request)
    beat = web.validate(wire.HeartbeatRequest, await web.read_object(request, limit=MAX_REGISTRY_BODY))
    workspace_id = web.require_workspace_id(beat.workspace_id)
    changed = await platform.store.write(_store_beat, platform, credentials, workspace_id, beat)
    if changed is None:
        return web.answer({"status": "ok"})  # an unknown id: contract 4.2
    if beat.runtime_metadata is None:
        platform.metadata.pop(workspace_id, None)
    else:
        platform.metadata[workspace_id] = beat.runtime_metadata
    _publish_beat(platform, changed)
    for queued in changed.claimed:
        platform.start_drain(changed.after, queued)
    body = {"status": "ok"}
    if changed.proven:
        body["platform_inbound_secret"] = changed.after.inbound_secret
    return web.answer(body)


async def update_card(platform: Platform, request: Request) -> Response:
    """`POST /registry/update-card`."""
    credentials = credentials_of(request)
    wanted = web.validate(wire.UpdateCardRequest, await web.read_object(request, limit=MAX_REGISTRY_BODY))
    workspace_id = web.require_workspace_id(wanted.workspace_id)

    def store(connection: sqlite3.Connection) -> dict[str, Any]:
        platform.auth.require_registered(connection, credentials, workspace_id)
        row = workspaces.get(connection, workspace_id)
        if row is None:
            raise Refusal(404, "workspace not found")
        _refuse_removed(row)
        card = _reconciled(wanted.agent_card, row)
        workspaces.set_card(connection, workspace_id, web.dump(card).decode(), platform.now())
        return card

    card = await platform.store.write(store)
    platform.bus.publish("AGENT_CARD_UPDATED", workspace_id, {"agent_card": card})
    return web.answer({"status": "updated"})


async def discover(platform: Platform, request: Request) -> Response:
    """`GET /registry/discover/:id`."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)
    claimed = request.headers.get("x-workspace-id", "").strip()
    if not claimed:
        raise Refusal(400, "X-Workspace-ID header is required")
    caller_id = web.require_workspace_id(claimed)

    def read(connection: sqlite3.Connection) -> WorkspaceRow:
        platform.auth.require_registered(connection, credentials, caller_id)
        allowed = platform.auth.is_admin(credentials) or workspaces.may_communicate(connection, caller_id, workspace_id)
        row = workspaces.get(connection, workspace_id)
        if row is not None and not allowed:
            raise Refusal(403, "not authorized to discover this workspace")
        if row is None or row.removed:
            raise Refusal(404, "workspace not found")
        return row

    row = await platform.store.read(read)
    # A polling workspace has no URL and is there all the same: the proxy leaves messages in its inbox.
    if not row.url and row.delivery_mode != "poll":
        raise Refusal(503, "workspace not available", status=row.status)
    # Not every URL was checked when it was stored: one that came with the creation was not (14.5).
    if row.url and (problem := await urls.problem_of(row.url, platform.settings.url_rule)):
        hint = "the agent registers again, with a URL that may be called"
        raise Refusal(503, "workspace URL failed safety check", reason=problem, hint=hint)
    return web.answer({"id": row.id, "url": row.url, "name": row.name})


async def list_peers(platform: Platform, request: Request) -> Response:
    """`GET /registry/:id/peers[?q=]`."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)
    text = request.query_params.get("q", "").strip().casefold()

    def read(connection: sqlite3.Connection) -> list[WorkspaceRow]:
        platform.auth.require_registered(connection, credentials, workspace_id)
        row = workspaces.get(connection, workspace_id)
        if row is None:
            raise Refusal(404, "workspace not found")
        _refuse_removed(row)
        return workspaces.peers(connection, row)

    rows = await platform.store.read(read)
    return web.answer(
        [_peer(row) for row in rows if text in row.name.casefold() or text in (row.role or "").casefold()]
    )


async def check_access(platform: Platform, request: Request) -> Response:
    """`POST /registry/check-access`."""
    error = "caller_id and target_id are required"
    wanted = web.validate(wire.CheckAccessRequest, await web.read_object(request, error=error), error=error)
    allowed = await platform.store.read(workspaces.may_communicate, wanted.caller_id, wanted.target_id)
    return web.answer({"allowed": allowed})


async def sweep(platform: Platform) -> list[str]:
    """Take silent workspaces offline, and write down what need not be written at once; returns who went offline."""
    now = platform.now()
    settings = platform.settings
    older_than = now - timestamps.from_seconds(settings.stale_after)
    kept_from = now - timestamps.from_seconds(settings.activity_retention)

    def store(connection: sqlite3.Connection) -> list[str]:
        platform.auth.store_used(connection)
        delegations.mark_stuck(connection, now)
        activity.prune(connection, before=kept_from, ceiling=now - timestamps.from_seconds(settings.activity_ceiling))
        delegations.prune(connection, kept_from)
        queue.prune(connection, kept_from)
        events.prune(connection)
        uploads.expire(connection, now)
        memories.expire(connection, now)
        key_values.expire(connection, now)
        return workspaces.sweep_stale(connection, older_than=older_than, now=now)

    gone = await platform.store.write(store)
    for workspace_id in gone:
        platform.metadata.pop(workspace_id, None)
        platform.bus.publish("WORKSPACE_OFFLINE", workspace_id, {"reason": "no heartbeat"})
    return gone


def _read_register(data: dict[str, Any]) -> wire.RegisterRequest:
    # Absent, null and empty all mean "keep what the row says" (24.1).
    data = {key: value for key, value in data.items() if value is not None and not (key in _TRI_STATE and value == "")}
    # Tuples, not sets: what came may be a list or an object.
    if data.get("delivery_mode", "push") not in ("push", "poll"):
        raise Refusal(400, "delivery_mode must be 'push' or 'poll'")
    if data.get("kind", "workspace") not in ("workspace", "platform"):
        raise Refusal(400, "kind must be 'workspace' or 'platform'")
    wanted = web.validate(wire.RegisterRequest, data)
    web.require_workspace_id(wanted.id)
    return wanted


_TRI_STATE = frozenset({"delivery_mode", "kind"})


def _admit_register(
    connection: sqlite3.Connection, platform: Platform, credentials: Credentials, wanted: wire.RegisterRequest
) -> WorkspaceRow | None:
    row = workspaces.get(connection, wanted.id)
    if row is not None:
        _refuse_removed(row)
    platform.auth.require_registered(connection, credentials, wanted.id)
    if wanted.kind == "platform" and (row is None or row.kind != "platform"):
        raise Refusal(403, "kind 'platform' cannot be claimed by registering")
    if wanted.kind == "platform" and row is not None and row.parent_id is not None:
        raise Refusal(409, "the platform workspace must be the root of its organisation")
    return row


def _store_register(
    connection: sqlite3.Connection,
    platform: Platform,
    credentials: Credentials,
    wanted: wire.RegisterRequest,
    url: str,
    mode: str,
) -> tuple[WorkspaceRow, str | None]:
    # Checked again: of two first registrations at the same moment only one may get the token.
    row = _admit_register(connection, platform, credentials, wanted)
    now = platform.now()
    if row is None:
        workspaces.insert(
            connection, workspace_id=wanted.id, name=wanted.id, now=now, status="online", runtime="external", tier=1
        )
        row = _row(connection, wanted.id)
    card = web.dump(_reconciled(wanted.agent_card, row)).decode()
    workspaces.set_registered(connection, wanted.id, url=url, delivery_mode=mode, agent_card=card, now=now)
    token = None
    if tokens.count_live(connection, wanted.id) == 0:
        token = tokens.mint(connection, wanted.id, kind="instance", now=now)
    return _row(connection, wanted.id), token


def _store_beat(
    connection: sqlite3.Connection,
    platform: Platform,
    credentials: Credentials,
    workspace_id: str,
    beat: wire.HeartbeatRequest,
) -> _Beat | None:
    before = workspaces.get(connection, workspace_id)
    if before is not None:
        _refuse_removed(before)
    proven = platform.auth.require_registered(connection, credentials, workspace_id)
    if before is None:
        return None
    now = platform.now()
    spend = beat.monthly_spend if beat.monthly_spend is not None and beat.monthly_spend > 0 else None
    card = None
    if beat.agent_card is not None and before.agent_card_json is None:
        card = web.dump(_reconciled(beat.agent_card, before)).decode()
    unloaded_since = _unloaded_since(before, beat, now)
    register_failed_at = before.register_failed_at if beat.agent_card is None else None
    workspaces.set_beat(
        connection,
        workspace_id,
        status=_status_after(before, beat, unloaded_since, register_failed_at, now),
        error_rate=beat.error_rate,
        sample_error=beat.sample_error[:_KEPT_TEXT],
        active_tasks=web.clamp(beat.active_tasks),
        uptime_seconds=web.clamp(beat.uptime_seconds),
        current_task=beat.current_task[:_KEPT_TEXT],
        monthly_spend=None if spend is None else web.clamp(spend, MAX_SPEND),
        agent_card=card,
        mcp_server_present=beat.mcp_server_present,
        mcp_unloaded_since=unloaded_since,
        register_failed_at=register_failed_at,
        now=now,
    )
    after = _row(connection, workspace_id)
    return _Beat(before, after, proven, claim_waiting(connection, after, now))


def _status_after(
    before: WorkspaceRow,
    beat: wire.HeartbeatRequest,
    unloaded_since: int | None,
    register_failed_at: int | None,
    now: int,
) -> str:
    """Apply the transitions of contract 2.5 and 24.2; paused and hibernated rows stay what they are."""
    status = "online" if before.status in _REVIVED else before.status
    if status not in {"online", "degraded"}:
        return status
    if before.kind == "platform":
        if beat.mcp_server_present is not True:
            return "failed"
        if unloaded_since is not None and now - unloaded_since > MCP_GRACE:
            return "degraded"
    if register_failed_at is not None and now - register_failed_at < REGISTER_FAILURE:
        return "degraded"
    own_judgement = beat.runtime_metadata is not None and beat.runtime_metadata.capabilities.get("status_mgmt") is True
    if status == "online":
        failing = beat.error_rate >= DEGRADED_FROM and not own_judgement
        return "degraded" if failing or beat.runtime_state == "wedged" else "online"
    if beat.error_rate < RECOVERED_BELOW and beat.runtime_state == "":
        return "online"
    return status


def _unloaded_since(before: WorkspaceRow, beat: wire.HeartbeatRequest, now: int) -> int | None:
    """Return since when a platform workspace has not said that its management tool is loaded, or None when it has."""
    if before.kind != "platform" or not REQUIRED_TOOLS.isdisjoint(beat.loaded_mcp_tools or ()):
        return None
    return before.mcp_unloaded_since or now


def _publish_beat(platform: Platform, beat: _Beat) -> None:
    before, after = beat.before, beat.after
    if after.status != before.status and after.status == "online":
        platform.bus.publish("WORKSPACE_ONLINE", after.id, {"recovered_from": before.status})
    elif after.status != before.status and after.status == "degraded":
        payload = {"error_rate": after.error_rate, "sample_error": after.sample_error}
        platform.bus.publish("WORKSPACE_DEGRADED", after.id, payload)
    if after.current_task != before.current_task:
        payload = {"current_task": after.current_task, "active_tasks": after.active_tasks}
        platform.bus.publish("TASK_UPDATED", after.id, payload)
    payload = {"active_tasks": after.active_tasks, "uptime_seconds": after.uptime_seconds}
    platform.bus.publish("WORKSPACE_HEARTBEAT", after.id, payload)


def _row(connection: sqlite3.Connection, workspace_id: str) -> WorkspaceRow:
    row = workspaces.get(connection, workspace_id)
    if row is None:
        raise RuntimeError(f"workspace {workspace_id} vanished within its own transaction")
    return row


def _refuse_removed(row: WorkspaceRow) -> None:
    if row.removed:
        raise removed_refusal(row)


def removed_refusal(row: WorkspaceRow) -> Refusal:
    """Return the 410 of a removed workspace (24.11)."""
    return Refusal(
        410,
        "workspace removed",
        id=row.id,
        removed_at=timestamps.render(row.removed_at),
        hint="the workspace was deleted; create a new one and use its id and token",
    )


def _reconciled(card: dict[str, Any], row: WorkspaceRow) -> dict[str, Any]:
    """Put the platform's name and role into a card (24.1); a row that nobody named leaves the card's own name."""
    card = dict(card)
    if row.name != row.id or not card.get("name"):
        card["name"] = row.name
    if row.role:
        card["role"] = row.role
    return card


def _peer(row: WorkspaceRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "role": row.role,
        "tier": row.tier,
        "status": row.status,
        "agent_card": row.agent_card,
        "url": row.url,
        "parent_id": row.parent_id,
        "active_tasks": row.active_tasks,
    }


ROUTES = (
    Route(
        method="POST", path="/registry/register", handler=register, section="4.1, 24.1", access="registered",
        summary="Go online; the first answer carries the token.", body=wire.RegisterRequest,
        answers={200: wire.RegisterResponse}, refusals=(409,),
        test="test_registry.py::test_the_first_registration_carries_the_token_and_later_ones_do_not",
    ),
    Route(
        method="POST", path="/registry/heartbeat", handler=heartbeat, section="4.2, 24.2", access="registered",
        summary="Stay online.", body=wire.HeartbeatRequest, answers={200: wire.HeartbeatResponse},
        test="test_registry.py::test_a_heartbeat_is_taken_with_the_token_and_refused_without",
    ),
    Route(
        method="POST", path="/registry/update-card", handler=update_card, section="4.3", access="registered",
        summary="Replace the agent card.", body=wire.UpdateCardRequest, answers={200: wire.StatusResponse},
        test="test_registry.py::test_a_card_is_replaced",
    ),
    Route(
        method="POST", path="/registry/check-access", handler=check_access, section="4.6", access="anyone",
        summary="May one workspace talk to another?", body=wire.CheckAccessRequest, answers={200: wire.CheckAccessResponse},
        test="test_registry.py::test_access_follows_the_hierarchy",
    ),
    Route(
        method="GET", path="/registry/discover/{id}", handler=discover, section="4.4", access="registered",
        summary="Name and URL of a workspace that the caller may talk to.", answers={200: wire.Discovered},
        parameters=(Parameter(name="X-Workspace-ID", place="header", meaning="the caller", required=True),),
        test="test_registry.py::test_discover_answers_those_who_may_talk",
    ),
    Route(
        method="GET", path="/registry/{id}/peers", handler=list_peers, section="4.5", access="registered",
        summary="Parent, siblings and children.", answers={200: list[wire.Peer]},
        parameters=(Parameter(name="q", meaning="part of a name or role"),),
        test="test_registry.py::test_peers_are_the_parent_the_siblings_and_the_children",
    ),
)  # fmt: skip
