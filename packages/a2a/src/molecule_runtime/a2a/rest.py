"""The HTTP+JSON binding of A2A 1.0 (its section 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from a2a.utils.errors import InvalidRequestError, JSONParseError, VersionNotSupportedError
from starlette.routing import Route

from molecule_runtime.a2a.answering import V1_0, Unavailable, call_of, json_response, version_of
from molecule_runtime.a2a.inbound import content_type_of
from molecule_runtime.a2a.methods import METHODS_1_0
from molecule_runtime.a2a.reading import read_body
from molecule_runtime.a2a.stream import stream_response
from molecule_runtime.a2a.wire_errors import BadFieldError, MediaTypeError, http_status_of, known, rest_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.a2a.handler import HostHandler

MEDIA_TYPE = "application/a2a+json"
"""A2A 1.0, 11.1 and 14.1."""

_JSON_TYPES = frozenset({MEDIA_TYPE, "application/json"})

_TRUTHS = {"true": True, "false": False}
_NUMBERS = frozenset({"pageSize", "historyLength"})
_PARAMETERS = {
    "GetTask": frozenset({"historyLength"}),
    "ListTasks": frozenset(
        {
            "contextId",
            "status",
            "pageSize",
            "pageToken",
            "historyLength",
            "statusTimestampAfter",
            "includeArtifacts",
        }
    ),
    "ListTaskPushNotificationConfigs": frozenset({"pageSize", "pageToken"}),
}
"""What each operation takes from the query (A2A 1.0, 11.5)."""


@dataclass(frozen=True, slots=True)
class _Operation:
    """A method, and where on the path its parameters are."""

    method: str
    verb: str
    path: str
    names: tuple[tuple[str, str], ...] = ()


_ID, _TASK = (("id", "id"),), ("task_id", "taskId")
_CONFIGS = "/tasks/{task_id}/pushNotificationConfigs"

OPERATIONS = (
    _Operation("SendMessage", "POST", "/message:send"),
    _Operation("SendStreamingMessage", "POST", "/message:stream"),
    _Operation("ListTasks", "GET", "/tasks"),
    _Operation("CancelTask", "POST", "/tasks/{id}:cancel", _ID),
    _Operation("SubscribeToTask", "POST", "/tasks/{id}:subscribe", _ID),
    # The specification says both of the verb (11.3.2 and the service definition).
    _Operation("SubscribeToTask", "GET", "/tasks/{id}:subscribe", _ID),
    _Operation("GetTask", "GET", "/tasks/{id}", _ID),
    _Operation("CreateTaskPushNotificationConfig", "POST", _CONFIGS, (_TASK,)),
    _Operation("ListTaskPushNotificationConfigs", "GET", _CONFIGS, (_TASK,)),
    _Operation("GetTaskPushNotificationConfig", "GET", f"{_CONFIGS}/{{id}}", (_TASK, ("id", "id"))),
    _Operation("DeleteTaskPushNotificationConfig", "DELETE", f"{_CONFIGS}/{{id}}", (_TASK, ("id", "id"))),
    _Operation("GetExtendedAgentCard", "GET", "/extendedAgentCard"),
)
"""A2A 1.0, 5.3 and 11.3."""


def routes(serving: Callable[[], HostHandler | Unavailable]) -> list[Route]:
    """Return the routes.

    Args:
        serving: returns what answers, or why there is nothing.
    """
    return [Route(one.path, _endpoint(one, serving), methods=[one.verb]) for one in OPERATIONS]


def _endpoint(
    operation: _Operation, serving: Callable[[], HostHandler | Unavailable]
) -> Callable[[Request], Awaitable[Response]]:
    method = METHODS_1_0[operation.method]

    async def endpoint(request: Request) -> Response:
        handler = serving()
        if isinstance(handler, Unavailable):
            why = {"code": 503, "status": "UNAVAILABLE", "message": _sentence(handler)}
            return json_response({"error": why}, status=503, headers=handler.headers, media_type=MEDIA_TYPE)
        try:
            if version_of(request) != V1_0:
                raise VersionNotSupportedError("this binding is served in A2A 1.0 only; send A2A-Version: 1.0")
            params = _parameters(request, operation)
            if request.method == "POST":
                params = {**await _body(request), **params}
            read = method.read(params, at="")
            call = call_of(request, tenant=getattr(read, "tenant", ""))
            if method.events is not None:
                return await stream_response(method.events(handler, read, call), method.write, rest_error)
            assert method.answer is not None  # noqa: S101 - a method has one of them
            written = method.write(await method.answer(handler, read, call))
            return json_response({} if written is None else written, media_type=MEDIA_TYPE)
        except Exception as exc:  # whatever it was, it becomes an error of the protocol
            error = known(exc)
            return json_response(rest_error(error), status=http_status_of(error), media_type=MEDIA_TYPE)

    return endpoint


def _sentence(handler: Unavailable) -> str:
    return f"{handler.message}: {handler.detail}" if handler.detail else handler.message


def _parameters(request: Request, operation: _Operation) -> dict[str, Any]:
    known_names = _PARAMETERS.get(operation.method, frozenset())
    params: dict[str, Any] = {}
    for name, value in request.query_params.items():
        if name not in known_names:
            continue
        if name == "includeArtifacts":
            if value not in _TRUTHS:
                raise BadFieldError(name, "must be true or false")
            params[name] = _TRUTHS[value]
        elif name in _NUMBERS:
            if not value.lstrip("-").isdecimal():
                raise BadFieldError(name, "must be a whole number")
            params[name] = int(value[:20])
        else:
            params[name] = value
    return {**params, **{field: request.path_params[name] for name, field in operation.names}}


async def _body(request: Request) -> dict[str, Any]:
    body = await request.body()
    if not body:
        return {}
    if content_type_of(request) not in _JSON_TYPES:
        raise MediaTypeError(f"Content-Type must be {MEDIA_TYPE} or application/json")
    try:
        value = read_body(body)
    except JSONParseError as exc:
        raise InvalidRequestError(str(exc)) from None
    if not isinstance(value, dict):
        raise InvalidRequestError("the body must be an object")
    return cast("dict[str, Any]", value)
