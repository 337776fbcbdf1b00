"""Who may speak to the HTTP transport, and to which part of it: the checks before the SDK sees a request.

A web page cannot pass, whatever name it makes point to this machine: `Host` must be a name of this server, `Origin`, where there is
one, its own, and the bearer token is needed for everything but `GET /health`.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response

from molecule_runtime.core.bearer import bearer_matches, bearer_of
from molecule_runtime.mcp.http_streams import OpenStreams

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a request; the SDK's own limit."""

BODY_SECONDS: Final = 30.0
"""For the whole body of a request."""

RETRY_SECONDS: Final = 30
"""Before a client comes again that found no room for its session: as sessions end one by one, there is some now and then."""

MCP_PATH: Final = "/mcp"
HEALTH_PATH: Final = "/health"

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

_SESSION: Final = "mcp-session-id"
_VERSION: Final = "mcp-protocol-version"


class Gate:
    """Checks each request and hands it to the part that serves it.

    Args:
        token: the bearer token.
        hosts: names that `Host` may carry, in lower case and without a port: a forwarded port is another one.
        port: for `/health`.
        sessions: serves clients that keep a session, and those of 2026-07-28, which need none.
        single: serves a request of an older version that belongs to no session. Clients that only list the tools of a sidecar send
            `tools/list` so (contract `consumers.md` 1.2.9).
        full: what is wrong and what to do about it, where no further session may be opened.
        streams: is told which sessions have a stream open.
    """

    def __init__(
        self,
        *,
        token: str,
        hosts: Collection[str],
        port: int,
        sessions: ASGIApp,
        single: ASGIApp,
        full: tuple[str, str] = ("too many sessions are open", "come again"),
        streams: OpenStreams | None = None,
    ) -> None:
        self._token = token
        self._hosts = frozenset(hosts)
        self._port = port
        refusal = _refused(503, *full, headers={"Retry-After": str(RETRY_SECONDS)})
        self._sessions = _Sessions(sessions, refusal, streams or OpenStreams())
        self._single = single
        self._closed = False

    def close(self) -> None:
        """Refuse whatever comes from now on: the process is about to end."""
        self._closed = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self._serve(scope, receive, send)
        except anyio.get_cancelled_exc_class():
            # uvicorn's last resort when it stops and a stream does not end in time; it logs a traceback for each that comes out.
            if not self._closed:
                raise

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        path = scope["path"]
        refusal = self._foreign(headers) or self._unknown(path) or self._stopping()
        if refusal is None and path == HEALTH_PATH:
            refusal = self._health(scope["method"])
        if refusal is None:
            refusal = self._unauthorized(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self._sessions(scope, receive, send)
            return
        body = await _body(headers, receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif body is not None:
            await self._post(scope, headers, _Replayed(body, receive), send)

    async def _post(self, scope: Scope, headers: Headers, receive: _Replayed, send: Send) -> None:
        if _SESSION in headers or (_VERSION in headers and headers[_VERSION] not in HANDSHAKE_PROTOCOL_VERSIONS):
            await self._sessions(scope, receive, send)
        elif _method_of(receive.body) == "initialize":
            await _answered_in_json(self._sessions, scope, receive, send)
        else:
            await _until_gone(self._single, scope, receive, send)

    def _foreign(self, headers: Headers) -> Response | None:
        host = headers.get("host", "").lower()
        if _name_of(host) not in self._hosts:
            return _refused(
                421, f"the host {host[:200]!r} is not served here", f"use one of {', '.join(sorted(self._hosts))}"
            )
        for origin in headers.getlist("origin"):
            if origin.lower() not in {f"http://{host}", f"https://{host}"}:
                return _refused(
                    403, f"the origin {origin[:200]!r} is refused", "only pages of this server itself may call it"
                )
        return None

    def _unknown(self, path: str) -> Response | None:
        if path in {MCP_PATH, HEALTH_PATH}:
            return None
        return _refused(404, "there is no such path", f"MCP is served at {MCP_PATH}")

    def _stopping(self) -> Response | None:
        return _refused(503, "this process is stopping", "start it again") if self._closed else None

    def _health(self, method: str) -> Response:
        if method not in {"GET", "HEAD"}:
            return Response(status_code=405, headers={"Allow": "GET, HEAD"})
        # Contract `runtime.md` 5.5.
        return JSONResponse({"ok": True, "transport": "http+sse", "port": self._port})

    def _unauthorized(self, scope: Scope) -> Response | None:
        if bearer_matches(self._token, scope["headers"]):
            return None
        challenge = 'Bearer realm="molecule-mcp"'
        if bearer_of(scope["headers"]) is not None:
            challenge += ', error="invalid_token"'
        hint = "send 'Authorization: Bearer TOKEN'; molecule-mcp says on stderr where the token is"
        return _refused(401, "the bearer token is missing or wrong", hint, headers={"WWW-Authenticate": challenge})


class _Sessions:
    """The part that keeps sessions: a session too many learns when to come again and what else helps, and open streams are noted."""

    def __init__(self, app: ASGIApp, full: Response, streams: OpenStreams) -> None:
        self._app = app
        self._full = full
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session_id = Headers(scope=scope).get(_SESSION, "") if scope["method"] == "GET" else ""
        refused = False
        with ExitStack() as until_the_end:

            async def watch(message: Message) -> None:
                nonlocal refused
                if message["type"] == "http.response.start":
                    # The SDK's only reason for 503: another session cannot be opened.
                    refused = message["status"] == 503
                    if session_id and message["status"] == 200:
                        until_the_end.enter_context(self._streams.held(session_id))
                if not refused:
                    await send(message)

            await self._app(scope, receive, watch)
        if refused:
            await self._full(scope, receive, send)


class _Replayed:
    """The rest of a request whose body was read: the body once, then whatever the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.body = body
        self._rest = receive
        self._given = False

    async def __call__(self) -> Message:
        if self._given:
            return await self._rest()
        self._given = True
        return {"type": "http.request", "body": self.body, "more_body": False}


async def _body(headers: Headers, receive: Receive) -> bytes | Response | None:
    """Return the body of a request, what to answer instead, or None when the client has gone."""
    too_large = _refused(413, f"the body is larger than {MAX_BODY} bytes", "send less, or in several calls")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        return too_large
    body = bytearray()
    with anyio.move_on_after(BODY_SECONDS):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > MAX_BODY:
                return too_large
            if not message.get("more_body", False):
                return bytes(body)
    return _refused(408, "the body did not arrive in time", f"send it within {BODY_SECONDS:g} s")


async def _answered_in_json(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve `initialize`, whose answer is one message, as JSON instead of an event stream with one event.

    What templates do to see whether a sidecar is up was written for an answer in JSON (contract `runtime.md` 5.5).
    """
    start: Message | None = None
    streamed = bytearray()

    async def collect(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            if MutableHeaders(raw=message["headers"]).get("content-type", "").startswith("text/event-stream"):
                start = message
                return
        elif start is not None:
            streamed.extend(message.get("body", b""))
            if not message.get("more_body", False):
                content = _last_event(streamed)
                headers = MutableHeaders(raw=list(start["headers"]))
                headers["content-type"] = "application/json"
                headers["content-length"] = str(len(content))
                await send({**start, "headers": headers.raw})
                await send({"type": "http.response.body", "body": content})
            return
        await send(message)

    await app(scope, receive, collect)


def _last_event(stream: bytes | bytearray) -> bytes:
    """Return the data of the last event; the SDK writes each in one line."""
    lines = [line for line in stream.splitlines() if line.startswith(b"data:")]
    return bytes(lines[-1].removeprefix(b"data:").strip()) if lines else b""


async def _until_gone(app: ASGIApp, scope: Scope, receive: _Replayed, send: Send) -> None:
    """Serve a request outside of any session; it is cancelled when its client goes, since the answer could reach nobody."""
    gone = anyio.Event()
    body = [await receive()]

    async def body_then_end() -> Message:
        if body:
            return body.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def watch(serving: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()
        serving.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch, group.cancel_scope)
        await app(scope, body_then_end, send)
        group.cancel_scope.cancel()


def _method_of(body: bytes) -> str | None:
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        # The SDK says what is wrong with it.
        return None
    return cast("dict[str, Any]", message).get("method") if isinstance(message, dict) else None


def _name_of(host: str) -> str:
    """Return a `Host` without its port."""
    if host.startswith("["):
        name, bracket, port = host.partition("]")
        name += bracket
    else:
        name, colon, port = host.partition(":")
        port = colon + port
    return name if not port or (port[0] == ":" and port[1:].isdecimal()) else ""


def _refused(status: int, error: str, hint: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": error, "hint": hint}, status_code=status, headers=headers)
