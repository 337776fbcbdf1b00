"""The HTTP/1.1 connections: uvicorn's, with a deadline for the head of a request, so that slow clients cannot hold connections for ever.

uvicorn ends a connection that is idle between two requests, but waits without limit for the rest of a request that began, and for the
first request of a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from molecule_runtime.localplatform import web

if TYPE_CHECKING:
    import asyncio

    from uvicorn._types import ASGISendEvent

HEAD_SECONDS = 15.0
"""How long the head of a request may take to arrive, from its first byte or from the beginning of the connection."""


class GuardedConnection(H11Protocol):
    """One connection of a client."""

    head_seconds = HEAD_SECONDS
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the wait for a head ends with the request that they complete."""
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self or self._serving():
            self._head_arrived()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._await_head()
        elif self._head_timer is None and self.timeout_keep_alive_task is None:
            # The rest of a body whose request was answered already: uvicorn stopped its timer for these bytes and would not start it again.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        self._head_arrived()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON like every other refusal."""
        self._refuse(
            b"400 Bad Request", {"error": "not a valid HTTP request", "hint": f"{msg} This is an HTTP/1.1 server."}
        )

    def _serving(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _head_arrived(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._serving() or self.transport.is_closing():
            return
        hint = f"send the request line and headers within {self.head_seconds:g} seconds"
        self._refuse(b"408 Request Timeout", {"error": "the request did not arrive in time", "hint": hint})

    def _refuse(self, status: bytes, body: dict[str, str]) -> None:
        content = web.dump(body)
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.transport.write(head % (status, len(content)) + content)
        self.transport.close()


class GuardedSocket(WebSocketsSansIOProtocol):
    """One WebSocket, from its handshake on."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send; a refused handshake is complete too, which uvicorn would report as an error of ours."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True
