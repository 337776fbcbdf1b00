"""Completion of workspace ids, peers and message ids, in the arguments of prompts and in the URIs of resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio
import mcp_types as types

from molecule_runtime.core.errors import PlatformError
from molecule_runtime.core.identity import display_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.mcp.opening import Opened

MAX_VALUES: Final = 100
"""MCP, "Completion"."""

PEERS_SECONDS: Final = 3.0
"""A person is typing: what a platform has not said by then is left out."""


async def complete(params: types.CompleteRequestParams, opened: Opened) -> types.CompleteResult:
    """Return the values that begin with, or hold, what was typed."""
    context = params.context.arguments if params.context is not None else None
    typed = params.argument.value.strip().lower()
    match params.argument.name:
        case "workspace" | "workspace_id":
            values: Iterable[str] = opened.context.clients
        case "peer":
            values = await _peers(opened, (context or {}).get("workspace"))
        case "activity_id":
            values = await _messages(opened, (context or {}).get("workspace_id"))
        case _:
            values = ()
    found = list(dict.fromkeys(value for value in values if typed in value.lower()))
    found.sort(key=lambda value: not value.lower().startswith(typed))
    shown = found[:MAX_VALUES]
    return types.CompleteResult(
        completion=types.Completion(values=shown, total=len(found), has_more=len(found) > len(shown))
    )


async def _peers(opened: Opened, workspace_id: str | None) -> list[str]:
    """Return ids and names of the peers of one workspace, or of all; a tenant that does not answer in time has none."""
    clients = [
        client for client in opened.context.clients.values() if not workspace_id or client.workspace_id == workspace_id
    ][:MAX_VALUES]
    found: dict[str, list[str]] = {}

    async def ask(client: PlatformClient) -> None:
        try:
            peers = await client.peers()
        except PlatformError:
            return
        names = [display_name(peer.name) for peer in peers]
        found[client.workspace_id] = [*(peer.id for peer in peers), *(name for name in names if name)]

    with anyio.move_on_after(PEERS_SECONDS):
        async with anyio.create_task_group() as group:
            for client in clients:
                group.start_soon(ask, client)
    return [value for client in clients for value in found.get(client.workspace_id, ())]


async def _messages(opened: Opened, workspace_id: str | None) -> list[str]:
    if opened.inbox is None or (workspace_id and workspace_id not in opened.context.clients):
        return []
    messages = await opened.inbox.peek(MAX_VALUES, workspace_id=workspace_id or None)
    return [message.activity_id for message in messages]
