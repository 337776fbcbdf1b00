"""The predecessor's `platform_agent_identity`: the management server's names, and which MCP tools an engine has loaded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from molecule_runtime.core.adapter.mcp_spec import (
    MANAGEMENT_MCP_NAME,
    MANAGEMENT_PROVISION_TOOL_ID,
    REQUIRED_TOOL,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "MANAGEMENT_MCP_NAME",
    "MANAGEMENT_PROVISION_TOOL_ID",
    "REQUIRED_TOOL",
    "loaded_mcp_tools",
    "set_loaded_mcp_tools",
]

_lock = threading.Lock()
_loaded: list[str] | None = None


def set_loaded_mcp_tools(tools: Iterable[str] | None) -> None:
    """Keep the ids of the MCP tools that an engine has loaded; None for not known, which is not the same as none."""
    global _loaded
    with _lock:
        _loaded = None if tools is None else list(tools)


def loaded_mcp_tools() -> list[str] | None:
    """Return what was kept; None before that."""
    with _lock:
        return None if _loaded is None else list(_loaded)
