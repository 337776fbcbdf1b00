"""Reading requests and writing answers: bounded JSON in, JSON out, every refusal as `{error}` (contract 1.2)."""

from __future__ import annotations

import base64
import json
import math
import uuid
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

import anyio
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from molecule_runtime.core.errors import InvalidWorkspaceIdError
from molecule_runtime.core.identity import validate_workspace_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of a JSON body where the contract states no limit."""

MAX_STORED_INT = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly."""

MAX_NESTING = 200
"""Levels of what comes from outside."""

BODY_SECONDS = 60.0
"""How long a JSON body may take to arrive."""

_SHOWN_PROBLEMS = 10
_SHOWN_CHARS = 300
_DRAINED_BYTES = 8 * 1024 * 1024
_DRAIN_SECONDS = 5.0

_BEARER = "send `Authorization: Bearer <token>` with a live token of this workspace; `molecule-local token create ID` makes one"
_PEERS = "a workspace reaches its parent, its siblings and whoever is above or below it; GET /registry/:id/peers lists the nearest"
_REMEDIES = {
    "missing workspace auth token": _BEARER,
    "invalid workspace auth token": _BEARER,
    "missing caller auth token": "send `Authorization: Bearer <token>` with the sender's own token",
    "invalid caller auth token": "the bearer must be a live token of the workspace that X-Workspace-ID names",
    "admin auth required": "send the admin token, which is in the file `admin_token` of the data folder",
    "invalid admin auth token": "the admin token is in the file `admin_token` of the data folder",
    "invalid workspace ID": "an id has 1 to 128 lowercase letters, digits and hyphens",
    "workspace not found": "`molecule-local workspace list` shows the workspaces that are there",
    "invalid JSON": "the body must be one JSON object",
    "X-Workspace-ID header is required": "send the caller's own workspace id in X-Workspace-ID",
    "access denied: workspaces cannot communicate per hierarchy rules": _PEERS,
    "not authorized to discover this workspace": _PEERS,
    "workspace budget limit exceeded": "an admin raises it: PATCH /workspaces/:id/budget {budget_limit: cents, or null for no limit}",
}
"""What to do about a refusal whose text the contract fixes."""

_FALLBACKS = {
    400: "GET /openapi.json describes what this route takes",
    401: _BEARER,
    403: "ask as a workspace that may, or with the admin token",
    404: "it was removed, or never was; list what is there",
    408: "send the request at once",
    409: "read what is there now, and ask for something that agrees with it",
    410: "it is gone for good; forget what points to it",
    413: "send less at once",
    422: "GET /openapi.json describes what this route takes",
    429: "remove what is not needed any more, or ask again later",
    502: "look at the log of the agent that was asked",
    503: "try again in a while",
}
"""What to do about any other refusal."""

M = TypeVar("M", bound=BaseModel)


class Refusal(Exception):  # noqa: N818 - control flow: the answer that a handler gives instead of its own
    """Ends a handler with an error answer.

    Attributes:
        status: the HTTP status.
        body: the JSON body: `error` says what is wrong in the contract's words, `hint` what to do; the other keys are for programs.
        headers: further headers.
    """

    def __init__(
        self, status: int, error: str, /, *, headers: Mapping[str, str] | None = None, **fields: object
    ) -> None:
        super().__init__(error)
        self.status = status
        self.body: dict[str, Any] = {"error": error, **fields}
        if fields.get("hint") is None and (remedy := _REMEDIES.get(error) or _FALLBACKS.get(status)) is not None:
            self.body["hint"] = remedy
        self.headers = dict(headers or {})


def answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(dump(data), status, headers=headers, media_type="application/json")


def file_answer(data: bytes, *, name: str, media_type: str) -> Response:
    """Return a file, to be saved and never shown by a browser."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, headers=headers, media_type=media_type)


def raw_answer(body: bytes, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer whose JSON was written elsewhere."""
    return Response(body, status, headers=headers, media_type="application/json")


