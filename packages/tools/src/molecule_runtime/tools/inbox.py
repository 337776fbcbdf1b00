"""The inbox of messages that arrived for the served workspaces, as the tools see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.progress import ticking
from molecule_runtime.tools.result import ToolResult, as_json_list, bounded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molecule_runtime.core.registry.arguments import InboxPeek, InboxPop, WaitForMessage
    from molecule_runtime.tools.context import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxMessage:
    """One message that arrived (contract `runtime.md` 4.1).

    Attributes:
        activity_id: the platform's row; what `inbox_pop` takes.
        kind: `canvas_user` (the human), `peer_agent`, or `delegation_result`.
        peer_id: the sender's workspace, `""` for the human.
        arrival_workspace_id: which served workspace it came for.
        attachments: `{kind, uri, mime_type, name}` each, and `error` where the file could not be fetched.
        delivery_count: how often it was handed out, this time included; 0 before the first time.
        leased: somebody is handling it.
        pushed: the client was already sent it as a notification.
    """

    activity_id: str
    text: str
    kind: str
    peer_id: str
    method: str
    created_at: str
    arrival_workspace_id: str
    peer_name: str | None = None
    peer_role: str | None = None
    agent_card_url: str | None = None
    attachments: tuple[Mapping[str, Any], ...] = ()
    delivery_count: int = 0
    leased: bool = False
    pushed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the wire form: optional keys only where they have a value."""
        data: dict[str, Any] = {
            "activity_id": self.activity_id,
            "text": self.text,
            "peer_id": self.peer_id,
            "kind": self.kind,
            "method": self.method,
            "created_at": self.created_at,
        }
        optional = {
            "arrival_workspace_id": self.arrival_workspace_id,
            "peer_name": self.peer_name,
            "peer_role": self.peer_role,
            "agent_card_url": self.agent_card_url,
            "attachments": [dict(attachment) for attachment in self.attachments],
            "redelivered": self.delivery_count > 1,
            "delivery_count": self.delivery_count if self.delivery_count > 1 else 0,
            "leased": self.leased,
            "pushed": self.pushed,
        }
        data.update({key: value for key, value in optional.items() if value})
        return data


class Inbox(Protocol):
    """Where messages wait until the agent has dealt with them. At least once: only `pop` removes one."""

    async def wait(self, timeout: float, *, workspace_id: str | None = None) -> InboxMessage | None:
        """Return the oldest message that nobody is handling and lease it to the caller; None after `timeout` seconds."""
        ...

    async def peek(self, limit: int, *, workspace_id: str | None = None) -> Sequence[InboxMessage]:
        """Return waiting messages, oldest first, without leasing them."""
        ...

    async def pop(self, activity_id: str, *, workspace_id: str | None = None) -> bool:
        """Remove a message that was dealt with; False when it is not there."""
        ...

    def backpressure(self, *, workspace_id: str | None = None) -> str | None:
        """Say that no more messages are taken until some were popped; None while there is room."""
        ...


async def wait_for_message(call: Call[WaitForMessage]) -> ToolResult:
    """Wait for the next message. It stays in the inbox until `inbox_pop`."""
    wanted = call.arguments.timeout_secs
    most = call.context.max_wait
    timeout = wanted if most is None else min(wanted, most)
    only_for = _only_for(call)
    inbox = _inbox(call)
    async with ticking(call.progress, lambda: "no message yet"):
        message = await inbox.wait(timeout, workspace_id=only_for)
    data: dict[str, Any] = {"timeout": True, "timeout_secs": timeout} if message is None else _shown(message)
    if message is None and timeout < wanted:
        data["note"] = f"one call waits for {timeout:g} s at most; call wait_for_message again to go on waiting"
    if full := inbox.backpressure(workspace_id=only_for):
        data["backpressure"] = full
    return ToolResult(text=json.dumps(data, ensure_ascii=False), structured=data)


async def inbox_peek(call: Call[InboxPeek]) -> ToolResult:
    """List waiting messages."""
    only_for = _only_for(call)
    messages = await _inbox(call).peek(call.arguments.limit, workspace_id=only_for)
    shown = [_shown(message) for message in messages]
    full = _inbox(call).backpressure(workspace_id=only_for)
    if full and shown:
        # The answer is a list, so the first message says it.
        shown[0]["backpressure"] = full
    return as_json_list("messages", shown)


async def inbox_pop(call: Call[InboxPop]) -> ToolResult:
    """Remove a message that was dealt with."""
    activity_id = call.arguments.activity_id.strip()
    removed = await _inbox(call).pop(activity_id, workspace_id=_only_for(call))
    data = {"removed": removed, "activity_id": activity_id}
    return ToolResult(text=json.dumps(data), structured=data)


def _shown(message: InboxMessage) -> dict[str, Any]:
    return {**message.to_json(), "text": bounded(message.text)}


def _inbox(call: Call[Any]) -> Inbox:
    if call.context.inbox is None:
        raise ToolRefusedError(
            "inbox polling is not enabled in this process: a workspace host receives messages by push, and in molecule-mcp "
            "MOLECULE_MCP_DISABLE_INBOX turns it off"
        )
    return call.context.inbox


def _only_for(call: Call[Any]) -> str | None:
    chosen: str | None = call.arguments.acting_workspace_id
    if chosen is not None:
        call.context.client_of(chosen)
    return chosen
