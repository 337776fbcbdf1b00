"""Streams that send a small request in one piece, and look cheaply whether a connection is still good.

httpcore writes the head and the body of a request one after the other, and asks every idle connection before each request whether its
server has closed it. For a process that sends fifty heartbeats a second these two were a sixth of all that it did.
"""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    import ssl

    import httpx

HELD_BYTES: Final = 64 * 1024
"""More than that is written at once: it is an upload, and waits for the network anyway."""


class Stream(Protocol):
    """What httpcore reads from and writes to."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return some of what has arrived, or wait for it; `b""` at the end."""
        ...

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Stream:
        """Return the same connection, encrypted from now on."""
        ...

    def get_extra_info(self, info: str) -> Any:
        """Return a fact about the connection."""
        ...


class WholeWrites:
    """A stream that keeps what is written until an answer is waited for, or it is a lot."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held = bytearray()
        self._socket: Any = stream.get_extra_info("socket")
        self._readable: select.poll | None = None
        if self._socket is not None and hasattr(select, "poll"):
            self._readable = select.poll()
            self._readable.register(self._socket.fileno(), select.POLLIN)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Send what is held, then return some of what has arrived."""
        if self._held:
            # A server may answer and close before it has read everything. Where it has not answered, reading says what is wrong.
            with contextlib.suppress(Exception):
                await self._flush(timeout)
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hold it, or send it together with what is held."""
        self._held += buffer
        if len(self._held) > HELD_BYTES:
            await self._flush(timeout)

    async def aclose(self) -> None:
        """Close the connection; a request that nobody waits for any more is not sent."""
        self._held.clear()
        self._readable = None
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> WholeWrites:
        """Return the same connection, encrypted from now on."""
        await self._flush(timeout)
        return WholeWrites(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return a fact about the connection."""
        if info == "is_readable" and self._readable is not None and self._socket.fileno() >= 0:
            return bool(self._readable.poll(0))
        return self._stream.get_extra_info(info)

    async def _flush(self, timeout: float | None) -> None:
        data = bytes(self._held)
        self._held.clear()
        if data:
            await self._stream.write(data, timeout)


class _Backend:
    """Opens connections as another backend does."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **options: Any) -> WholeWrites:
        return WholeWrites(await self._backend.connect_tcp(*args, **options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


def write_whole(transport: httpx.AsyncHTTPTransport) -> httpx.AsyncHTTPTransport:
    """Let the connections of a transport send their requests whole; returns it. Where httpx is built in another way nothing changes."""
    pool: Any = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if backend is not None:
        # httpx has no public way to the backend of its pool.
        pool._network_backend = _Backend(backend)
    return transport
