"""Compares what a file holds with the model: keys that nothing knows, and what a wrong value should have been."""

from __future__ import annotations

import difflib
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from pydantic.fields import FieldInfo

from molecule_runtime.core.config.blocks import Block
from molecule_runtime.core.config.findings import dotted, shown
from molecule_runtime.core.config.model import WorkspaceConfig
from molecule_runtime.core.config.values import in_words, item_of, model_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from molecule_runtime.core.config.findings import KeyPath

_MAX_UNKNOWN = 100
"""Findings about unknown keys; more tell nobody anything."""

_NEAR, _VERY_NEAR = 0.75, 0.9
_MAX_COMPARED = 64


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a block under the names that they have in the file."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def annotation_at(model: type[BaseModel], path: KeyPath) -> Any:
    """Return what the model says about the value at a path: a field, the type of an item, or None."""
    current: Any = model
    for part in path:
        owner = model_of(current.annotation if isinstance(current, FieldInfo) else current)
        if isinstance(part, str) and owner is not None:
            current = fields_of(owner).get(part)
        else:
            current = item_of(current.annotation if isinstance(current, FieldInfo) else current)
        if current is None:
            return None
    return current


def rule_of(
    path: KeyPath, error: Mapping[str, Any], *, quoted: bool, model: type[BaseModel] = WorkspaceConfig
) -> tuple[str, str]:
    """Say what the value at a path must be, and what to do about it."""
    rule = annotation_at(model, path)
    default = _default(rule)
    remedy = f"correct it, or remove the key for the default ({default})" if default else "correct it"
    own = error.get("ctx", {}).get("error")
    if error["type"] == "value_error" and own is not None:
        return str(own), remedy
    message = f"must be {in_words(rule)}" if rule is not None else "has the wrong type"
    if error["type"] == "string_pattern_mismatch" and default:
        message = f"must be written like {default}"
    return message, "remove the quotes" if quoted else remedy


def unknown_keys(
    data: Mapping[str, Any], model: type[BaseModel] = WorkspaceConfig, path: KeyPath = ()
) -> Iterator[tuple[KeyPath, str]]:
    """Yield each key that the model does not have and the key that was probably meant, or `""`."""
    yield from islice(_unknown(data, model, path), _MAX_UNKNOWN)


def _unknown(data: Mapping[str, Any], model: type[BaseModel], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    fields = fields_of(model)
    owned_by_others = issubclass(model, Block) and model.open_keys
    for key, value in data.items():
        info = fields.get(key)
        here = (*path, key)
        if info is not None:
            yield from _below(value, info.annotation, here)
        elif not key.startswith(("x-", ".")):
            # Keys that begin so hold anchors by convention.
            known = set(fields) - set(data) if owned_by_others else set(fields)
            near = _near(key, known, _VERY_NEAR if owned_by_others else _NEAR)
            if near:
                yield here, dotted((*path, near))
            elif not owned_by_others:
                yield here, _elsewhere().get(key, "") if model is WorkspaceConfig else ""


def _below(value: object, annotation: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    model = model_of(annotation)
    if isinstance(value, dict):
        if model is not None:
            yield from _unknown(cast("Mapping[str, Any]", value), model, path)
    elif isinstance(value, list) and model_of(item_of(annotation)) is not None:
        for index, item in enumerate(cast("list[object]", value)):
            yield from _below(item, item_of(annotation), (*path, index))


def _near(key: str, known: set[str], cutoff: float) -> str:
    close = difflib.get_close_matches(key[:_MAX_COMPARED].lower(), sorted(known), n=1, cutoff=cutoff)
    return close[0] if close else ""


@cache
def _elsewhere() -> dict[str, str]:
    """Return where a key belongs that stands at the top by mistake: keys that exactly one block has."""
    places: dict[str, list[str]] = {}
    for block, info in fields_of(WorkspaceConfig).items():
        model = model_of(info.annotation)
        if model is not None:
            for key in fields_of(model):
                places.setdefault(key, []).append(f"{block}.{key}")
    return {key: found[0] for key, found in places.items() if len(found) == 1}


def _default(rule: object) -> str:
    if not isinstance(rule, FieldInfo) or rule.is_required():
        return ""
    value = rule.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, float):
        return f"{value:g}"
    return shown(value) if isinstance(value, (str, int, float)) and value != "" else ""
