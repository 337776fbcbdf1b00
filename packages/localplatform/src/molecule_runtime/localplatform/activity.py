"""Activity: the list that is also the inbox of polling agents, reports of agents, and their messages to the person (contract 7, 24.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core.platform import wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own, require_row
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.proxy import logged_payload
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import activity, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.activity import ActivityRow

REPORTABLE = ("a2a_send", "a2a_receive", "task_update", "agent_log", "skill_promotion", "memory_write", "error")
"""Types that an agent may post (contract 7.2)."""

DEFAULT_LIMIT = 100
MAX_LIMIT = 500
MAX_SINCE_SECONDS = 30 * 24 * 3600


async def list_rows(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/activity`."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)
    query, since_id = _read_query(request, platform.now())
    with_peers = "peer_info" in request.query_params.get("include", "").split(",")
    origin = f"{request.url.scheme}://{request.headers.get('host', '')}"

    def read(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        platform.auth.require_workspace(connection, credentials, workspace_id)
        require_row(connection, workspace_id)
        after_seq = None
        if since_id is not None:
            after_seq = activity.seq_of(connection, workspace_id, since_id)
            if after_seq is None:
                raise Refusal(410, "since_id is unknown or was pruned; drop the cursor and start again without it")
        rows = activity.select(
            connection,
            workspace_id,
            activity.Query(
                limit=query.limit,
                activity_type=query.activity_type,
                from_human=query.from_human,
                after_seq=after_seq,
                not_before=query.not_before,
                before=query.before,
                peer_id=query.peer_id,
            ),
        )
        bodies = [_body(row) for row in rows]
        if with_peers:
            _add_peers(connection, workspace_id, bodies, origin)
        return bodies

    return web.answer(await platform.store.read(read))


async def list_everywhere(platform: Platform, request: Request) -> Response:
    """`GET /admin/activity`: the rows of all workspaces or of one, ascending, for whoever watches the team."""
    require_admin(platform, request)
    values = request.query_params
    workspace_id = values.get("workspace_id") or None
    if workspace_id is not None:
        workspace_id = web.require_workspace_id(workspace_id, error="workspace_id must be a workspace id")
    after = values.get("since_seq") or None
    if after is not None and (not after.isascii() or not after.isdigit()):
        raise Refusal(400, "since_seq must be a whole number of 0 or more")
    rows = await platform.store.read(
        activity.select_everywhere,
        workspace_id=workspace_id,
        after_seq=None if after is None else web.clamp(int(after[:17])),
        limit=web.limit_of(request, default=DEFAULT_LIMIT, ceiling=MAX_LIMIT),
    )
    return web.answer([_body(row) for row in rows])


async def report(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/activity`."""
    workspace_id = web.workspace_id_of(request)
    await require_own(platform, request)
    data = await web.read_object(request)
    posted = web.validate(wire.ActivityRequest, data)
    if posted.activity_type not in REPORTABLE:
        raise Refusal(400, f"activity_type must be one of: {', '.join(REPORTABLE)}")
    if posted.source_id and posted.source_id != workspace_id:
        raise Refusal(403, "source_id must match authenticated workspace")
    row = activity.NewActivity(
        workspace_id=workspace_id,
        activity_type=posted.activity_type,
        source_id=workspace_id,
        target_id=posted.target_id,
        method=posted.method,
        summary=posted.summary,
        request_body=posted.metadata if posted.request_body is None else posted.request_body,
        response_body=posted.response_body,
        duration_ms=None if posted.duration_ms is None else web.clamp(posted.duration_ms),
        status=posted.status or "ok",
        error_detail=posted.error_detail,
    )
    await platform.store.write(activity.insert, row, platform.now())
    platform.bus.publish("ACTIVITY_LOGGED", workspace_id, logged_payload(row))
    return web.answer({"status": "logged"})


