"""The requests inbox (contract 24.8): what agents ask of the person and of each other, and what became of it.

Who acts is decided by the bearer, not by the body: a workspace token acts as that agent, the admin token as the person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core.platform.wire import requests as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own, require_row
from molecule_runtime.localplatform.auth import Caller, credentials_of
from molecule_runtime.localplatform.outcomes import read_envelope
from molecule_runtime.localplatform.proxy import leave_message
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import requests, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.requests import MessageRow, RequestRow

NOT_FOUND = "request not found"
RESOLVED = "request not found or already resolved"

_ACTIONS = {"task": ("done", "rejected"), "approval": ("approved", "rejected")}
_STATUSES = (*requests.OPEN, "done", "rejected", "approved", "cancelled")


async def create(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/requests`."""
    own = await require_own(platform, request)
    wanted = web.validate(wire.CreateRequest, await web.read_object(request))
    recipient_id = ""
    if wanted.recipient_type == "agent":
        recipient_id = web.require_workspace_id(wanted.recipient_id, error="recipient_id must be a workspace id")
        if recipient_id == own.id:
            raise Refusal(400, "a workspace cannot ask itself", hint="name another workspace as recipient_id")

    def store(connection: sqlite3.Connection) -> str:
        if recipient_id:
            if not workspaces.may_communicate(connection, own.id, recipient_id):
                raise Refusal(403, "access denied: workspaces cannot communicate per hierarchy rules")
            require_row(connection, recipient_id)
        new = requests.NewRequest(
            kind=wanted.kind,
            origin="requests",
            requester_id=own.id,
            recipient_type=wanted.recipient_type,
            recipient_id=recipient_id,
            title=wanted.title,
            detail=wanted.detail,
            priority=wanted.priority,
        )
        return requests.insert(connection, new, platform.now())

    request_id = await platform.store.write(store)
    payload = {
        "request_id": request_id,
        "kind": wanted.kind,
        "title": wanted.title,
        "recipient_type": wanted.recipient_type,
        "recipient_id": recipient_id,
    }
    platform.bus.publish("REQUEST_CREATED", own.id, payload)
    return web.answer({"request_id": request_id, "status": "pending"}, 201)


