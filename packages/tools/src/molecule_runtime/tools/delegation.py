"""Tools that give work to a peer: delegate_task, delegate_task_async, check_task_status.

A synchronous delegation is one message through the platform's proxy. When the peer is busy or reads its inbox, the platform only
acknowledges it: from then on the answer is looked for, and the message is never sent again.
"""

from __future__ import annotations

import functools
import json
import random
import time
from typing import TYPE_CHECKING, Any, Final, Literal

import anyio

from molecule_runtime.core import delegation_chain, envelope, untrusted
from molecule_runtime.core.errors import (
    AccessDeniedError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    PlatformUnreachableError,
    UnavailableError,
)
from molecule_runtime.core.identity import display_name, short_id
from molecule_runtime.tools import delegation_records as records
from molecule_runtime.tools.context import peer_id_of
from molecule_runtime.tools.delegation_exchange import Exchange, gave_up
from molecule_runtime.tools.delegation_status import listed, status_of
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.journal import Owner
from molecule_runtime.tools.result import MAX_TEXT_BYTES, ToolResult, as_json, bounded

if TYPE_CHECKING:
    import sqlite3

    from molecule_runtime.core.identity import WorkspaceId
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import CheckTaskStatus, DelegateTask
    from molecule_runtime.tools.context import Call

_ADVICE: Final = "Try another peer, do it yourself, or tell the user that it could not be done."
_START_ATTEMPTS: Final = 3


async def delegate_task(call: Call[DelegateTask]) -> ToolResult:
    """Give a task to a peer and return its answer."""
    client = call.client
    peer_id = _receiver(call, client)
    peer = await _discover(call, client, peer_id)
    name = display_name(peer.name) or peer_id
    if call.context.max_wait is not None and call.context.background is not None:
        call.context.background.check_room()
    entry = await _begin(call, client, "sync", peer_id)
    ended = await Exchange(call, client, entry, name).wait()
    if ended is None:
        return _goes_on(call, entry, name)
    match ended.answer:
        case envelope.Reply() as reply:
            await _collect(call, client, entry, "completed", reply.text)
            return _replied(peer_id, name, reply)
        case envelope.Accepted() as accepted:
            return _waits(entry, name, accepted)
        case envelope.Failure() as failure:
            if not ended.uncertain:
                await _collect(call, client, entry, "failed", failure.message)
            return _failed(entry, name, failure, uncertain=ended.uncertain)


async def delegate_task_async(call: Call[DelegateTask]) -> ToolResult:
    """Start a durable delegation and return its id at once."""
    client = call.client
    peer_id = _receiver(call, client)
    entry = await _begin(call, client, "async", peer_id)
    response = await _start(call, client, entry)
    data: dict[str, Any] = {
        "delegation_id": response.delegation_id,
        "workspace_id": peer_id,
        "status": response.status,
        "note": "check_task_status with this delegation_id as task_id returns the result",
    }
    if response.warning:
        data["warning"] = bounded(response.warning, 512)
    return as_json(data)


async def check_task_status(call: Call[CheckTaskStatus]) -> ToolResult:
    """Return the state of one delegation with its answer, or of the newest ten."""
    wanted = call.arguments.task_id.strip()
    data = await (status_of(call, wanted) if wanted else listed(call))
    return ToolResult(text=json.dumps(data, ensure_ascii=False), structured=data)


def _receiver(call: Call[DelegateTask], client: PlatformClient) -> WorkspaceId:
    """Return the peer that is to do the task; not the own workspace, and nobody through whom the task came."""
    peer_id = peer_id_of(call.arguments.workspace_id, "workspace_id")
    if peer_id == client.workspace_id:
        raise ToolRefusedError(
            "workspace_id is your own workspace: delegating to yourself would wait for yourself. "
            "Do the task, or choose a peer (list_peers)."
        )
    chain = call.came_through
    way = " -> ".join([*map(short_id, chain), "you"])
    if peer_id in chain:
        raise ToolRefusedError(
            f"workspace_id: the task that you are at came from workspace {peer_id} ({way}): handing it back would make you wait for each"
            " other. Say what you found, or ask what you need to know, in your answer."
        )
    if len(chain) >= delegation_chain.MAX_LENGTH:
        raise ToolRefusedError(
            f"workspace_id: the task was handed on {len(chain)} times already ({way}). Do it yourself, or answer that you cannot."
        )
    return peer_id


async def _discover(call: Call[DelegateTask], client: PlatformClient, peer_id: str) -> wire.Discovered:
    """Ask the platform whether this workspace may talk to that one."""
    try:
        async with call.context.delegations.turn:
            return await client.discover(peer_id)
    except (NotFoundError, AccessDeniedError):
        raise ToolRefusedError(
            f"workspace {peer_id} was not found or is not accessible from {client.workspace_id}; "
            "only your parent, siblings and children are (list_peers)"
        ) from None


