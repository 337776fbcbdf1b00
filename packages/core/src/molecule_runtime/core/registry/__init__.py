"""The registry of tools: names, arguments, permissions and usage, once for every adapter.

Importing it is cheap: the models that validate arguments, and with them pydantic, load on first use. Adapters outside
this repository import `molecule_runtime.mcp_schemas` instead.
"""

from molecule_runtime.core.registry.spec import (
    A2A_SECTION,
    DISPLAY_SECTION,
    INBOX_SECTION,
    MEMORY_SECTION,
    WORK_SECTION,
    Permission,
    ToolAnnotations,
    ToolSpec,
)
from molecule_runtime.core.registry.tools import TOOLS, arguments_model, by_name, in_section, tool_names

__all__ = [
    "A2A_SECTION",
    "DISPLAY_SECTION",
    "INBOX_SECTION",
    "MEMORY_SECTION",
    "TOOLS",
    "WORK_SECTION",
    "Permission",
    "ToolAnnotations",
    "ToolSpec",
    "arguments_model",
    "by_name",
    "in_section",
    "tool_names",
]
