"""The tool contract for adapters: names, schemas and permissions, each straight from the one registry.

This surface is stable. Adapters import it instead of `molecule_runtime.core.registry`, and fail closed when
`validate_adapter_schemas` reports a difference.
"""

from molecule_runtime.core.registry.views import (
    MOLECULE_MCP_TOOLS,
    PERMISSION_MAP,
    get_tool_schema,
    openai_function_tools,
    validate_adapter_schemas,
)

__all__ = [
    "MOLECULE_MCP_TOOLS",
    "PERMISSION_MAP",
    "get_tool_schema",
    "openai_function_tools",
    "validate_adapter_schemas",
]
