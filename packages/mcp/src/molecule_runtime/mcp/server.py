"""The MCP server: every tool of the registry over the official SDK."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from mcp import types
from mcp.server import Server

from molecule_runtime.core import registry
from molecule_runtime.core.version import version_of
from molecule_runtime.mcp.instructions import instructions
from molecule_runtime.mcp.opening import DISTRIBUTION
from molecule_runtime.tools import dispatch

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from molecule_runtime.core.registry import ToolSpec
    from molecule_runtime.mcp.opening import Opened
    from molecule_runtime.mcp.settings import McpSettings

READS_INBOX = frozenset({"wait_for_message", "inbox_peek"})
"""An agent that calls these is not at work on the message that it has."""

SERVER_NAME = "molecule"
"""Contract `runtime.md` 5.3."""


def create_server(settings: McpSettings, opened: Opened) -> Server[Any]:
    """Return the MCP server over the registry; it owns nothing and starts nothing."""
    context = opened.context
    tools = [_tool(spec) for spec in registry.TOOLS]

    async def list_tools(
        ctx: ServerRequestContext[Any, Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=tools)

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        step = 0

        async def progress(text: str) -> None:
            nonlocal step
            step += 1
            await ctx.session.report_progress(step, None, text)

        began = time.monotonic()
        with opened.inbox.working() if opened.inbox is not None and params.name not in READS_INBOX else nullcontext():
            result = await dispatch(params.name, params.arguments, context, progress=progress)
        context.telemetry.mcp_call(params.name, time.monotonic() - began, result)
        return types.CallToolResult(
            content=[types.TextContent(type="text", text=result.text)],
            structured_content=dict(result.structured),
            is_error=result.is_error,
        )

    return Server(
        SERVER_NAME,
        version=version_of(DISTRIBUTION),
        title="Molecule",
        instructions=instructions(
            poll_hint=settings.poll_hint,
            workspace_ids=[target.id for target in settings.targets],
            inbox=context.inbox is not None,
            push=settings.push.fixed != "off",
        ),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.short,
        input_schema=spec.input_schema,
        output_schema=spec.output_schema,
        annotations=types.ToolAnnotations(
            read_only_hint=spec.annotations.read_only,
            destructive_hint=spec.annotations.destructive,
            idempotent_hint=spec.annotations.idempotent,
            open_world_hint=spec.annotations.open_world,
        ),
    )
