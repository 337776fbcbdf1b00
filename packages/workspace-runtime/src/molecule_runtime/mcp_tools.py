"""The predecessor's `mcp_tools`: the tools of the registry in the shapes of MCP and OpenAI."""

from molecule_runtime.mcp_schemas import MOLECULE_MCP_TOOLS, PERMISSION_MAP, openai_function_tools

__all__ = ["MOLECULE_MCP_TOOLS", "PERMISSION_MAP", "openai_function_tools"]
