"""Connection pools, one per origin, shared by every client of that origin.

Only connections are shared. Cookies, headers and credentials belong to one client of one workspace, so nothing of one tenant can
travel with a request of another.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, cast

import anyio
import httpx

from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from types import TracebackType

MAX_CONNECTIONS_PER_ORIGIN = 128
MAX_LONG_PER_ORIGIN = 96
"""Of these, for requests that may take long, such as the answer of an agent: they never keep a short one waiting."""

LONG_SECONDS = 90.0
"""A request that may wait longer than that for its answer is a long one."""

MAX_IDLE_PER_ORIGIN = 8
IDLE_SECONDS = 30.0


class ConnectionPools:
    """The pools of one process (or of one thread with its own event loop). An async context manager that closes them."""

    def __init__(self) -> None:
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
        self._places: dict[str, _Places] = {}
        self._ssl_context: ssl.SSLContext | None = None

    def transport(self, url: str) -> httpx.AsyncBaseTransport:
        """Return a transport for the origin of `url`; closing it leaves the pool open."""
        origin = origin_of(url)
        if origin not in self._transports:
            self._transports[origin] = httpx.AsyncHTTPTransport(
                verify=self._verification(origin),
                limits=httpx.Limits(
                    max_connections=MAX_CONNECTIONS_PER_ORIGIN,
                    max_keepalive_connections=MAX_IDLE_PER_ORIGIN,
                    keepalive_expiry=IDLE_SECONDS,
                ),
                proxy=_proxy_for(origin),
            )
            self._places[origin] = _Places()
        return _Shared(self._transports[origin], self._places[origin])

    async def aclose(self) -> None:
        """Close every connection."""
        transports, self._transports = list(self._transports.values()), {}
        for transport in transports:
            await transport.aclose()

    async def __aenter__(self) -> ConnectionPools:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _verification(self, origin: str) -> ssl.SSLContext | bool:
        # Loading the certificate store takes tens of milliseconds; plain http needs none, and https needs it once.
        if origin.startswith("http://"):
            return False
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        return self._ssl_context


class _Places:
    """The turns of one origin. Requests wait here for a connection: a queue in the pool itself costs the square of its length."""

    def __init__(self) -> None:
        self._long = anyio.Semaphore(MAX_LONG_PER_ORIGIN)
        self._short = anyio.Semaphore(MAX_CONNECTIONS_PER_ORIGIN - MAX_LONG_PER_ORIGIN)

    async def take(self, request: httpx.Request) -> anyio.Semaphore:
        """Wait for a turn; whoever has it gives it back with `release`.

        Raises:
            httpx.PoolTimeout: there was none in time, so nothing was sent.
        """
        timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
        read = timeouts.get("read")
        places = self._long if read is None or read > LONG_SECONDS else self._short
        pool = timeouts.get("pool")
        # A little less than the caller waits in all, who is to learn that nothing was sent.
        with anyio.move_on_after(None if pool is None else pool * 0.9):
            await places.acquire()
            return places
        raise httpx.PoolTimeout("no connection became free in time", request=request)


class _Shared(httpx.AsyncBaseTransport):
    """A view on a pooled transport that its user may close without closing the pool."""

    def __init__(self, transport: httpx.AsyncHTTPTransport, places: _Places) -> None:
        self._transport = transport
        self._places = places

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        place = await self._places.take(request)
        try:
            response = await self._transport.handle_async_request(request)
        except BaseException:
            place.release()
            raise
        response.stream = _Body(response.stream, place)
        return response

    async def aclose(self) -> None:
        """Leave the pool open: its owner closes it."""


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose end gives the turn of its request back."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, place: anyio.Semaphore) -> None:
        self._stream = cast("httpx.AsyncByteStream", stream)
        self._place: anyio.Semaphore | None = place

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        """Close it; once more changes nothing."""
        place, self._place = self._place, None
        try:
            await self._stream.aclose()
        finally:
            if place is not None:
                place.release()


def _proxy_for(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), or None."""
    scheme, _, host = origin.partition("://")
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or None
    # `localhost:3128` is common, and curl takes it for http.
    return f"http://{proxy}" if proxy is not None and "://" not in proxy else proxy
