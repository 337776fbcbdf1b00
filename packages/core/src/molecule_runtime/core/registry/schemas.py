"""The JSON Schema (2020-12) of a tool's arguments: read from the file in the wheel, derived from the model to write that file.

Reading is what every process does at start-up, and costs no pydantic.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from molecule_runtime.core.registry.arguments import ToolArguments

SCHEMAS_FILE = Path(__file__).with_name("schemas.json")
"""Written by `python -m molecule_runtime.core.registry.generate`."""


def resolve_model(arguments_path: str) -> "type[ToolArguments]":
    """Import the model that `module:Class` names."""
    module, _, name = arguments_path.partition(":")
    return cast("type[ToolArguments]", getattr(import_module(module), name))


def read_schemas(file: Path = SCHEMAS_FILE) -> dict[str, dict[str, Any]]:
    """Read the stored schemas by tool name; none when there is no such file, as inside a zip archive."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return cast("dict[str, dict[str, Any]]", json.loads(text))


def schema_of(name: str, arguments_path: str, *, stored: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the stored schema of a tool, or derive the one that is not stored: slower, never wrong."""
    schema = stored.get(name)
    return derive_schema(resolve_model(arguments_path)) if schema is None else schema


def derive_schema(model: "type[ToolArguments]") -> dict[str, Any]:
    """Derive a schema in the form that clients of every kind read well.

    No titles, no references, and an optional argument is one that is not required, never one that may be null.
    """
    raw = model.model_json_schema()
    schema = _simplify(raw, definitions=raw.get("$defs", {}))
    schema.pop("description", None)  # the docstring of the model; the tool has a description of its own
    return schema


def _simplify(node: dict[str, Any], *, definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if "$ref" in node:
        return _simplify(definitions[node["$ref"].rpartition("/")[2]], definitions=definitions)
    out = {key: value for key, value in node.items() if key not in {"$defs", "title"}}
    if out.get("default", ...) is None:
        del out["default"]
    if "properties" in out:
        out["properties"] = {
            name: _simplify(value, definitions=definitions) for name, value in out["properties"].items()
        }
    if "items" in out:
        out["items"] = _simplify(out["items"], definitions=definitions)
    if "anyOf" in out:
        options = [_simplify(option, definitions=definitions) for option in out.pop("anyOf")]
        options = [option for option in options if option != {"type": "null"}]
        out |= options[0] if len(options) == 1 else {"anyOf": options}
    return out