async def _begin(
    call: Call[DelegateTask], client: PlatformClient, mode: records.Mode, peer_id: WorkspaceId
) -> records.Entry:
    journal, task = call.context.journal, call.arguments.task
    return await journal.run(lambda db: records.begin(db, journal, Owner.of(client), mode, peer_id, task))


async def _collect(
    call: Call[DelegateTask],
    client: PlatformClient,
    entry: records.Entry,
    state: Literal["completed", "failed"],
    answer: str,
) -> None:
    """Note that the agent gets the answer."""
    journal = call.context.journal

    def claim(db: sqlite3.Connection) -> float | None:
        return records.claim(
            *(db, journal, Owner.of(client), entry.delegation_id),
            state=state,
            answer=answer,
            target_id=entry.target_id,
        )

    await journal.run(claim)


async def _start(call: Call[DelegateTask], client: PlatformClient, entry: records.Entry) -> wire.DelegateResponse:
    """Have the platform begin a delegation; its key makes it safe to ask again when nobody knows whether it did."""
    metadata = {delegation_chain.METADATA_KEY: delegation_chain.handed_on_by(client.target.id, call.came_through)}
    attempt = 0
    while True:
        attempt += 1
        try:
            async with call.context.delegations.turn:
                response = await client.delegate(
                    entry.target_id, call.arguments.task, idempotency_key=entry.intent, metadata=metadata
                )
        except (PlatformTimeoutError, PlatformUnreachableError, UnavailableError) as exc:
            if attempt < _START_ATTEMPTS:
                pause = 2.0 ** (attempt - 2) * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
                stated = exc.retry_after if isinstance(exc, UnavailableError) else None
                await anyio.sleep(max(pause, min(stated or 0, 10)))
                continue
            await gave_up(call, client, entry, exc)
            raise
        except PlatformError as exc:
            await gave_up(call, client, entry, exc)
            raise
        await call.context.journal.run(
            functools.partial(
                records.started, whose=Owner.of(client), intent=entry.intent, delegation_id=response.delegation_id
            )
        )
        return response


def _replied(peer_id: str, name: str, answer: envelope.Reply) -> ToolResult:
    text = bounded(answer.text or "(no response)")
    structured: dict[str, Any] = {
        "status": "completed",
        "workspace_id": peer_id,
        "name": name,
        "state": answer.state,
        "text": text,
    }
    if answer.files:
        structured["files"] = [
            {"uri": file.uri, "name": file.name, "mime_type": file.mime_type} for file in answer.files
        ]
    return ToolResult(text=untrusted.wrap(text, source="peer", workspace_id=peer_id, name=name), structured=structured)


def _goes_on(call: Call[DelegateTask], entry: records.Entry, name: str) -> ToolResult:
    """Say how an exchange is followed whose call returns before its end."""
    seconds = time.monotonic() - call.began
    arguments = {"workspace_id": entry.target_id, "task_id": entry.delegation_id}
    if call.arguments.source_workspace_id is not None:
        arguments["source_workspace_id"] = call.arguments.source_workspace_id
    text = (
        f"{name} has the task and did not answer within {seconds:.0f} s, for which one call waits. It goes on: do not send it again."
        f" Call check_task_status(workspace_id={entry.target_id}, task_id={entry.delegation_id}) later; it gives the answer out, once."
    )
    structured = {
        "status": "working",
        "workspace_id": entry.target_id,
        "name": name,
        "delegation_id": entry.delegation_id,
        "continue_with": {"tool": "check_task_status", "arguments": arguments},
    }
    return ToolResult(text=text, structured=structured)


def _waits(entry: records.Entry, name: str, answer: envelope.Accepted) -> ToolResult:
    where = "reads its inbox" if answer.mode == "poll" else "is busy"
    text = (
        f"{name} {where}: the task is queued there and will be delivered. Do not send it again: ask with check_task_status "
        f"(task_id {entry.delegation_id}), or see whether the answer arrives as a message."
    )
    structured = {
        "status": "queued",
        "workspace_id": entry.target_id,
        "name": name,
        "delivery_mode": answer.mode,
        "delegation_id": entry.delegation_id,
    }
    return ToolResult(text=text, structured=structured)


def _failed(entry: records.Entry, name: str, answer: envelope.Failure, *, uncertain: bool) -> ToolResult:
    said = bounded(answer.message, MAX_TEXT_BYTES // 2)
    structured: dict[str, Any] = {
        "status": "failed",
        "workspace_id": entry.target_id,
        "name": name,
        "error": said,
    }
    advice = _ADVICE
    if uncertain:
        structured |= {"status": "unknown", "delegation_id": entry.delegation_id}
        advice = f"The same call again within the hour counts as the same delegation, not as a second one. {_ADVICE}"
    return ToolResult(text=f"DELEGATION FAILED to {name}: {said}\n{advice}", structured=structured, is_error=True)
