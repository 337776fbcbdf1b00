"""The JSON Schemas (2020-12) of a tool's arguments and results: read from the file in the wheel, which is derived from the models.

Reading is what every process does at start-up, and costs no pydantic.
"""

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pydantic import BaseModel

    from molecule_runtime.core.registry.results import ToolResults

SCHEMAS_FILE = Path(__file__).with_name("schemas.json")
"""Written by `python -m molecule_runtime.core.registry.generate`."""


def resolve_model(path: str) -> "type[BaseModel]":
    """Import the model that `module:Class` names."""
    module, _, name = path.partition(":")
    return cast("type[BaseModel]", getattr(import_module(module), name))


def resolve_results(path: str) -> "type[ToolResults]":
    """Import the model of results that `module:Class` names."""
    return cast("type[ToolResults]", resolve_model(path))


def read_schemas(file: Path = SCHEMAS_FILE) -> dict[str, dict[str, Any]]:
    """Read the stored schemas, `input` and `output` by tool name; none when there is no such file, as inside a zip archive."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return cast("dict[str, dict[str, Any]]", json.loads(text))


def schemas_of(
    name: str, arguments_path: str, results_path: str, *, stored: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the stored schemas of a tool's arguments and results, or derive those that are not stored: slower, never wrong."""
    schemas = stored.get(name)
    if schemas is None:
        return derive_schema(resolve_model(arguments_path)), derive_result_schema(resolve_results(results_path))
    return schemas["input"], schemas["output"]


def derive_schema(model: "type[BaseModel]") -> dict[str, Any]:
    """Derive the schema of arguments in the form that clients of every kind read well.

    No titles, no references, and an optional argument is one that is not required, never one that may be null.
    """
    raw = model.model_json_schema()
    schema = _simplify(raw, definitions=raw.get("$defs", {}))
    schema.pop("description", None)  # the docstring of the model; the tool has a description of its own
    return schema


def derive_result_schema(model: "type[ToolResults]") -> dict[str, Any]:
    """Derive the schema of results in few bytes: types and required keys alone, since a list of tools must fit into one line of 64 KiB."""
    raw = model.model_json_schema(mode="serialization")
    required = model.model_json_schema().get("required", [])
    schema = _types_of(raw, definitions=raw.get("$defs", {}))
    if required:
        schema["required"] = required
    if model.forms:
        schema["anyOf"] = [{"required": list(form)} for form in model.forms]
    return schema


def _types_of(node: dict[str, Any], *, definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if "$ref" in node:
        return _types_of(definitions[node["$ref"].rpartition("/")[2]], definitions=definitions)
    if "anyOf" in node:
        options = [_types_of(option, definitions=definitions) for option in node["anyOf"]]
        # A value that may be null may also be left out; where null is really sent, the type says so.
        kinds = [option["type"] for option in options]
        return {**options[0], "type": kinds}
    out: dict[str, Any] = {"type": node["type"]} if "type" in node else {}
    if "properties" in node:
        out["properties"] = {
            name: _types_of(value, definitions=definitions) for name, value in node["properties"].items()
        }
    if node.get("items"):
        out["items"] = _types_of(node["items"], definitions=definitions)
    return out


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
