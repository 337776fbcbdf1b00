"""Tools about who is there: list_peers, get_workspace_info, get_runtime_identity, update_agent_card, chat_history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import anyio

from molecule_runtime.core import envelope
from molecule_runtime.core.errors import CredentialRejectedError, GoneError, NotFoundError, PlatformError
from molecule_runtime.core.identity import display_name, short_id
from molecule_runtime.tools.context import peer_id_of
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.result import ToolResult, as_json, as_json_list, bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import (
        ChatHistory,
        ListPeers,
        NoArguments,
        UpdateAgentCard,
        WorkspaceArguments,
    )
    from molecule_runtime.tools.context import Call

_MAX_HISTORY_TEXT_BYTES = 4096


async def list_peers(call: Call[ListPeers]) -> ToolResult:
    """List the peers of one served workspace, or of all of them."""
    named = call.arguments.acting_workspace_id
    clients = [call.context.client_of(named)] if named is not None else list(call.context.clients.values())
    found: dict[str, list[wire.Peer]] = {}
    problems: dict[str, str] = {}

    async def ask(client: PlatformClient) -> None:
        try:
            found[client.workspace_id] = await client.peers()
        except PlatformError as exc:
            problems[client.workspace_id] = _peers_problem(client, exc)

    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(ask, client)

    several = len(call.context.clients) > 1
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    for client in clients:
        for peer in found.get(client.workspace_id, []):
            row = _peer_row(peer)
            via = f", via: {short_id(client.workspace_id)}" if several else ""
            lines.append(
                f"- {row['name']} (ID: {row['id']}, status: {row['status']}, role: {row['role'] or 'none'}{via})"
            )
            rows.append({**row, "via": client.workspace_id})
    lines += [f"- [{short_id(workspace_id)}] {problem}" for workspace_id, problem in problems.items()]
    structured: dict[str, Any] = {"peers": rows}
    if problems:
        structured["problems"] = problems
    if not lines:
        # "No peers" is what templates look for (contract `consumers.md` 1.2.8).
        lines = ["No peers: no other workspace of your team is your parent, sibling or child."]
    return ToolResult(text=bounded("\n".join(lines)), structured=structured, is_error=bool(problems) and not found)


async def get_workspace_info(call: Call[WorkspaceArguments]) -> ToolResult:
    """Return the platform's row of the acting workspace."""
    client = call.client
    try:
        workspace = await client.workspace()
    except GoneError:
        raise ToolRefusedError(
            f"workspace {client.workspace_id} was removed from the platform; connect a new one and use its id and token"
        ) from None
    return as_json(workspace.model_dump(mode="json", exclude_none=True))


async def get_runtime_identity(call: Call[NoArguments]) -> ToolResult:
    """Return what this process is, and how its workspaces are; never asks the platform."""
    status = call.context.served_status
    # Beside the seven values, which are always there (contract `runtime.md` 7.8).
    return as_json({**(status() if status is not None else {}), **call.context.identity.to_json()})


async def update_agent_card(call: Call[UpdateAgentCard]) -> ToolResult:
    """Replace the agent card of the acting workspace."""
    response = await call.client.update_card(call.arguments.card)
    return as_json({"success": True, "status": response.status})


async def chat_history(call: Call[ChatHistory]) -> ToolResult:
    """Return the conversation with a peer, oldest first."""
    client = call.client
    peer_id = peer_id_of(call.arguments.peer_id, "peer_id")
    rows = await client.activity(peer_id=peer_id, limit=call.arguments.limit, before_ts=call.arguments.before_ts)
    messages = [history_row(row, client.workspace_id) for row in chronological(rows)]
    return as_json_list("messages", messages, keep="last")


def chronological(rows: Sequence[wire.ActivityRow]) -> list[wire.ActivityRow]:
    """Return activity rows oldest first, by the platform's own count where every row has one."""
    if all(row.seq is not None for row in rows):
        return sorted(rows, key=lambda row: row.seq or 0)
    return sorted(rows, key=lambda row: (_moment(row.created_at), row.created_at))


def _moment(text: str) -> datetime:
    # Not compared as text: a Go server writes no trailing zeros, so 09:00:00.1Z would come after 09:00:00.12Z.
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _peer_row(peer: wire.Peer) -> dict[str, Any]:
    card = peer.agent_card or {}
    return {
        "id": peer.id,
        # A peer chose its name: it is shown, so it is made safe to show.
        "name": display_name(peer.name) or display_name(card.get("name")) or peer.id,
        "role": display_name(peer.role),
        "status": peer.status or "unknown",
        "description": bounded(str(card.get("description") or ""), 512),
        "skills": _skill_names(card.get("skills")),
    }


def _skill_names(skills: object) -> list[str]:
    """Read the skills of a card, which may be strings or objects (contract `consumers.md` 5.7)."""
    if not isinstance(skills, list):
        return []
    names = [_skill_name(skill) for skill in cast("list[object]", skills)[:32]]
    return [name for name in names if name]


def _skill_name(skill: object) -> str | None:
    if isinstance(skill, Mapping):
        fields = cast("Mapping[str, object]", skill)
        return display_name(fields.get("name")) or display_name(fields.get("id"))
    return display_name(skill)


def _peers_problem(client: PlatformClient, exc: PlatformError) -> str:
    """Say why there is no list: a refused token must not look like having no peers (contract `runtime.md` 7.6)."""
    match exc:
        case CredentialRejectedError():
            return (
                f"the platform refused the token of workspace {client.workspace_id}: it may be revoked; "
                "a new one is in the platform's Connect dialog"
            )
        case NotFoundError():
            return f"workspace {client.workspace_id} is not registered at {client.target.platform_url}"
        case _:
            return str(exc)


def history_row(row: wire.ActivityRow, own_id: str) -> dict[str, Any]:
    """Return an activity row as one message of a conversation."""
    sent = row.source_id == own_id
    asked: object = row.request_body
    request = envelope.read_message(asked).text
    if not request and isinstance(asked, Mapping):
        # Rows that an agent wrote itself carry {"task": ...} (contract `runtime.md` 7.5).
        request = str(cast("Mapping[str, object]", asked).get("task") or "")
    answered: object = row.response_body
    answer = envelope.read_answer(answered) if answered is not None else None
    reply = answer.text if isinstance(answer, envelope.Reply) else ""
    data: dict[str, Any] = {
        "activity_id": row.id,
        "direction": "sent" if sent else "received",
        "activity_type": row.activity_type,
        "method": row.method or "",
        "source_id": row.source_id,
        "target_id": row.target_id,
        "text": bounded(request or row.summary or "", _MAX_HISTORY_TEXT_BYTES),
        "reply": bounded(reply, _MAX_HISTORY_TEXT_BYTES),
        "status": row.status,
        "created_at": row.created_at,
    }
    return {key: value for key, value in data.items() if value not in (None, "")}
