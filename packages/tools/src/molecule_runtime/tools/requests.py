"""Tools that ask people and peers, and follow what was asked: create_request, create_approval and the request family."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core import untrusted
from molecule_runtime.core.errors import AccessDeniedError, NotFoundError, RequestRefusedError
from molecule_runtime.core.identity import display_name
from molecule_runtime.core.platform.wire.requests import CreateRequest as NewRequest
from molecule_runtime.tools.approvals import GRANT_SECONDS, ApprovalGate
from molecule_runtime.tools.context import peer_id_of
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.request_outcomes import OPEN, Outcome, until_decided
from molecule_runtime.tools.result import ToolResult, as_json, as_json_list, bounded

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire.requests import RequestMessage, RequestRow
    from molecule_runtime.core.registry.arguments import (
        AddRequestMessage,
        CreateApproval,
        CreateRequest,
        ListRequests,
        RequestId,
        RespondRequest,
    )
    from molecule_runtime.tools.approval_records import Api
    from molecule_runtime.tools.context import Call

MAX_TEXT_BYTES: Final = 4096
"""Of one text in a list; the whole is in `get_request`."""

_NO_REQUESTS: Final = (
    "this platform has no requests, only approvals: ask for an approval with create_approval, or for a task with "
    "send_message_to_user"
)
_TABS: Final = {"task": "Tasks", "approval": "Approvals"}
_WORDS: Final = {
    "done": "it is done",
    "approved": "it was approved: do exactly that, once, and now",
    "rejected": "it was rejected: do not do it, and do not ask for the same in other words",
    "cancelled": "it was taken back",
    "expired": "nobody decided in time, which is not a yes",
    "used": "it was approved, and that was used already: ask again for another time",
    "info_requested": "somebody asks something about it: read it with get_request and answer with add_request_message",
}


async def create_request(call: Call[CreateRequest]) -> ToolResult:
    """Ask a person or a peer; with `wait_secs`, wait for the outcome."""
    call.require("approve")
    client, arguments = call.client, call.arguments
    if not arguments.recipient_id.strip() and arguments.kind == "approval":
        return await _ask_for_approval(call, "create_request", arguments.title, arguments.detail)
    recipient_id = peer_id_of(arguments.recipient_id, "recipient_id") if arguments.recipient_id.strip() else ""
    if recipient_id == client.workspace_id:
        raise ToolRefusedError(
            "recipient_id is your own workspace; name a peer (list_peers), or leave it out to ask the user"
        )
    request = NewRequest(
        kind=arguments.kind,
        recipient_type="agent" if recipient_id else "user",
        recipient_id=recipient_id,
        title=arguments.title,
        detail=arguments.detail,
    )
    if arguments.priority is not None:
        request = request.model_copy(update={"priority": arguments.priority})
    try:
        made = await client.create_request(request)
    except NotFoundError:
        raise ToolRefusedError(_NO_REQUESTS) from None
    outcome = await _waited(call, client, made.request_id, "requests")
    result = _asked(made.request_id, arguments.kind, outcome, peer=recipient_id)
    if outcome is not None and outcome.status != "pending":
        return result
    # Not this call again: it would ask a second time.
    going_on = {"tool": "get_request", "arguments": {"request_id": made.request_id}}
    return dataclasses.replace(result, structured={**result.structured, "continue_with": going_on})


async def create_approval(call: Call[CreateApproval]) -> ToolResult:
    """Ask a person to approve an action; with `wait_secs`, wait for the decision."""
    call.require("approve")
    return await _ask_for_approval(call, "create_approval", call.arguments.action, call.arguments.reason)


async def list_inbox(call: Call[ListRequests]) -> ToolResult:
    """List what peers ask of this workspace."""
    return await _listed(call, incoming=True)


async def check_requests(call: Call[ListRequests]) -> ToolResult:
    """List what this workspace asked for."""
    return await _listed(call, incoming=False)


async def get_request(call: Call[RequestId]) -> ToolResult:
    """Return one request with what was said about it."""
    client = call.client
    try:
        found = await client.request(call.arguments.request_id)
    except NotFoundError:
        raise _not_found(call.arguments.request_id) from None
    messages = [_message_json(message, client.workspace_id) for message in found.messages]
    return as_json({"request": _row_json(found.request, client.workspace_id), "messages": messages})


async def respond_request(call: Call[RespondRequest]) -> ToolResult:
    """Answer a request that a peer made, and say something with it."""
    call.require("approve")
    client, arguments = call.client, call.arguments
    try:
        outcome = await client.respond_request(arguments.request_id, arguments.action)
    except NotFoundError:
        raise ToolRefusedError(
            f"request_id: {arguments.request_id!r} is not a request of your inbox, or it was answered already (list_inbox)"
        ) from None
    except (AccessDeniedError, RequestRefusedError) as exc:
        raise ToolRefusedError(f"request {arguments.request_id} was not answered: {exc}") from None
    data: dict[str, Any] = {"request_id": outcome.request_id, "status": outcome.status}
    if arguments.message.strip():
        # After the answer, as the contract has it (6.6): a message before it would ask for something.
        added = await client.add_request_message(arguments.request_id, arguments.message)
        data["message_id"] = added.message_id
    return as_json(data)


async def add_request_message(call: Call[AddRequestMessage]) -> ToolResult:
    """Say something about a request."""
    try:
        added = await call.client.add_request_message(call.arguments.request_id, call.arguments.message)
    except NotFoundError:
        raise _not_found(call.arguments.request_id) from None
    return as_json({"request_id": added.request_id, "message_id": added.message_id, "status": added.status})


async def cancel_request(call: Call[RequestId]) -> ToolResult:
    """Take back a request that nobody answered."""
    request_id = call.arguments.request_id
    try:
        outcome = await call.client.cancel_request(request_id)
    except NotFoundError:
        raise ToolRefusedError(
            f"request_id: {request_id!r} is none of your requests, or it was answered already (check_requests)"
        ) from None
    return as_json({"request_id": outcome.request_id, "status": outcome.status})


async def _ask_for_approval(call: Call[Any], tool: str, action: str, reason: str) -> ToolResult:
    """Ask through the gate, so that the same action again follows the same request, and an approval is used once."""
    client = call.client
    gate = ApprovalGate(client, call.context.journal)
    asked = await gate.ask(action, reason=reason)
    # One look even without waiting: the request may be an earlier one that was decided.
    outcome = await _waited(call, client, asked.request_id, asked.api)
    if outcome is not None and outcome.by_agent:
        await gate.close(asked)
        raise ToolRefusedError(
            f"request {asked.request_id} was answered by {outcome.decided_by}, and not by a person: that allows nothing"
        )
    if outcome is not None and outcome.status == "approved" and not await gate.use(asked, outcome):
        outcome = Outcome(status="used")
    elif outcome is not None and outcome.status not in OPEN:
        await gate.close(asked)
    result = _asked(asked.request_id, "approval", outcome)
    text, details = result.text, {**result.structured, "fingerprint": asked.fingerprint}
    if outcome is not None and outcome.status == "approved":
        details["valid_seconds"] = int(GRANT_SECONDS)
    if outcome is None or outcome.status == "pending":
        text += f" {tool} with the same words goes on waiting for this request, and uses the approval once it is there."
        details["continue_with"] = {"tool": tool, "same_arguments": True}
    return ToolResult(text=text, structured=details)


async def _waited(call: Call[Any], client: PlatformClient, request_id: str, api: Api) -> Outcome | None:
    seconds = call.held(call.arguments.wait_secs)
    if seconds > 0:
        await call.progress(f"request {request_id}: waiting for an answer")
    return await until_decided(client, request_id, api, seconds=seconds, say=call.progress, questions_end=True)


def _asked(request_id: str, kind: str, outcome: Outcome | None, *, peer: str = "") -> ToolResult:
    where = f"the inbox of {peer}" if peer else f"the {_TABS[kind]} tab"
    status = "pending" if outcome is None else outcome.status
    text = f"Request {request_id} is in {where}: "
    if outcome is None or outcome.status == "pending":
        text += (
            "nobody answered yet. Until then the answer is no. The outcome comes as an inbound message; "
            "check_requests and get_request show it too."
        )
    else:
        text += f"{_WORDS.get(status, status)}."
    structured: dict[str, Any] = {
        "request_id": request_id,
        "kind": kind,
        "status": status,
        "channel": "inbox" if peer else "dashboard",
    }
    if outcome is not None and outcome.decided_by:
        structured["decided_by"] = outcome.decided_by
    return ToolResult(text=text, structured=structured)


async def _listed(call: Call[ListRequests], *, incoming: bool) -> ToolResult:
    client = call.client
    try:
        rows = await client.requests(incoming=incoming, status=call.arguments.status)
    except NotFoundError:
        raise ToolRefusedError(_NO_REQUESTS) from None
    return as_json_list("requests", [_row_json(row, client.workspace_id) for row in rows])


def _row_json(row: RequestRow, own_id: str) -> dict[str, Any]:
    """Return a row; what another agent wrote in it stands inside a boundary."""
    data = row.model_dump(
        mode="json",
        exclude_none=True,
        include={
            *(
                "id",
                "kind",
                "requester_id",
                "recipient_type",
                "recipient_id",
                "status",
                "responder_type",
                "responder_id",
            ),
            *("priority", "created_at", "responded_at"),
        },
    )
    foreign = row.requester_id != own_id
    if foreign and (name := display_name(row.workspace_name)):
        data["requester_name"] = name
    for key, text in (("title", row.title), ("detail", row.detail or "")):
        if text:
            data[key] = _said(text, row.requester_id if foreign else None)
    return data


def _message_json(message: RequestMessage, own_id: str) -> dict[str, Any]:
    foreign = message.author_type == "agent" and message.author_id != own_id
    return {
        "id": message.id,
        "author_type": message.author_type,
        "author_id": message.author_id,
        "created_at": message.created_at,
        "body": _said(message.body, message.author_id if foreign else None),
    }


def _said(text: str, author_id: str | None) -> str:
    shown = bounded(text, MAX_TEXT_BYTES)
    return shown if author_id is None else untrusted.wrap(shown, source="peer", workspace_id=author_id)


def _not_found(request_id: str) -> ToolRefusedError:
    return ToolRefusedError(
        f"request_id: {request_id!r} is no request of yours, nor one of your inbox (check_requests, list_inbox)"
    )
