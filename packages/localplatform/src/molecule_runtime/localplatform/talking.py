"""What agents say to everybody and to the person, and whether they may (contract 24.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core.platform.wire import workspaces as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own, require_row
from molecule_runtime.localplatform.proxy import SUMMARY_CHARS
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import activity, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.activity import ActivityRow

MAX_HISTORY = 200


async def broadcast(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/broadcast`: to every workspace that this one may talk to."""
    own = await require_own(platform, request)
    if not own.broadcast_enabled:
        hint = "an admin allows it: PATCH /workspaces/:id/abilities {broadcast_enabled: true}"
        raise Refusal(403, "broadcast_disabled", hint=hint)
    wanted = web.validate(wire.BroadcastRequest, await web.read_object(request))

    def store(connection: sqlite3.Connection) -> list[str]:
        now = platform.now()
        reached = [row.id for row in workspaces.alive(connection) if row.id != own.id]
        reached = [identifier for identifier in reached if workspaces.may_communicate(connection, own.id, identifier)]
        for identifier in reached:
            row = activity.NewActivity(
                workspace_id=identifier,
                activity_type="broadcast_receive",
                source_id=own.id,
                target_id=identifier,
                method="broadcast",
                summary=wanted.message[:SUMMARY_CHARS],
                request_body={"message": wanted.message, "sender": own.name, "sender_id": own.id},
            )
            activity.insert(connection, row, now)
        return reached

    reached = await platform.store.write(store)
    payload = {"message": wanted.message, "sender_id": own.id, "sender": own.name}
    for identifier in reached:
        platform.bus.publish("BROADCAST_MESSAGE", identifier, payload)
    return web.answer({"status": "sent", "delivered": len(reached)})


async def set_abilities(platform: Platform, request: Request) -> Response:
    """`PATCH /workspaces/:id/abilities` (admin)."""
    require_admin(platform, request)
    workspace_id = web.workspace_id_of(request)
    wanted = web.validate(wire.AbilitiesRequest, await web.read_object(request))
    changes: dict[str, Any] = {key: int(value) for key, value in wanted.body().items()}

    def store(connection: sqlite3.Connection) -> dict[str, bool]:
        require_row(connection, workspace_id)
        if changes:
            workspaces.update(connection, workspace_id, changes, platform.now())
        row = require_row(connection, workspace_id)
        return {
            "broadcast_enabled": bool(row.broadcast_enabled),
            "talk_to_user_enabled": bool(row.talk_to_user_enabled),
            "can_delegate": bool(row.can_delegate),
        }

    return web.answer({"status": "updated", **await platform.store.write(store)})


async def chat_history(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/chat-history[?limit=][&before_ts=]`: what the person and the agent said, the oldest first."""
    own = await require_own(platform, request)
    before = None
    if text := request.query_params.get("before_ts"):
        try:
            before = timestamps.parse(text)
        except ValueError:
            raise Refusal(400, "before_ts must be an RFC 3339 time, such as 2026-06-30T12:00:00Z") from None
    limit = web.limit_of(request, default=50, ceiling=MAX_HISTORY)
    query = activity.Query(limit=limit, activity_type="a2a_receive", from_human=True, before=before)
    rows = await platform.store.read(activity.select, own.id, query)
    messages = [message for row in reversed(rows) for message in _messages(row)]
    return web.answer({"messages": messages})


def _messages(row: ActivityRow) -> list[dict[str, Any]]:
    """Return what one row holds: a turn of the person with its answer, or a message that the agent sent on its own."""
    sent = None if row.request_json is None else web.loads(row.request_json)
    answered: object = None if row.response_json is None else web.loads(row.response_json)
    created_at = timestamps.render(row.created_at)
    if row.method == "notify":
        said_by_agent = cast("dict[str, Any]", answered) if isinstance(answered, dict) else {}
        message: dict[str, Any] = {"parts": said_by_agent.get("parts") or []}
        files = a2a.read_message({"params": {"message": message}}).files
        return [_message(row.id, "agent", str(said_by_agent.get("result") or ""), created_at, files)]
    if row.method == "chat_upload_receive":
        return []
    inbound = a2a.read_message(sent)
    messages = [_message(row.id, "user", inbound.text, created_at, inbound.files)]
    said = a2a.read_answer(answered) if answered is not None else None
    if isinstance(said, a2a.Reply):
        messages.append(_message(f"{row.id}:answer", "agent", said.text, created_at, said.files))
    elif isinstance(said, a2a.Failure):
        messages.append(_message(f"{row.id}:answer", "error", said.message, created_at, ()))
    return messages


def _message(identifier: str, role: str, text: str, created_at: str, files: tuple[a2a.File, ...]) -> dict[str, Any]:
    attachments = [
        {"uri": file.uri, "name": file.name, "mime_type": file.mime_type, "size": file.size} for file in files
    ]
    return {"id": identifier, "role": role, "text": text, "created_at": created_at, "attachments": attachments}


ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/broadcast", handler=broadcast, section="24.7", access="workspace",
        summary="Say something to every workspace that it may talk to.", body=wire.BroadcastRequest,
        answers={200: wire.BroadcastResponse}, test="test_talking.py::test_a_broadcast_reaches_whom_the_sender_may_talk_to",
    ),
    Route(
        method="PATCH", path="/workspaces/{id}/abilities", handler=set_abilities, section="24.7", access="admin",
        summary="What the workspace may do.", body=wire.AbilitiesRequest,
        test="test_talking.py::test_abilities_decide_who_may_broadcast_notify_and_delegate",
    ),
    Route(
        method="GET", path="/workspaces/{id}/chat-history", handler=chat_history, section="24.7", access="workspace",
        summary="What the person and the agent said.", answers={200: wire.ChatHistory},
        parameters=(
            Parameter(name="limit", meaning="turns, 1 to 200; 50"),
            Parameter(name="before_ts", meaning="RFC 3339", schema={"type": "string", "format": "date-time"}),
        ),
        test="test_talking.py::test_the_chat_history_has_both_sides_in_order",
    ),
)  # fmt: skip
