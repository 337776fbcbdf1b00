"""Tools that give work to a peer: delegate_task, delegate_task_async, check_task_status."""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import envelope, untrusted
from molecule_runtime.core.errors import AccessDeniedError, NotFoundError, PlatformError
from molecule_runtime.core.identity import display_name
from molecule_runtime.core.platform import wire
from molecule_runtime.tools.context import peer_id_of
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.result import MAX_TEXT_BYTES, ToolResult, as_json, bounded

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import CheckTaskStatus, DelegateTask
    from molecule_runtime.tools.context import Call

logger = logging.getLogger(__name__)

MAX_SUMMARY_CHARS = 256
"""Contract `runtime.md` 7.5."""

MAX_ERROR_CHARS = 4096
"""Contract `runtime.md` 7.5."""

MAX_PREVIEW_BYTES = 1024
"""The platform cuts a preview at 300 (contract `platform-api.md` 6.2)."""

_ADVICE = "Try another peer, do it yourself, or tell the user that it could not be done."


async def delegate_task(call: Call[DelegateTask]) -> ToolResult:
    """Give a task to a peer and return its answer."""
    client = call.client
    peer_id = _other(client, call.arguments.workspace_id)
    peer = await _discover(client, peer_id)
    name = display_name(peer.name) or peer_id
    await call.progress(f"delegating to {name}")
    started = time.monotonic()
    try:
        answer = await client.send_message(peer_id, call.arguments.task, timeout=call.context.delegation_timeout)
    except PlatformError as exc:
        answer = envelope.Failure(message=str(exc))
    await _record(client, peer_id, name, call.arguments.task, answer, time.monotonic() - started)
    match answer:
        case envelope.Reply():
            text = answer.text or "(no response)"
            wrapped = untrusted.wrap(bounded(text), source="peer", workspace_id=peer_id, name=name)
            return ToolResult(
                text=wrapped,
                structured={
                    "status": "completed",
                    "workspace_id": peer_id,
                    "name": name,
                    "state": answer.state,
                    "text": bounded(text),
                },
            )
        case envelope.Accepted():
            where = "reads its inbox" if answer.mode == "poll" else "is busy"
            text = (
                f"{name} {where}: the task is queued there and will be delivered. Do not send it again; "
                "an answer arrives as a message in your own inbox (wait_for_message)."
            )
            structured = {"status": "queued", "workspace_id": peer_id, "name": name, "delivery_mode": answer.mode}
            return ToolResult(text=text, structured=structured)
        case envelope.Failure():
            said = bounded(answer.message, MAX_TEXT_BYTES // 2)
            return ToolResult(
                text=f"DELEGATION FAILED to {name}: {said}\n{_ADVICE}",
                structured={"status": "failed", "workspace_id": peer_id, "name": name, "error": said},
                is_error=True,
            )


async def delegate_task_async(call: Call[DelegateTask]) -> ToolResult:
    """Start a durable delegation and return its id at once."""
    client = call.client
    peer_id = _other(client, call.arguments.workspace_id)
    # A key per call: the same text on purpose is a new delegation, and a retry of this very request is not (contract 20.3, 50).
    response = await client.delegate(peer_id, call.arguments.task, idempotency_key=uuid.uuid4().hex)
    data = {
        "delegation_id": response.delegation_id,
        "workspace_id": peer_id,
        "status": response.status,
        "note": "check_task_status with this delegation_id as task_id returns the result",
    }
    return as_json(data)


async def check_task_status(call: Call[CheckTaskStatus]) -> ToolResult:
    """Return the state of one delegation, or of the newest ten."""
    rows = _fold(await call.client.delegations())
    wanted = call.arguments.task_id.strip()
    if not wanted:
        newest = [_delegation_json(row) for row in list(rows.values())[:10]]
        data: dict[str, Any] = {"delegations": newest, "count": len(newest)}
        return ToolResult(text=json.dumps(data, ensure_ascii=False), structured=data)
    row = rows.get(wanted)
    data = {"status": "not_found", "delegation_id": wanted} if row is None else _delegation_json(row)
    return ToolResult(text=json.dumps(data, ensure_ascii=False), structured=data)


def _other(client: PlatformClient, value: str) -> str:
    peer_id = peer_id_of(value, "workspace_id")
    if peer_id == client.workspace_id:
        raise ToolRefusedError(
            "workspace_id is your own workspace: delegating to yourself would wait for yourself. "
            "Do the task, or choose a peer (list_peers)."
        )
    return peer_id


async def _discover(client: PlatformClient, peer_id: str) -> wire.Discovered:
    """Ask the platform whether this workspace may talk to that one."""
    try:
        return await client.discover(peer_id)
    except (NotFoundError, AccessDeniedError):
        raise ToolRefusedError(
            f"workspace {peer_id} was not found or is not accessible from {client.workspace_id}; "
            "only your parent, siblings and children are (list_peers)"
        ) from None


async def _record(
    client: PlatformClient, peer_id: str, name: str, task: str, answer: envelope.Answer, seconds: float
) -> None:
    """Write the exchange into our own activity log, so that chat_history shows both sides. Best effort."""
    request = wire.ActivityRequest(
        activity_type="a2a_send",
        method="message/send",
        source_id=client.workspace_id,
        target_id=peer_id,
        summary=f"Delegated to {name}: {task}"[:MAX_SUMMARY_CHARS],
        status="error" if isinstance(answer, envelope.Failure) else "ok",
        duration_ms=int(seconds * 1000),
        request_body={"task": task},
    )
    if isinstance(answer, envelope.Reply):
        request = request.model_copy(update={"response_body": {"result": answer.text}})
    elif isinstance(answer, envelope.Failure):
        request = request.model_copy(update={"error_detail": answer.message[:MAX_ERROR_CHARS]})
    try:
        await client.log_activity(request)
    except PlatformError as exc:
        logger.info("the delegation to %s is not in the activity log: %s", peer_id, exc)


def _fold(rows: list[wire.Delegation]) -> dict[str, wire.Delegation]:
    """Keep one row per delegation, newest first: the one with a result, else the one in a final state.

    A June server has one row each; an April one has two (contract `platform-api.md` 6.2).
    """
    folded: dict[str, wire.Delegation] = {}
    for row in rows:
        key = row.delegation_id or ""
        known = folded.get(key)
        if key and (known is None or _weight(row) > _weight(known)):
            folded[key] = row
    return folded


def _weight(row: wire.Delegation) -> int:
    final = row.status in {"completed", "failed"}
    return 2 * final + (row.response_preview is not None and row.status != "queued")


def _delegation_json(row: wire.Delegation) -> dict[str, Any]:
    data = row.model_dump(
        mode="json",
        exclude_none=True,
        include={"delegation_id", "source_id", "target_id", "status", "summary", "created_at", "updated_at", "error"},
    )
    # A queued row's preview is the platform's own acknowledgement, never an answer (contract `platform-api.md` 6.2).
    if row.response_preview and row.status == "completed":
        preview = bounded(row.response_preview, MAX_PREVIEW_BYTES)
        data["response_preview"] = untrusted.wrap(preview, source="peer", workspace_id=row.target_id)
    return data
