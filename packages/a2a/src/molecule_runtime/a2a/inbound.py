"""What stands in front of the SDK: size and type of a request, and the shapes of older senders brought into the 0.3 form."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from molecule_runtime.a2a.once import patient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Receive

MAX_BODY_BYTES = 1024 * 1024
"""The proxy's own cap on a message (contract `platform-api.md` 21)."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603

_VERSION_HEADER = b"a2a-version"
_LEGACY_SENDS = {"message/send", "message/stream"}


class RefusedError(Exception):
    """A request that never reaches the SDK; a control-flow signal of this module."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def error_response(
    request_id: object, *, status: int, code: int, message: str, data: str = "", retry_after: int | None = None
) -> Response:
    """Build a JSON-RPC error answer."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data:
        error["data"] = data
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status_code=status, headers=headers)


async def read_json(request: Request) -> object:
    """Read a JSON body of at most `MAX_BODY_BYTES`.

    Raises:
        RefusedError: not declared as JSON, too large, or not JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise RefusedError(415, INVALID_REQUEST, "Content-Type must be application/json")
    declared = request.headers.get("content-length", "")
    too_large = RefusedError(413, INVALID_REQUEST, f"the body is larger than {MAX_BODY_BYTES} bytes")
    if declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise too_large
        chunks.append(chunk)
    try:
        return json.loads(b"".join(chunks))
    except (ValueError, RecursionError):
        raise RefusedError(200, PARSE_ERROR, "the body is not valid JSON") from None


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


def replay(request: Request, body: object) -> Request:
    """Return the request with `body` in place of the one that was read, and the protocol version that its method implies."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    sent = False
    original: Receive = request.receive

    async def receive() -> Message:
        nonlocal sent
        if sent:
            return await original()
        sent = True
        return {"type": "http.request", "body": content, "more_body": False}

    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(content)).encode()))
    method = cast("dict[str, Any]", body).get("method") if isinstance(body, dict) else None
    if isinstance(method, str) and method[:1].isupper() and _VERSION_HEADER not in dict(headers):
        # The header is how the SDK tells 1.0 from 0.3, and senders forget it; only 1.0 methods begin with a capital.
        headers.append((_VERSION_HEADER, b"1.0"))
    return Request({**request.scope, "headers": headers}, receive)


async def handle(
    request: Request, serve: Callable[[Request], Awaitable[Response]], refuse: Callable[[object], Response | None]
) -> Response:
    """Answer one JSON-RPC request.

    Args:
        request: as it arrived.
        serve: the SDK's endpoint.
        refuse: given the request id, returns the answer of a host that cannot serve, or None when it can.
    """
    try:
        body = await read_json(request)
    except RefusedError as exc:
        return error_response(None, status=exc.status, code=exc.code, message=str(exc))
    refusal = refuse(request_id_of(body))
    if refusal is not None:
        return refusal
    patient.set(_asks_to_wait(body))
    return await serve(replay(request, normalise(body)))


def _asks_to_wait(body: object) -> bool:
    """Tell whether the sender wants the answer itself; a 0.3 sender that says nothing takes an acknowledgement as well."""
    envelope = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    if envelope.get("method") != "message/send":
        return True
    params = envelope.get("params")
    configuration = cast("dict[str, Any]", params).get("configuration") if isinstance(params, dict) else None
    return isinstance(configuration, dict) and cast("dict[str, Any]", configuration).get("blocking") is True


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
