"""The JSON Schema of `config.yaml`, for editors: it accepts what the loader accepts."""

from __future__ import annotations

from typing import Any, cast

from molecule_runtime.core.config import blocks
from molecule_runtime.core.config.meanings import meanings_of
from molecule_runtime.core.config.model import WorkspaceConfig

_SHORTHAND = {"ModelEntry": "id", "HitlChannel": "type", "PluginEntry": "name"}
"""Rows that a text may stand for; see the model."""

_SCALAR = {"type": ["string", "number", "boolean"]}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `config.yaml`."""
    schema = WorkspaceConfig.model_json_schema(mode="validation")
    definitions = cast("dict[str, dict[str, Any]]", schema["$defs"])
    for name, definition in {"": schema, **definitions}.items():
        properties = cast("dict[str, dict[str, Any]]", definition.get("properties", {}))
        required = cast("list[str]", definition.get("required", []))
        meanings = meanings_of(getattr(blocks, name) if name else WorkspaceConfig)
        for key, rule in properties.items():
            rule.pop("title", None)
            if key in meanings:
                rule["description"] = meanings[key]
            _accept_shorthand(rule)
            if name == "" and key in {"security_scan", "compliance"}:
                block = rule.pop("$ref")
                mode = definitions[block.rpartition("/")[2]]["properties"]["mode"]
                rule["anyOf"] = [{"$ref": block}, {"enum": [*mode["enum"], "off", False]}]
            if key not in required:
                properties[key] = _or_null(rule)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "config.yaml of a molecule-runtime workspace",
    }


def _accept_shorthand(rule: dict[str, Any]) -> None:
    items = rule.get("items")
    if isinstance(items, dict):
        target = str(cast("dict[str, Any]", items).get("$ref", "")).rpartition("/")[2]
        if target in _SHORTHAND:
            rule["items"] = {"anyOf": [items, dict(_SCALAR)]}


def _or_null(rule: dict[str, Any]) -> dict[str, Any]:
    """A key that is present but null means its default."""
    if "$ref" in rule:
        reference = rule.pop("$ref")
        return {"anyOf": [{"$ref": reference}, {"type": "null"}], **rule}
    if "anyOf" in rule:
        if {"type": "null"} not in rule["anyOf"]:
            rule["anyOf"] = [*rule["anyOf"], {"type": "null"}]
    elif "enum" in rule:
        rule["enum"] = [*rule["enum"], None]
        rule.pop("type", None)
    elif "type" in rule:
        kinds: object = rule["type"]
        rule["type"] = [*(cast("list[str]", kinds) if isinstance(kinds, list) else [kinds]), "null"]
    return rule
