"""The JSON-RPC binding of A2A 1.0 and 0.3, on one endpoint (A2A 1.0, 9)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from a2a.types import SendMessageRequest
from a2a.utils.errors import InvalidRequestError, JSONParseError, MethodNotFoundError
from starlette.responses import Response

from molecule_runtime.a2a.answering import V0_3, V1_0, Unavailable, call_of, json_response, says_version, version_of
from molecule_runtime.a2a.inbound import INVALID_REQUEST, content_type_of, error_response, normalise, request_id_of
from molecule_runtime.a2a.methods import METHODS_0_3, METHODS_1_0
from molecule_runtime.a2a.once import be_impatient
from molecule_runtime.a2a.reading import read_body
from molecule_runtime.a2a.stream import stream_response
from molecule_runtime.a2a.wire_errors import INTERNAL_CODE, BadFieldError, json_rpc_error, known

if TYPE_CHECKING:
    from starlette.requests import Request

    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.methods import Method

logger = logging.getLogger(__name__)

_METHODS = {V1_0: METHODS_1_0, V0_3: METHODS_0_3}


async def handle(request: Request, handler: HostHandler | Unavailable) -> Response:
    """Answer one JSON-RPC request, with `handler` or with why there is none."""
    kind = content_type_of(request)
    if kind != "application/json" and not kind.endswith("+json"):
        message = "Content-Type must be application/json"
        return error_response(None, status=415, code=INVALID_REQUEST, message=message)
    try:
        body = read_body(await request.body())
    except JSONParseError as exc:
        return json_response(_envelope(None, error=json_rpc_error(exc, version=V0_3)))
    request_id = request_id_of(body)
    if isinstance(handler, Unavailable):
        # Contract `runtime.md` 11.1.
        error = {"code": INTERNAL_CODE, "message": handler.message}
        if handler.detail:
            error["data"] = handler.detail
        return json_response(_envelope(request_id, error=error), status=503, headers=handler.headers)
    # Only a caller of 1.0 or later says a version, and can be told that it is none of ours.
    version = V1_0 if says_version(request) else V0_3
    try:
        envelope = _checked(body)
        version = version_of(request)
        method, params = _method(envelope, version)
        if _is_notification(body):
            return await _unanswered(request, handler, method, params)
        return await _answered(request, handler, method, params, (request_id, version))
    except Exception as exc:  # whatever it was, it becomes an error of the protocol
        return json_response(_envelope(request_id, error=json_rpc_error(known(exc), version=version)))


async def _answered(
    request: Request, handler: HostHandler, method: Method, params: object, asked: tuple[object, str]
) -> Response:
    request_id, version = asked
    read = method.read(params)
    call = call_of(request, tenant=getattr(read, "tenant", ""))
    if version == V0_3 and not _insists(params):
        be_impatient(call)
    if method.events is not None:
        return await stream_response(
            method.events(handler, read, call),
            lambda event: _envelope(request_id, result=method.write(event)),
            lambda error: _envelope(request_id, error=json_rpc_error(error, version=version)),
            # The 0.3 clients read events without a name only.
            error_event="error" if version == V1_0 else None,
        )
    assert method.answer is not None  # noqa: S101 - a method has one of them
    return json_response(_envelope(request_id, result=method.write(await method.answer(handler, read, call))))


async def _unanswered(request: Request, handler: HostHandler, method: Method, params: object) -> Response:
    """Do what a notification asks for: it is not answered, not even with an error (JSON-RPC 2.0, 4.1)."""
    try:
        if method.answer is not None:
            read = method.read(params)
            call = call_of(request, tenant=getattr(read, "tenant", ""))
            if isinstance(read, SendMessageRequest):
                # Nobody waits.
                read.configuration.return_immediately = True
            await method.answer(handler, read, call)
    except Exception as exc:  # whatever it was, nobody asked
        logger.info("a notification was refused: %s", known(exc))
    return Response(status_code=204)


def _is_notification(body: object) -> bool:
    """Tell whether nobody waits for an answer; senders so old that they leave out `jsonrpc` leave out the id as well, and wait."""
    envelope = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    return "id" not in envelope and envelope.get("jsonrpc") == "2.0"


def _checked(body: object) -> dict[str, Any]:
    if isinstance(body, list):
        raise InvalidRequestError("batches are not served; send one request at a time")
    if not isinstance(body, dict):
        raise InvalidRequestError("the body must be an object")
    envelope = cast("dict[str, Any]", normalise(cast("dict[str, Any]", body)))
    if envelope.get("jsonrpc") != "2.0":
        raise InvalidRequestError("jsonrpc must be '2.0'")
    identifier = envelope.get("id")
    if identifier is not None and request_id_of(envelope) is None:
        raise InvalidRequestError("id must be a string or a whole number")
    if not isinstance(envelope.get("method"), str):
        raise InvalidRequestError("method must be a string")
    return envelope


def _method(envelope: dict[str, Any], version: str) -> tuple[Method, object]:
    name = envelope["method"]
    method = _METHODS[version].get(name)
    if method is None:
        other = V0_3 if version == V1_0 else V1_0
        hint = f"; it is one of A2A {other}: send A2A-Version: {other}" if name in _METHODS[other] else ""
        raise MethodNotFoundError(f"there is no method {name!r:.60} in A2A {version}{hint}")
    params = envelope.get("params")
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise BadFieldError("params", "must be an object")
    return method, cast("dict[str, Any]", params)


def _insists(params: object) -> bool:
    """Tell whether a 0.3 sender wants the answer itself; one that says nothing takes an acknowledgement as well."""
    configuration = cast("dict[str, Any]", params).get("configuration")
    return isinstance(configuration, dict) and cast("dict[str, Any]", configuration).get("blocking") is True


def _envelope(request_id: object, **answer: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, **answer}
