"""The HTTP/1.1 connections of the host: uvicorn's, with a bound on their number and on how long a client may keep one waiting.

uvicorn ends a connection that is idle between two requests. It waits without limit for the first request of one, for the rest of a
head that began, and for a client to take what it asked for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

HEAD_SECONDS = 15.0
"""For the line and the headers of a request, from the beginning of the connection or from their first byte."""

STALL_SECONDS = 60.0
"""For a client to take the next piece of an answer."""

IDLE_SECONDS = 75
"""Between two requests; longer than the platform's clients keep an idle connection, so that they are the ones who close it."""

MAX_CONNECTIONS = 512


class HostConnection(H11Protocol):
    """One connection of a client."""

    head_seconds = HEAD_SECONDS
    stall_seconds = STALL_SECONDS
    most = MAX_CONNECTIONS
    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request, unless too many wait already."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(
                "503 Service Unavailable",
                "too many connections",
                hint=f"this workspace holds {self.most} at once; ask again, and keep connections open",
                headers="Retry-After: 5\r\n",
            )
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; the wait for a head ends with the request that they complete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.transport.is_closing() or self._serving():
            self._stop_waiting()
        elif self._head is None and self.conn.trailing_data[0]:
            self._await_head()
        elif self._head is None and self.timeout_keep_alive_task is None:
            # What is left of a body whose request was answered: uvicorn stopped its timer for it and would not start it again.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in JSON like every other refusal."""
        self._refuse("400 Bad Request", "not a valid HTTP request", hint=f"{msg} This is an HTTP/1.1 server.")

    def _serving(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if self._serving() or self.transport.is_closing():
            return
        hint = f"send the request line and the headers within {self.head_seconds:g} s"
        self._refuse("408 Request Timeout", "the request did not arrive in time", hint=hint)

    def _refuse(self, status: str, error: str, *, hint: str, headers: str = "") -> None:
        content = json.dumps({"error": error, "hint": hint}).encode()
        fixed = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\nConnection: close\r\n"
        head = f"HTTP/1.1 {status}\r\n{fixed}{headers}\r\n"
        self.transport.write(head.encode() + content)
        self.transport.close()
