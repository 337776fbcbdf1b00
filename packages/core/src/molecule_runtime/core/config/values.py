"""The types of values in `config.yaml`, and what each of them accepts in words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import date
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema
from pydantic.fields import FieldInfo

from molecule_runtime.core.redaction import redact_text

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def _text(value: object) -> object:
    """Keep `version: 1.0` and `version: 2026-07-01` text where YAML reads a number and a date."""
    return str(value) if isinstance(value, (int, float, date)) and not isinstance(value, bool) else value


def _clean(value: str) -> str:
    if any(ord(character) < 32 and character not in "\t\n\r" for character in value):
        raise ValueError("must not hold control characters")
    return value


def _frozen(values: Sequence[Any]) -> Sequence[Any]:
    return tuple(values)


def _lower(value: object) -> object:
    # YAML 1.1 reads a bare `off` as false; from a file the text itself arrives here, from Python code the value.
    if value is False:
        return "off"
    return value.strip().lower() if isinstance(value, str) else value


def _level(value: object) -> object:
    text = value.strip().upper() if isinstance(value, str) else value
    return "WARNING" if text == "WARN" else text


def _variable(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be the name of an environment variable (letters, digits and _), not its value")
    if redact_text(value) != value:
        raise ValueError("must be the name of an environment variable; this looks like its value")
    return value


def _folder_name(value: object) -> object:
    if isinstance(value, Mapping):
        value = cast("Mapping[str, object]", value).get("name")
        if value is None:
            raise ValueError("must have a 'name'")
    return _text(value)


def _plain_name(value: str) -> str:
    if not value.strip() or value in {".", ".."} or "/" in value or "\\" in value:
        raise ValueError("must be the name of one folder, without a path")
    return value


def _named(key: str) -> BeforeValidator:
    """Accept `- x` for `- {key: x}`."""

    def expand(value: object) -> object:
        # A bare `off` is false to YAML 1.1.
        text = "off" if value is False else _text(value)
        return {key: text} if isinstance(text, str) else value

    return BeforeValidator(expand)


def _clamped(low: float, high: float) -> AfterValidator:
    def clamp(value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("must be a number")
        return min(max(value, low), high)

    return AfterValidator(clamp)


Text = Annotated[
    str, BeforeValidator(_text), AfterValidator(_clean), WithJsonSchema({"type": ["string", "number", "boolean"]})
]
Texts = Annotated[Sequence[Text], AfterValidator(_frozen)]
VariableName = Annotated[Text, AfterValidator(_variable), WithJsonSchema({"type": "string"})]
VariableNames = Annotated[Sequence[VariableName], AfterValidator(_frozen)]
SkillName = Annotated[
    str,
    BeforeValidator(_folder_name),
    AfterValidator(_plain_name),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["string", "number", "boolean"]},
                {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            ]
        }
    ),
]
Whatever = Annotated[Sequence[Any], AfterValidator(_frozen)]
"""A list that the runtime keeps and does not look into."""

AnyCase = BeforeValidator(_lower)
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_level)]
Effort = Annotated[Literal["", "low", "medium", "high", "xhigh", "max"], AnyCase]
ScalarOr = _named
Clamped = _clamped
Frozen = AfterValidator(_frozen)

Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
SecondsOrNone = Annotated[float, Field(ge=0)]


def unwrapped(annotation: Any) -> Any:
    """Return the annotation without `Annotated` and `| None`."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in {Union, UnionType}:
            rest = [member for member in get_args(annotation) if member is not type(None)]
            if len(rest) != 1:
                return annotation
            annotation = rest[0]
        else:
            return annotation


def item_of(annotation: Any) -> Any:
    """Return the annotation of the items of a list or of the values of a mapping; None where there are none."""
    bare = unwrapped(annotation)
    origin = get_origin(bare)
    arguments = get_args(bare)
    if origin in {list, tuple, Sequence}:
        return arguments[0] if arguments else Any
    if origin in {dict, Mapping}:
        return arguments[1] if arguments else Any
    return None


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the block that an annotation names, or None."""
    bare = unwrapped(annotation)
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def is_text(annotation: Any) -> bool:
    """Tell whether the text of the file is the value, whatever YAML makes of it."""
    bare = unwrapped(annotation)
    if get_origin(bare) is Literal:
        return all(isinstance(value, str) for value in get_args(bare))
    return bare is str


def in_words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what a value must be, for messages and the reference: `a whole number from 1 to 65535`."""
    if isinstance(annotation, FieldInfo):
        return in_words(annotation.annotation, annotation.metadata)
    facts = [*metadata, *_metadata(annotation)]
    bare = unwrapped(annotation)
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(value or '""' for value in get_args(bare))
    if bare is bool:
        return "true or false"
    if bare in {int, float}:
        return ("a whole number" if bare is int else "a number") + _range(facts)
    if bare is str:
        return "text"
    if model_of(bare) or get_origin(bare) in {dict, Mapping} or bare is dict:
        return "a mapping"
    item = item_of(bare)
    if item is not None:
        return "a list" if unwrapped(item) is Any else f"a list of {_plural(item)}"
    return "any value"


def _plural(item: Any) -> str:
    if model_of(item):
        return "mappings"
    return {str: "texts", int: "whole numbers", float: "numbers", dict: "mappings"}.get(
        get_origin(unwrapped(item)) or unwrapped(item), "values"
    )


def _metadata(annotation: Any) -> list[Any]:
    found: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        for fact in more:
            found += fact.metadata if isinstance(fact, FieldInfo) else [fact]
    return found


def _range(facts: Sequence[Any]) -> str:
    bounds = {
        name: value
        for fact in facts
        for name in ("ge", "gt", "le", "lt")
        if (value := getattr(fact, name, None)) is not None
    }
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if low is None:
        return ""
    if high is not None:
        return f" from {low} to {high}"
    return f" above {low}" if "gt" in bounds else f" of at least {low}"