async def acknowledge(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/activity/ack`: monotonic, a stale one changes nothing."""
    workspace_id = web.workspace_id_of(request)
    await require_own(platform, request)
    error = "acked_seq must be a whole number of 0 or more"
    wanted = web.validate(wire.AckRequest, await web.read_object(request), error=error)
    stands = await platform.store.write(workspaces.acknowledge, workspace_id, web.clamp(wanted.acked_seq))
    return web.answer({"last_acked_seq": stands})


async def notify(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/notify`: a message of the agent to the person, stored in the form of contract 7.3."""
    workspace_id = web.workspace_id_of(request)
    own = await require_own(platform, request)
    if not own.talk_to_user_enabled:
        hint = "this workspace may not talk to the user; ask your parent workspace to pass it on"
        raise Refusal(403, "talk_to_user_disabled", hint=hint)
    data = await web.read_object(request)
    message = data.get("message")
    if not isinstance(message, str) or not message:
        raise Refusal(400, "message is required")
    attachments = _attachments(data.get("attachments"))
    body: dict[str, Any] = {"result": message}
    if attachments:
        body["parts"] = [{"kind": "file", "file": file} for file in attachments]
    row = activity.NewActivity(
        workspace_id=workspace_id, activity_type="a2a_receive", method="notify", response_body=body
    )
    await platform.store.write(activity.insert, row, platform.now())
    payload: dict[str, Any] = {"message": message, "workspace_id": workspace_id, "name": own.name}
    if attachments:
        payload["attachments"] = attachments
    platform.bus.publish("AGENT_MESSAGE", workspace_id, payload)
    return web.answer({"status": "sent"})


def _read_query(request: Request, now: int) -> tuple[activity.Query, str | None]:
    values = request.query_params
    source = values.get("source") or None
    if source not in {None, "canvas", "agent"}:
        raise Refusal(400, "source must be 'canvas' or 'agent'")
    not_before = None
    if since_secs := values.get("since_secs"):
        if not since_secs.isascii() or not since_secs.isdigit() or int(since_secs[:12]) == 0:
            raise Refusal(400, "since_secs must be a positive whole number")
        not_before = now - min(int(since_secs[:12]), MAX_SINCE_SECONDS) * timestamps.SECOND
    before = None
    if before_ts := values.get("before_ts"):
        try:
            before = timestamps.parse(before_ts)
        except ValueError:
            raise Refusal(400, "before_ts must be an RFC 3339 time, such as 2026-06-30T12:00:00Z") from None
    peer_id = values.get("peer_id") or None
    if peer_id is not None:
        peer_id = web.require_workspace_id(peer_id, error="peer_id must be a workspace id")
    query = activity.Query(
        limit=web.limit_of(request, default=DEFAULT_LIMIT, ceiling=MAX_LIMIT),
        activity_type=values.get("type") or None,
        from_human=None if source is None else source == "canvas",
        not_before=not_before,
        before=before,
        peer_id=peer_id,
    )
    return query, values.get("since_id") or None


def _body(row: ActivityRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": row.id,
        "workspace_id": row.workspace_id,
        "activity_type": row.activity_type,
        "source_id": row.source_id,
        "target_id": row.target_id,
        "method": row.method,
        "summary": row.summary,
        "duration_ms": row.duration_ms,
        "status": row.status,
        "error_detail": row.error_detail,
        "created_at": timestamps.render(row.created_at),
        "seq": row.seq,
    }
    for key, text in (
        ("request_body", row.request_json),
        ("response_body", row.response_json),
        ("tool_trace", row.tool_trace_json),
    ):
        if text is not None:
            body[key] = web.loads(text)
    return body


def _add_peers(connection: sqlite3.Connection, workspace_id: str, bodies: list[dict[str, Any]], origin: str) -> None:
    known: dict[str, tuple[str, str | None] | None] = {}
    for body in bodies:
        source, target = body["source_id"], body["target_id"]
        peer_id = target if source == workspace_id else source
        if peer_id:
            if peer_id not in known:
                row = workspaces.get(connection, peer_id)
                known[peer_id] = None if row is None else (row.name, row.role)
            if (peer := known[peer_id]) is not None:
                body["peer_name"], body["peer_role"] = peer
                body["agent_card_url"] = f"{origin}/registry/discover/{quote(peer_id, safe='')}"
        files = a2a.read_message(body.get("request_body")).files
        if files:
            body["attachments"] = [
                {"kind": "file", "uri": file.uri, "mime_type": file.mime_type, "name": file.name} for file in files
            ]


def _attachments(value: object) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise Refusal(400, "attachments must be a list")
    attachments: list[dict[str, Any]] = []
    for index, item in enumerate(cast("list[object]", value)):
        error = f"attachment[{index}]: uri and name are required"
        if not isinstance(item, dict):
            raise Refusal(400, error)
        attachments.append(web.validate(wire.Attachment, cast("dict[str, Any]", item), error=error).body())
    return attachments


_SOURCE = {"type": "string", "enum": ["canvas", "agent"]}
_SECONDS = {"type": "integer", "minimum": 1}
_NUMBER = {"type": "integer", "minimum": 0}
_MOMENT = {"type": "string", "format": "date-time"}

ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/activity", handler=list_rows, section="7.1, 24.4", access="workspace",
        summary="What happened; the inbox of those that poll.", answers={200: list[wire.ActivityRow]},
        parameters=(
            Parameter(name="type", meaning="`a2a_receive`, …"),
            Parameter(name="source", meaning="`canvas`: from the person; `agent`: from agents", schema=_SOURCE),
            Parameter(name="limit", meaning="1 to 500; 100"),
            Parameter(name="since_id", meaning="rows after this one, ascending; 410 when it is gone"),
            Parameter(name="since_secs", meaning="rows of the last seconds, at most 30 days", schema=_SECONDS),
            Parameter(name="before_ts", meaning="rows before this time (RFC 3339)", schema=_MOMENT),
            Parameter(name="peer_id", meaning="rows from or to this workspace"),
            Parameter(name="include", meaning="`peer_info`: name and role of the peer, attachments"),
        ),
        test="test_activity.py::test_rows_after_a_cursor_come_in_ascending_order",
    ),
    Route(
        method="GET", path="/admin/activity", handler=list_everywhere, section="ours", access="admin",
        summary="The rows of every workspace, ascending.", answers={200: list[wire.ActivityRow]},
        parameters=(
            Parameter(name="workspace_id", meaning="of this workspace only"),
            Parameter(name="since_seq", meaning="rows after this sequence number; without it the latest", schema=_NUMBER),
            Parameter(name="limit", meaning="1 to 500; 100"),
        ),
        test="test_events.py::test_the_admin_reads_the_activity_of_everybody_in_order",
    ),
    Route(
        method="POST", path="/workspaces/{id}/activity", handler=report, section="7.2", access="workspace",
        summary="Report something.", body=wire.ActivityRequest, answers={200: wire.StatusResponse},
        test="test_activity.py::test_a_report_is_stored_and_listed",
    ),
    Route(
        method="POST", path="/workspaces/{id}/activity/ack", handler=acknowledge, section="24.4", access="workspace",
        summary="Acknowledge everything up to a sequence number.", body=wire.AckRequest,
        test="test_activity.py::test_an_acknowledgement_only_moves_forward",
    ),
    Route(
        method="POST", path="/workspaces/{id}/notify", handler=notify, section="7.3, 24.7", access="workspace",
        summary="Say something to the person.", body=wire.NotifyRequest, answers={200: wire.StatusResponse},
        test="test_activity.py::test_what_an_agent_says_to_the_person_is_a_notify_row",
    ),
)  # fmt: skip
