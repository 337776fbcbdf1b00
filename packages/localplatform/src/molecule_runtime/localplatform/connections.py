"""The connections: uvicorn's, with a deadline for whatever a client still owes, so that slow clients hold nothing for ever.

uvicorn ends a connection that is idle between two requests, but waits without limit for the rest of a request that began, for the
first request of a connection, and for the rest of a body whose request was answered before it came. It leaves a WebSocket open whose
handshake is too odd to be read, and refuses others in plain text.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode
from websockets.server import ServerProtocol

from molecule_runtime.localplatform import web
from molecule_runtime.localplatform.gate import SECURITY_HEADERS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from uvicorn._types import ASGISendEvent
    from websockets.http11 import Request

HEAD_SECONDS = 15.0
"""How long the head of a request may take to arrive, from its first byte or from the beginning of the connection."""

REST_SECONDS = 60.0
"""How long the rest of a body may take to arrive that nobody waits for any more."""


class GuardedConnection(H11Protocol):
    """One connection of a client."""

    head_seconds = HEAD_SECONDS
    rest_seconds = REST_SECONDS
    _head_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _within_request = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the wait for a head ends with the request that they complete."""
        self._within_request = self.conn.their_state is h11.SEND_BODY
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self or self._serving():
            self._stop_waiting()
        elif self.conn.their_state is h11.SEND_BODY:
            # The rest of a body whose request was answered already: uvicorn stopped its timer for these bytes and starts no other.
            if self._rest_timer is None:
                self._rest_timer = self.loop.call_later(self.rest_seconds, self.transport.close)
        elif self.conn.trailing_data[0]:
            if self._head_timer is None:
                self._stop_waiting()
                self._await_head()
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            self._stop_waiting()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Go on with what came meanwhile; the beginning of a next request has its deadline from now on."""
        super().on_response_complete()
        if not self.transport.is_closing() and self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON like every other refusal."""
        if self._within_request and self.cycle.response_started:
            # The request has its answer, or the beginning of one: a second would be taken for a part of it.
            self.transport.close()
            return
        hint = f"{msg} This is an HTTP/1.1 server."
        _refuse(self.transport, 400, {"error": "not a valid HTTP request", "hint": hint})

    def _serving(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        for timer in (self._head_timer, self._rest_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._rest_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._serving() or self.transport.is_closing():
            return
        hint = f"send the request line and headers within {self.head_seconds:g} seconds"
        _refuse(self.transport, 408, {"error": "the request did not arrive in time", "hint": hint})


class GuardedSocket(WebSocketsSansIOProtocol):
    """One WebSocket, from its handshake on."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a refused handshake is complete too, which uvicorn would report as an error of ours."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def data_received(self, data: bytes) -> None:
        """Take bytes; those that cannot be read as a handshake get an answer, too."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse_handshake(400, "its head is too large, or it has a body")

    def handle_connect(self, event: Request) -> None:
        """Begin, or refuse in JSON like every other refusal."""
        judged = ServerProtocol(extensions=self.conn.available_extensions).accept(event)
        if judged.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            super().handle_connect(event)
        else:
            allowed = judged.headers.get("Allow")
            headers = [] if allowed is None else [(b"allow", allowed.encode("ascii"))]
            self._refuse_handshake(judged.status_code, judged.body.decode(errors="replace").strip(), headers)

    def send_receive_event_to_app(self) -> None:
        """Pass a message on; uvicorn would log one that is no text with a traceback."""
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            self.conn.fail(CloseCode.INVALID_DATA, "text must be UTF-8")
            self.handle_parser_exception()
            return
        super().send_receive_event_to_app()

    def _refuse_handshake(self, status: int, hint: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        _refuse(self.transport, status, {"error": "not a valid WebSocket handshake", "hint": hint}, headers)


def _refuse(
    transport: asyncio.Transport, status: int, body: dict[str, str], headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Write an answer without the application, and end the connection."""
    content = web.dump(body)
    lines = [
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode("ascii")),
        b"content-type: application/json",
        b"content-length: %d" % len(content),
        b"connection: close",
        *(b"%b: %b" % header for header in (*SECURITY_HEADERS, *headers)),
    ]
    transport.write(b"\r\n".join([*lines, b"", content]))
    transport.close()


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
