"""What the tests of this wheel share: the context that tools run in, and calls of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from tests.support.tenants import WAIT_SECONDS, target

from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.tools import Permissions, ToolContext, ToolResult, dispatch
from molecule_runtime.tools.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.tenants import Member

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import Inbox

OPERATOR = Permissions(("operator",))


def context(
    pools: ConnectionPools,
    *served: tuple[str, Member],
    permissions: Permissions = OPERATOR,
    inbox: Inbox | None = None,
    delegation_timeout: float = 30.0,
    journal: Journal | None = None,
) -> ToolContext:
    """A context that serves workspaces at URLs."""
    clients = {member.id: PlatformClient(target(url, member), pools) for url, member in served}
    return ToolContext(
        clients=clients,
        permissions=permissions,
        inbox=inbox,
        delegation_timeout=delegation_timeout,
        journal=journal or Journal(),
    )


async def run(ctx: ToolContext, tool: str, **arguments: Any) -> ToolResult:
    """Call a tool the way a server does."""
    with anyio.fail_after(WAIT_SECONDS):
        return await dispatch(tool, arguments, ctx)


async def done(ctx: ToolContext, tool: str, **arguments: Any) -> ToolResult:
    """Call a tool that must not fail."""
    result = await run(ctx, tool, **arguments)
    assert not result.is_error, result.text
    return result


async def refused(ctx: ToolContext, tool: str, **arguments: Any) -> str:
    """Call a tool that must fail; returns why."""
    result = await run(ctx, tool, **arguments)
    assert result.is_error, result.text
    return result.text


def said(text: str) -> Mapping[str, Any]:
    """A JSON-RPC answer with a message."""
    message = {"kind": "message", "role": "agent", "messageId": "m-1", "parts": [{"kind": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": "1", "result": message}
