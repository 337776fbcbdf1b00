"""Messages to workspaces over HTTP (contract 5, 24.3, 24.5): who may send, and the sender's answer."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, cast

from molecule_runtime.core.bearer import bearer_matches, bearer_of
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.client import MAX_A2A_REQUEST_BYTES
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.auth import Caller, credentials_of
from molecule_runtime.localplatform.outcomes import Envelope, read_envelope
from molecule_runtime.localplatform.proxy import admit
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import queue, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.queue import QueueRow
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

_WAKING_RETRY_SECONDS = 15


async def post_message(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/a2a`."""
    target_id = web.workspace_id_of(request)
    caller, target = await platform.store.read(
        platform.proxy.admit_request, credentials_of(request), request.headers.get("x-workspace-id"), target_id
    )
    return await _pass_on(platform, request, caller, target)


async def post_inbound(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/a2a/inbound`: the same for whoever holds the target's inbound secret (24.5)."""
    target_id = web.workspace_id_of(request)
    given = bearer_of(request.scope["headers"])
    if given is None:
        raise Refusal(401, "missing inbound secret", hint="send `Authorization: Bearer <platform_inbound_secret>`")
    target = await platform.store.read(workspaces.get, target_id)
    if target is None or not bearer_matches(target.inbound_secret, request.scope["headers"]):
        raise Refusal(403, "invalid inbound secret")
    caller = Caller(None)
    return await _pass_on(platform, request, caller, await platform.store.read(admit, caller, target_id))


async def reset_chat(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/chat-session/new`: the person's next message begins a new context (24.5)."""
    own = await require_own(platform, request)
    context_id = str(uuid.uuid4())
    await platform.store.write(workspaces.set_chat_context, own.id, context_id)
    platform.bus.publish("SESSION_RESET", own.id, {"context_id": context_id})
    return web.answer({"status": "reset", "context_id": context_id})


async def _pass_on(platform: Platform, request: Request, caller: Caller, target: WorkspaceRow) -> Response:
    body = await web.read_body(request, MAX_A2A_REQUEST_BYTES)
    try:
        data = web.parse(body)
    except ValueError:
        raise Refusal(400, "invalid JSON") from None
    message = read_envelope(data)
    if target.status == "hibernated":
        await _wake(platform, target)
    if caller.workspace_id is None:
        message = await _in_chat(platform, target, message)
    outcome = await platform.proxy.send_and_wait(caller, target, message)
    return web.raw_answer(outcome.body, outcome.status, outcome.headers)


async def _wake(platform: Platform, target: WorkspaceRow) -> NoReturn:
    if (provisioner := platform.hosting.of(target.id)) is not None:
        await provisioner.start(target.id)
    raise Refusal(
        503,
        "workspace is waking up",
        waking=True,
        retry_after=_WAKING_RETRY_SECONDS,
        hint=None if provisioner is not None else "nothing here can start it; start its host",
        headers={"Retry-After": str(_WAKING_RETRY_SECONDS)},
    )


async def _in_chat(platform: Platform, target: WorkspaceRow, message: Envelope) -> Envelope:
    """Give a person's message the context of the running chat session, so that it survives restarts (24.5)."""
    params = _object(message.body.get("params"))
    sent = _object(params.get("message"))
    if not sent or sent.get("contextId"):
        return message
    context_id = target.chat_context_id
    if context_id is None:
        context_id = await platform.store.write(workspaces.begin_chat, target.id, str(uuid.uuid4()))
    body: dict[str, Any] = {**message.body, "params": {**params, "message": {**sent, "contextId": context_id}}}
    return replace(message, body=body)


def _object(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


async def get_queued(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/a2a/queue/:queue_id`: for the sender, the target and the admin; for others it does not exist."""
    workspace_id = web.workspace_id_of(request)
    queue_id: str = request.path_params["queue_id"]
    credentials = credentials_of(request)

    def read(connection: sqlite3.Connection) -> QueueRow:
        caller = platform.auth.holder(connection, credentials)
        row = queue.get(connection, queue_id)
        parties = (row.workspace_id, row.caller_id) if row else ()
        if row is None or workspace_id not in parties or caller.workspace_id not in {None, *parties}:
            raise Refusal(404, "queue item not found")
        return row

    return web.answer(_queue_body(await platform.store.read(read)))


def _queue_body(row: QueueRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "queue_id": row.id,
        "workspace_id": row.workspace_id,
        "status": row.status,
        "priority": row.priority,
        "attempts": row.attempts,
        "enqueued_at": timestamps.render(row.enqueued_at),
    }
    optional = {
        "last_error": row.last_error,
        "dispatched_at": timestamps.render(row.dispatched_at),
        "completed_at": timestamps.render(row.completed_at),
        "response_body": None if row.response_body is None else web.base64_text(row.response_body),
    }
    body.update({key: value for key, value in optional.items() if value is not None})
    return body


ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/a2a", handler=post_message, section="5, 24.3, 24.5", access="member",
        summary="Send a message to a workspace; the admin token is the person.", body=wire.JsonRpcRequest,
        answers={200: dict[str, Any], 202: dict[str, Any]}, refusals=(402, 502), passes_through=True,
        parameters=(Parameter(name="X-Workspace-ID", place="header", meaning="the caller; must agree with the bearer"),),
        test="test_a2a.py::test_a_peer_answers_through_the_proxy",
    ),
    Route(
        method="POST", path="/workspaces/{id}/a2a/inbound", handler=post_inbound, section="24.5", access="inbound",
        summary="The same, for whoever holds the target's inbound secret.", body=wire.JsonRpcRequest,
        answers={200: dict[str, Any], 202: dict[str, Any]}, refusals=(402, 502), passes_through=True,
        test="test_a2a.py::test_the_inbound_route_takes_the_targets_inbound_secret_only",
    ),
    Route(
        method="POST", path="/workspaces/{id}/chat-session/new", handler=reset_chat, section="24.5", access="workspace",
        summary="Begin a new chat session.", answers={200: wire.StatusResponse},
        test="test_a2a.py::test_a_persons_messages_share_a_context_until_the_session_is_reset",
    ),
    Route(
        method="GET", path="/workspaces/{id}/a2a/queue/{queue_id}", handler=get_queued, section="24.5", access="member",
        summary="How a queued message fares; for its sender and its target.",
        test="test_queue.py::test_the_sender_and_the_target_see_a_queued_message_and_nobody_else_does",
    ),
)  # fmt: skip
