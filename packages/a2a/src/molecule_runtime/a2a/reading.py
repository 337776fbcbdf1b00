"""From the JSON of a request to the SDK's messages, with an error that names the field and none of a library's text."""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, TypeVar, cast

from a2a.types import ListTasksRequest, Message, Role, SendMessageRequest, TaskPushNotificationConfig, TaskState
from a2a.utils.errors import JSONParseError
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message as Protobuf
from google.protobuf.message_factory import GetMessageClass
from pydantic import BaseModel, ValidationError

from molecule_runtime.a2a.wire_errors import BadFieldError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor import Descriptor

_P = TypeVar("_P", bound=Protobuf)
_M = TypeVar("_M", bound=BaseModel)

_INTEGERS = frozenset(
    {
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_UINT64,
    }
)
_WELL_KNOWN = {
    "google.protobuf.Struct": "must be an object, of Unicode text and not nested too deeply",
    "google.protobuf.Value": "must be JSON, of Unicode text and not nested too deeply",
    "google.protobuf.Timestamp": "must be a time such as 2026-01-31T12:00:00.000Z",
}
_PROBLEMS = {"missing": "is required", "string_type": "must be a string", "list_type": "must be a list"}


def read_body(body: bytes) -> object:
    """Read JSON.

    Raises:
        JSONParseError: it is none.
    """
    try:
        return json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise JSONParseError("the body is not valid JSON") from None


def read_message(kind: type[_P], value: object, *, at: str = "params") -> _P:
    """Read a message of the protocol; unknown fields are no fault (A2A 1.0, 5.7).

    Raises:
        BadFieldError: it does not fit, or lacks what it must have.
    """
    if not isinstance(value, dict):
        raise BadFieldError(at or "the body", "must be an object")
    given = cast("dict[str, Any]", value)
    try:
        read = ParseDict(given, kind(), ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, RecursionError, AttributeError):
        field, problem = _misfit(cast("Descriptor", kind.DESCRIPTOR), given, at) or (at, "does not fit")
        raise BadFieldError(field, problem) from None
    if kind is ListTasksRequest:
        # A state that is not one would be none, and everything listed.
        state = given.get("status")
        if state is not None and state not in (*TaskState.keys(), *TaskState.values()):
            raise BadFieldError(_below(at, "status"), f"must be one of {', '.join(TaskState.keys())}")
    check(read, at=at)
    return read


