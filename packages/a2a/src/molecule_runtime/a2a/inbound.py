"""What older senders write, brought into the form of 0.3, and what they are told when they are not served."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.a2a.answering import json_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY_BYTES = 1024 * 1024
"""The proxy's own cap on a message (contract `platform-api.md` 21)."""

INVALID_REQUEST = -32600

_LEGACY_SENDS = {"message/send", "message/stream"}


def error_response(request_id: object, *, status: int, code: int, message: str) -> Response:
    """Build a JSON-RPC error answer."""
    error: dict[str, Any] = {"code": code, "message": message}
    return json_response({"jsonrpc": "2.0", "id": request_id, "error": error}, status=status)


def content_type_of(request: Request) -> str:
    """Return the media type that a request says its body has, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def request_id_of(body: object) -> str | int | None:
    """Return the JSON-RPC id of a body, or None when it has none that may be repeated."""
    identifier = cast("dict[str, Any]", body).get("id") if isinstance(body, dict) else None
    return identifier if isinstance(identifier, (str, int)) and not isinstance(identifier, bool) else None


def normalise(body: object) -> object:
    """Bring a 0.3 `message/send` or `message/stream` into the form that the SDK accepts; anything else stays as it is.

    Old senders key a part by `type` (contract `platform-api.md` 5.7), leave out the role or the message id, or put a file's
    fields into the part itself. Nothing that is present and valid is changed.
    """
    if not isinstance(body, dict):
        return body
    envelope = cast("dict[str, Any]", body)
    params = envelope.get("params")
    if envelope.get("method") not in _LEGACY_SENDS or not isinstance(params, dict):
        return envelope
    message = cast("dict[str, Any]", params).get("message")
    if not isinstance(message, dict):
        return envelope
    changed = dict(cast("dict[str, Any]", message))
    changed["kind"] = "message"
    changed["role"] = {"ROLE_USER": "user", "ROLE_AGENT": "agent"}.get(str(changed.get("role")), changed.get("role"))
    if not changed["role"]:
        changed["role"] = "user"
    if not isinstance(changed.get("messageId"), str) or not changed["messageId"]:
        changed["messageId"] = str(uuid.uuid4())
    parts = changed.get("parts")
    if isinstance(parts, list):
        changed["parts"] = [_part(part) for part in cast("list[object]", parts)]
    return {"jsonrpc": "2.0", **envelope, "params": {**cast("dict[str, Any]", params), "message": changed}}


def _part(part: object) -> object:
    if not isinstance(part, dict):
        return part
    changed = dict(cast("dict[str, Any]", part))
    if not changed.get("kind"):
        old = changed.pop("type", None)
        for kind in ("text", "file", "data"):
            if old == kind or (old is None and kind in changed):
                changed["kind"] = kind
                break
        else:
            if old is not None:
                changed["type"] = old
    if changed.get("kind") == "file" and "file" not in changed and isinstance(changed.get("uri"), str):
        fields = {name: changed.pop(name) for name in ("uri", "name", "mimeType") if name in changed}
        changed["file"] = fields
    return changed