def base64_text(data: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(data).decode("ascii")


def dump(data: object) -> bytes:
    """Return JSON as UTF-8."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def loads(data: bytes | str) -> Any:
    """Read JSON strictly: no NaN or infinity, and half surrogate pairs, which nothing can store or send on, become U+FFFD as in Go.

    Raises:
        ValueError: it is not JSON, or too deeply nested.
    """
    text = data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
        return _without_half_pairs(value) if b"\\ud" in text or b"\\uD" in text else value
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse(data: bytes) -> Any:
    """Read JSON that comes from outside: as `loads`, and nested at most `MAX_NESTING` levels.

    What a reader of JSON just takes a writer does not once it stands inside something else, and would spoil every list that it is in.

    Raises:
        ValueError: it is not JSON, or too deeply nested.
    """
    value = loads(data)
    # Without so many brackets there cannot be so many levels; that is nearly always the case, and quickly seen.
    if data.count(b"[") + data.count(b"{") > MAX_NESTING and _is_deep(value):
        raise ValueError(f"nested more than {MAX_NESTING} levels deep")
    return value


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += cast("dict[str, object]", item).values()
            elif isinstance(item, list):
                inner += cast("list[object]", item)
        level = inner
    return any(isinstance(item, (dict, list)) for item in level)


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the request body.

    Raises:
        Refusal: 413 when it is larger than `limit` bytes, 408 when it takes longer than `BODY_SECONDS`.
    """
    chunks: list[bytes] = []
    size = 0
    stream = request.stream()
    with anyio.move_on_after(BODY_SECONDS) as scope:
        async for chunk in stream:
            size += len(chunk)
            if size > limit:
                break
            chunks.append(chunk)
    if scope.cancelled_caught:
        hint = f"send the whole body within {BODY_SECONDS:g} seconds"
        raise Refusal(408, "the request body did not arrive in time", hint=hint, headers={"Connection": "close"})
    if size > limit:
        chunks.clear()
        await drain(stream, _DRAINED_BYTES)
        raise Refusal(
            413,
            "request body too large",
            truncated=True,
            max_bytes=limit,
            hint=f"send at most {limit} bytes",
            headers={"Connection": "close"},
        )
    return b"".join(chunks)


async def drain(stream: AsyncIterator[bytes], most: int) -> None:
    """Read and throw away the rest of a body that is too large: at most so many bytes, and for a short while.

    A client that is still writing would see a broken connection instead of the answer.
    """
    size = 0
    with anyio.move_on_after(_DRAIN_SECONDS):
        async for chunk in stream:
            size += len(chunk)
            if size > most:
                return


async def read_object(
    request: Request, *, error: str = "invalid request body", limit: int = MAX_BODY_BYTES
) -> dict[str, Any]:
    """Return the request's JSON object.

    Raises:
        Refusal: 400 with the route's own text when it is not one.
    """
    try:
        data = parse(await read_body(request, limit))
    except ValueError as exc:
        raise Refusal(400, error, hint=f"the body is not JSON: {exc}"[:_SHOWN_CHARS]) from None
    if not isinstance(data, dict):
        raise Refusal(400, error, hint="the body must be a JSON object")
    return cast("dict[str, Any]", data)


def validate(model: type[M], data: Mapping[str, Any], *, error: str = "invalid request body") -> M:
    """Read an object as a wire model; nulls count as absent, and nothing is converted: `"5"` is no number and 1 is not true.

    Raises:
        Refusal: 400 with the route's own text when it does not fit.
    """
    try:
        return model.model_validate({key: value for key, value in data.items() if value is not None}, strict=True)
    except ValidationError as exc:
        # The contract's text is fixed (1.2); what to mend stands beside it, without values, which may be secrets.
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'the body'}: {problem['msg']}"
            for problem in exc.errors(include_url=False, include_input=False, include_context=False)[:_SHOWN_PROBLEMS]
        ]
        raise Refusal(400, error, hint="; ".join(problems)) from None


def workspace_id_of(request: Request) -> str:
    """Return the workspace id in the path.

    Raises:
        Refusal: 400 when it breaks the rule for ids.
    """
    return require_workspace_id(request.path_params["id"])


def require_workspace_id(value: str, *, error: str = "invalid workspace ID") -> str:
    """Return an id that keeps the rule as it stands, without stripping.

    Raises:
        Refusal: 400 when it breaks the rule.
    """
    try:
        checked = validate_workspace_id(value)
    except InvalidWorkspaceIdError:
        raise Refusal(400, error) from None
    if checked != value:
        raise Refusal(400, error)
    return checked


def limit_of(request: Request, *, default: int, ceiling: int) -> int:
    """Return `?limit=`: junk gives the default (contract 7.1), more than the ceiling the ceiling."""
    text = request.query_params.get("limit", "")
    if not text.isascii() or not text.isdigit() or int(text[:9]) == 0:
        return default
    return min(int(text[:9]), ceiling)


def require_uuid(value: str, *, error: str) -> str:
    """Return a UUID in its usual form.

    Raises:
        Refusal: 400 when it is none.
    """
    try:
        if str(uuid.UUID(value)) == value:
            return value
    except ValueError:
        pass
    raise Refusal(400, error, hint="it is a UUID, lowercase with hyphens")


def host_of(host_header: str) -> str:
    """Return the host of a `Host` header: lowercase, without port and brackets.

    Raises:
        ValueError: it is not a host.
    """
    parts = urlsplit(f"//{host_header}")
    _ = parts.port
    if parts.hostname is None or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{host_header!r} is not a host")
    return parts.hostname


def clamp(value: int, high: int = MAX_STORED_INT) -> int:
    """Keep a whole number within 0 and `high`, which fits the store."""
    return max(0, min(value, high))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _without_half_pairs(value: object) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_half_pairs(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {cast("str", _without_half_pairs(key)): _without_half_pairs(item) for key, item in items}
    return value