def read_model(kind: type[_M], value: object) -> _M:
    """Read a request of A2A 0.3.

    Raises:
        BadFieldError: it does not fit.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as exc:
        # Of alternatives (the kinds of a part) the deepest fault is the one in the alternative that was meant.
        fault = max(exc.errors(include_url=False, include_context=False, include_input=False), key=_depth)
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in _steps(fault["loc"])).lstrip(
            "."
        )
        raise BadFieldError(field or "params", _PROBLEMS.get(fault["type"], "does not fit")) from None
    except RecursionError:
        raise BadFieldError("params", "is nested too deeply") from None


def check(read: Protobuf, *, at: str = "params") -> None:
    """Check what a request must have (A2A 1.0, 3.1 and 4.1).

    Raises:
        BadFieldError: a field is missing.
    """
    if isinstance(read, SendMessageRequest):
        if not read.HasField("message"):
            raise BadFieldError(_below(at, "message"), "is required")
        _check_message(read.message, _below(at, "message"))
        if read.configuration.HasField("task_push_notification_config"):
            _check_target(
                read.configuration.task_push_notification_config, _below(at, "configuration.taskPushNotificationConfig")
            )
    elif isinstance(read, TaskPushNotificationConfig):
        _require(read, ("task_id",), at)
        _check_target(read, at)
    else:
        _require(read, [name for name in ("task_id", "id") if name in read.DESCRIPTOR.fields_by_name], at)


def _check_message(message: Message, at: str) -> None:
    _require(message, ("message_id",), at)
    if message.role == Role.ROLE_UNSPECIFIED:
        raise BadFieldError(_below(at, "role"), "is required: ROLE_USER or ROLE_AGENT")
    if not message.parts:
        raise BadFieldError(_below(at, "parts"), "must have at least one part")
    for number, part in enumerate(message.parts):
        if part.WhichOneof("content") is None:
            raise BadFieldError(_below(at, f"parts[{number}]"), "must have one of text, raw, url and data")


def _check_target(config: TaskPushNotificationConfig, at: str) -> None:
    _require(config, ("url",), at)


def _below(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _require(message: Protobuf, names: Sequence[str], at: str) -> None:
    for name in names:
        if not getattr(message, name):
            raise BadFieldError(_below(at, message.DESCRIPTOR.fields_by_name[name].camelcase_name), "is required")


def _misfit(kind: Descriptor, value: object, at: str) -> tuple[str, str] | None:
    """Return the first field of a value that does not fit, and what is wrong with it."""
    if kind.full_name in _WELL_KNOWN:
        return None if _parses(kind, value) else (at, _WELL_KNOWN[kind.full_name])
    if not isinstance(value, dict):
        return at, "must be an object"
    given = cast("dict[str, object]", value)
    fields = {name: field for field in kind.fields for name in (field.camelcase_name, field.name)}
    chosen: dict[str, list[str]] = {}
    for name, item in given.items():
        field = fields.get(name)
        if field is None or item is None:
            continue
        if field.containing_oneof is not None:
            chosen.setdefault(field.containing_oneof.name, []).append(name)
        found = _misfit_field(field, item, _below(at, name))
        if found is not None:
            return found
    for names in chosen.values():
        if len(names) > 1:
            return at, f"must have only one of {' and '.join(names)}"
    return None


def _parses(kind: Descriptor, value: object) -> bool:
    try:
        ParseDict(cast("dict[str, Any]", value), GetMessageClass(kind)(), ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, RecursionError, AttributeError):
        return False
    return True


def _misfit_field(field: FieldDescriptor, value: object, at: str) -> tuple[str, str] | None:
    # The class of the repeated fields of a protobuf version that has no `is_repeated`.
    repeated = getattr(field, "is_repeated", None)
    if repeated if repeated is not None else getattr(field, "label", None) == FieldDescriptor.LABEL_REPEATED:
        if not isinstance(value, list):
            return at, "must be a list"
        for number, item in enumerate(cast("list[object]", value)):
            found = _misfit_one(field, item, f"{at}[{number}]")
            if found is not None:
                return found
        return None
    return _misfit_one(field, value, at)


def _misfit_one(field: FieldDescriptor, value: object, at: str) -> tuple[str, str] | None:
    if field.message_type is not None:
        return _misfit(field.message_type, value, at)
    if field.type == FieldDescriptor.TYPE_STRING:
        return None if isinstance(value, str) and _is_unicode(value) else (at, "must be a string of Unicode text")
    if field.type == FieldDescriptor.TYPE_BOOL:
        return None if isinstance(value, bool) else (at, "must be true or false")
    if field.type == FieldDescriptor.TYPE_BYTES:
        return None if _is_base64(value) else (at, "must be a string of base64")
    if field.type == FieldDescriptor.TYPE_ENUM:
        return None if isinstance(value, str) else (at, "must be one of the names of the specification")
    if field.type in _INTEGERS:
        return None if _is_integer(value) else (at, "must be a whole number of at most 32 bits")
    return at, "does not fit"


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_base64(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (ValueError, binascii.Error):
        return False
    return True


def _is_integer(value: object) -> bool:
    if isinstance(value, str):
        value = int(value) if value.lstrip("-").isdecimal() and len(value) < 12 else None
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1 and abs(value) < 2**31
    )


def _no_number(name: str) -> float:
    raise ValueError(name)


def _depth(fault: Any) -> int:
    return len(_steps(fault["loc"]))


def _steps(location: Sequence[int | str]) -> list[int | str]:
    """Leave the names of alternative classes out of a path; fields begin with a small letter."""
    return [step for step in location if isinstance(step, int) or step[:1].islower()]