async def list_outgoing(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/requests[?status=]`."""
    own = await require_own(platform, request)
    rows = await platform.store.read(requests.outgoing, own.id, _status(request))
    return web.answer([body_of(row) for row in rows])


async def list_incoming(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/requests/inbox[?status=]`."""
    own = await require_own(platform, request)
    rows = await platform.store.read(requests.incoming, own.id, _status(request))
    return web.answer([body_of(row) for row in rows])


async def list_pending(platform: Platform, request: Request) -> Response:
    """`GET /requests/pending[?kind=][&status=all]` (admin): what the person is asked."""
    require_admin(platform, request)
    kind = request.query_params.get("kind") or None
    if kind not in {None, "task", "approval"}:
        raise Refusal(400, "kind must be 'task' or 'approval'")
    only_open = request.query_params.get("status") != "all"
    limit = web.limit_of(request, default=requests.MAX_LISTED, ceiling=500)
    rows = await platform.store.read(requests.for_the_person, kind=kind, only_open=only_open, limit=limit)
    return web.answer([body_of(row) for row in rows])


async def get_one(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/requests/:requestId` and `GET /requests/:requestId`."""
    caller = await _actor(platform, request)
    request_id: str = request.path_params["request_id"]

    def read(connection: sqlite3.Connection) -> tuple[RequestRow, list[MessageRow]]:
        row = _visible(connection, request_id, caller)
        return row, requests.messages(connection, row.id)

    row, messages = await platform.store.read(read)
    return web.answer({"request": body_of(row), "messages": [_message(message) for message in messages]})


async def respond(platform: Platform, request: Request) -> Response:
    """`POST …/requests/:requestId/respond`."""
    caller = await _actor(platform, request)
    request_id: str = request.path_params["request_id"]
    wanted = web.validate(wire.RespondRequest, await web.read_object(request))

    def store(connection: sqlite3.Connection) -> RequestRow:
        row = _visible(connection, request_id, caller)
        if caller.workspace_id is not None and caller.workspace_id == row.requester_id:
            raise Refusal(403, "a requester cannot respond to its own request", hint="cancel it instead")
        if caller.workspace_id is not None and caller.workspace_id != row.recipient_id:
            raise Refusal(403, "only the recipient may respond")
        if wanted.action not in _ACTIONS[row.kind]:
            raise Refusal(400, f"action of a {row.kind} must be one of: {', '.join(_ACTIONS[row.kind])}")
        return resolve(
            connection,
            platform,
            request_id,
            wanted.action,
            responder_type="user" if caller.workspace_id is None else "agent",
            responder_id=caller.workspace_id or wanted.responder_id,
        )

    row = await platform.store.write(store)
    publish_outcome(platform, row)
    return web.answer({"status": row.status, "request_id": row.id})


async def add_message(platform: Platform, request: Request) -> Response:
    """`POST …/requests/:requestId/messages`: anyone but the requester thereby asks for more information."""
    caller = await _actor(platform, request)
    request_id: str = request.path_params["request_id"]
    wanted = web.validate(wire.AddMessageRequest, await web.read_object(request))
    author_type = "user" if caller.workspace_id is None else "agent"

    def store(connection: sqlite3.Connection) -> tuple[RequestRow, str]:
        row = _visible(connection, request_id, caller)
        if requests.count_messages(connection, row.id) >= requests.MAX_MESSAGES:
            raise Refusal(400, f"a request takes at most {requests.MAX_MESSAGES} messages; create a new one")
        message_id = requests.add_message(
            connection,
            row.id,
            author_type=author_type,
            author_id=caller.workspace_id or wanted.author_id or "",
            body=wanted.text,
            asks=caller.workspace_id != row.requester_id,
            now=platform.now(),
        )
        return row, message_id

    row, message_id = await platform.store.write(store)
    payload = {"request_id": row.id, "message_id": message_id, "author_type": author_type}
    platform.bus.publish("REQUEST_MESSAGE", row.requester_id, payload)
    return web.answer({"status": "created", "request_id": row.id, "message_id": message_id}, 201)


async def cancel(platform: Platform, request: Request) -> Response:
    """`POST …/requests/:requestId/cancel`: for its requester and the person."""
    caller = await _actor(platform, request)
    request_id: str = request.path_params["request_id"]

    def store(connection: sqlite3.Connection) -> RequestRow:
        row = _visible(connection, request_id, caller)
        if caller.workspace_id not in {None, row.requester_id}:
            raise Refusal(403, "only the requester may cancel")
        return resolve(connection, platform, request_id, "cancelled", responder_type=None, responder_id=None)

    row = await platform.store.write(store)
    publish_outcome(platform, row)
    return web.answer({"status": "cancelled", "request_id": row.id})


def resolve(
    connection: sqlite3.Connection,
    platform: Platform,
    request_id: str,
    status: Any,
    *,
    responder_type: str | None,
    responder_id: str | None,
) -> RequestRow:
    """Resolve a request and leave word of it for the agent that asked; in one transaction.

    Raises:
        Refusal: 404 when it is not there or already resolved.
    """
    now = platform.now()
    if not requests.respond(
        connection, request_id, status=status, responder_type=responder_type, responder_id=responder_id, now=now
    ):
        raise Refusal(404, RESOLVED)
    row = cast("RequestRow", requests.get(connection, request_id))
    requester = workspaces.get(connection, row.requester_id)
    # Approvals are polled by those who ask (9.2), and whoever cancels knows it.
    if row.origin == "requests" and row.status != "cancelled" and requester is not None and not requester.removed:
        leave_message(connection, requester, read_envelope(_outcome_message(row)), now=now)
    return row


def publish_outcome(platform: Platform, row: RequestRow) -> None:
    """Tell everybody who listens, and have the word that was left delivered."""
    payload: dict[str, Any] = {
        "request_id": row.id,
        "status": row.status,
        "responder_type": row.responder_type,
        "responder_id": row.responder_id,
    }
    platform.bus.publish("REQUEST_RESPONDED", row.requester_id, payload)
    if row.origin == "approvals" and row.status in {"approved", "rejected"}:
        decision = "approved" if row.status == "approved" else "denied"
        payload = {"approval_id": row.id, "decision": decision, "decided_by": row.responder_id}
        platform.bus.publish(f"APPROVAL_{decision.upper()}", row.requester_id, payload)
    platform.deliver_waiting(row.requester_id)


def body_of(row: RequestRow) -> dict[str, Any]:
    """Return the JSON form of a row."""
    return {
        "id": row.id,
        "kind": row.kind,
        "requester_type": "agent",
        "requester_id": row.requester_id,
        "org_id": None,
        "recipient_type": row.recipient_type,
        "recipient_id": row.recipient_id,
        "title": row.title,
        "detail": row.detail,
        "status": row.status,
        "responder_type": row.responder_type,
        "responder_id": row.responder_id,
        "priority": row.priority,
        "created_at": timestamps.render(row.created_at),
        "updated_at": timestamps.render(row.updated_at),
        "responded_at": timestamps.render(row.responded_at),
        "workspace_name": row.requester_name,
    }


async def _actor(platform: Platform, request: Request) -> Caller:
    """Return who acts: the workspace of the path with its own token, or the person with the admin token."""
    if "id" not in request.path_params:
        require_admin(platform, request)
        return Caller(None)
    own = await require_own(platform, request)
    return Caller(None if platform.auth.is_admin(credentials_of(request)) else own.id)


def _visible(connection: sqlite3.Connection, request_id: str, caller: Caller) -> RequestRow:
    row = requests.get(connection, request_id)
    if row is None or caller.workspace_id not in {None, row.requester_id, row.recipient_id}:
        raise Refusal(404, NOT_FOUND)
    return row


def _status(request: Request) -> str | None:
    status = request.query_params.get("status") or None
    if status is not None and status not in _STATUSES:
        raise Refusal(400, f"status must be one of: {', '.join(_STATUSES)}")
    return status


def _outcome_message(row: RequestRow) -> dict[str, Any]:
    by = "the user" if row.responder_type == "user" else f"agent {row.responder_id}"
    return a2a.message_send(
        f"Your request {row.id} ({row.title}) was answered by {by}: {row.status}.",
        message_id=f"request-{row.id}-{row.status}",
        metadata={"source": "platform", "kind": "request_outcome", "request_id": row.id, "status": row.status},
    )


def _message(row: MessageRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "request_id": row.request_id,
        "author_type": row.author_type,
        "author_id": row.author_id,
        "body": row.body,
        "created_at": timestamps.render(row.created_at),
    }


_STATUS = Parameter(name="status", meaning="only those of this status", schema={"type": "string", "enum": [*_STATUSES]})
_TEST = "test_requests.py::test_a_request_to_the_person_is_answered_and_the_agent_hears_of_it"
_PEER_TEST = "test_requests.py::test_a_request_to_another_agent_is_in_its_inbox_and_answered_by_it"


def _verbs(base: str, access: Any, test: str) -> tuple[Route, ...]:
    """Return the routes of one request, which agents and the person have under different paths."""
    return (
        Route(
            method="GET", path=base, handler=get_one, section="24.8", access=access, summary="A request with its messages.",
            answers={200: wire.RequestDetail}, test=test,
        ),
        Route(
            method="POST", path=f"{base}/respond", handler=respond, section="24.8", access=access, summary="Answer it.",
            body=wire.RespondRequest, answers={200: wire.RequestOutcome}, test=test,
        ),
        Route(
            method="POST", path=f"{base}/messages", handler=add_message, section="24.8", access=access,
            summary="Say or ask something about it.", body=wire.AddMessageRequest, answers={201: wire.AddMessageResponse},
            test="test_requests.py::test_a_question_makes_a_request_wait_until_its_requester_answers",
        ),
        Route(
            method="POST", path=f"{base}/cancel", handler=cancel, section="24.8", access=access, summary="Take it back.",
            answers={200: wire.RequestOutcome}, test="test_requests.py::test_a_cancelled_request_cannot_be_answered",
        ),
    )  # fmt: skip


ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/requests", handler=create, section="24.8", access="workspace",
        summary="Ask the person or another agent.", body=wire.CreateRequest, answers={201: wire.CreateRequestResponse}, test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/requests", handler=list_outgoing, section="24.8", access="workspace",
        summary="What it asked.", answers={200: list[wire.RequestRow]}, parameters=(_STATUS,), test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/requests/inbox", handler=list_incoming, section="24.8", access="workspace",
        summary="What it is asked.", answers={200: list[wire.RequestRow]}, parameters=(_STATUS,), test=_PEER_TEST,
    ),
    *_verbs("/workspaces/{id}/requests/{request_id}", "workspace", _PEER_TEST),
    Route(
        method="GET", path="/requests/pending", handler=list_pending, section="24.8", access="admin",
        summary="What the person is asked.", answers={200: list[wire.RequestRow]},
        parameters=(
            Parameter(name="kind", meaning="`task` or `approval`", schema={"type": "string", "enum": ["task", "approval"]}),
            Parameter(name="status", meaning="`all`: resolved ones too (ours)"),
            Parameter(name="limit", meaning="1 to 500; 50"),
        ),
        test=_TEST,
    ),
    *_verbs("/requests/{request_id}", "admin", _TEST),
)  # fmt: skip
