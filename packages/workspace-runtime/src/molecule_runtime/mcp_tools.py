"""The predecessor's `mcp_tools`: the registry in the shapes of MCP and OpenAI, and calls of it (contract `runtime.md` 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.mcp_schemas import MOLECULE_MCP_TOOLS, PERMISSION_MAP, openai_function_tools

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOLECULE_MCP_TOOLS", "PERMISSION_MAP", "handle_molecule_tool_call", "openai_function_tools"]


async def handle_molecule_tool_call(name: str, arguments: Mapping[str, Any] | None = None) -> str:
    """Call a tool as the workspace of this process and return what it says. Never raises for a failure: that is a text, too.

    A denial begins with `PERMISSION DENIED: RBAC:`, an unknown name with `Unknown tool: `. Arguments that the tool does not have, and
    those that are None, are left out.
    """
    # Late: the list of tools is asked for at import, by templates that never call one.
    from molecule_runtime.legacy import calling

    return await calling.call_text(name, arguments)
