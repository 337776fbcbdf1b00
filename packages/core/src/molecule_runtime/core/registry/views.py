"""The registry in the shapes that adapters speak, and the check that an adapter has not drifted from it."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, cast

from molecule_runtime.core.registry.tools import TOOLS

MOLECULE_MCP_TOOLS: list[dict[str, Any]] = [
    {"name": spec.name, "description": spec.short, "inputSchema": spec.input_schema} for spec in TOOLS
]
"""Every tool in the MCP shape. The schemas are the registry's own objects: copy one before changing it."""

PERMISSION_MAP: dict[str, str] = {spec.name: spec.permission for spec in TOOLS if spec.permission is not None}
"""The action that the caller's roles must allow, for each tool that is gated."""

_SCHEMAS = {spec.name: spec.input_schema for spec in TOOLS}


def get_tool_schema(name: str) -> dict[str, Any] | None:
    """Return the argument schema of a tool, the registry's own object; None for an unknown name."""
    return _SCHEMAS.get(name)


def openai_function_tools() -> list[dict[str, Any]]:
    """Return every tool in the function-calling shape of OpenAI.

    The result is the caller's own: provider libraries rewrite such schemas in place.
    """
    return [
        {
            "type": "function",
            "function": {
                "name": spec.name,
                "description": spec.short,
                "parameters": copy.deepcopy(spec.input_schema),
            },
        }
        for spec in TOOLS
    ]


def validate_adapter_schemas(tools: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Compare what an adapter declares with the registry. An adapter should refuse to start unless all lists are empty.

    Args:
        tools: Declarations in the MCP or the OpenAI function shape. One without a schema counts as changed.

    Returns:
        Sorted names: `missing` are declared by the adapter but unknown to the registry, `extra` are in the registry
        but not declared by the adapter, `changed` are in both with different schemas.

    Raises:
        ValueError: A declaration is in neither shape, or repeats a name; the message has its index.
    """
    declared: dict[str, object] = {}
    for index, entry in enumerate(tools):
        name, schema = _declaration(index, entry)
        if name in declared:
            raise ValueError(f"tools[{index}] declares {name!r} again")
        declared[name] = schema
    return {
        "missing": sorted(declared.keys() - _SCHEMAS.keys()),
        "extra": sorted(_SCHEMAS.keys() - declared.keys()),
        "changed": sorted(name for name in declared.keys() & _SCHEMAS.keys() if declared[name] != _SCHEMAS[name]),
    }


def _declaration(index: int, entry: object) -> tuple[str, object]:
    body = _mapping(entry, where=f"tools[{index}]")
    if "function" in body:
        body = _mapping(body["function"], where=f"tools[{index}]['function']")
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"tools[{index}] needs a non-empty string as 'name', not {name!r}")
    for key in ("inputSchema", "parameters"):
        if key in body:
            return name, _mapping(body[key], where=f"tools[{index}][{key!r}]")
    return name, None


def _mapping(value: object, *, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(  # noqa: TRY004 - one kind of error for everything that is wrong with a declaration
            f"{where} must be an object in the MCP or the OpenAI function shape, not {type(value).__name__}"
        )
    return cast("Mapping[str, object]", value)
