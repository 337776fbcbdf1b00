"""Connection pools, one per origin, shared by every client of that origin.

Only connections are shared. Cookies, headers and credentials belong to one client of one workspace, so nothing of one tenant can
travel with a request of another.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Literal, cast

import anyio
import httpx

from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

MAX_CONNECTIONS_PER_ORIGIN = 128
MAX_LONG_PER_ORIGIN = 96
"""Of these, for requests that may take long, such as the answer of an agent: they never keep a short one waiting."""

LONG_SECONDS = 90.0
"""A request that may wait longer than that for its answer is a long one."""

MAX_IDLE_PER_ORIGIN = 3
"""Kept for the next request; each one is looked at by every request, which costs more than a new connection now and then."""
IDLE_SECONDS = 30.0


class ConnectionPools:
    """The pools of one process (or of one thread with its own event loop). An async context manager that closes them.

    A pool is there for as long as a client of its origin is, or an answer to one.
    """

    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}
        self._ssl_context: ssl.SSLContext | None = None

    def transport(self, url: str) -> httpx.AsyncBaseTransport:
        """Return a transport for the origin of `url`; closing the last one of an origin closes its pool."""
        origin = origin_of(url)
        pool = self._pools.get(origin)
        if pool is None:
            transport = httpx.AsyncHTTPTransport(
                verify=self._verification(origin),
                limits=httpx.Limits(
                    max_connections=MAX_CONNECTIONS_PER_ORIGIN,
                    max_keepalive_connections=MAX_IDLE_PER_ORIGIN,
                    keepalive_expiry=IDLE_SECONDS,
                ),
                proxy=proxy_for(origin),
            )
            pool = self._pools[origin] = _Pool(transport, lambda: self._forget(origin))
        return _Shared(pool)

    def verification(self, url: str) -> ssl.SSLContext | None:
        """Return what checks the certificate of a URL, the same for every connection of the process; None for plain http."""
        return self._verification(origin_of(url)) or None

    @property
    def origins(self) -> frozenset[str]:
        """The origins that have a pool now."""
        return frozenset(self._pools)

    async def aclose(self) -> None:
        """Close every connection, also of requests that are under way."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.transport.aclose()

    def _forget(self, origin: str) -> None:
        self._pools.pop(origin, None)

    async def __aenter__(self) -> ConnectionPools:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _verification(self, origin: str) -> ssl.SSLContext | Literal[False]:
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


class _Pool:
    """The connections of one origin, and who uses them."""

    def __init__(self, transport: httpx.AsyncHTTPTransport, forget: Callable[[], None]) -> None:
        self.transport = transport
        self.places = _Places()
        self._forget = forget
        self._users = 0
        self._exchanges = 0

    def enter(self) -> None:
        """Count a client in."""
        self._users += 1

    async def leave(self) -> None:
        """Count a client out; the last one closes the pool, once the answers that are under way have arrived."""
        self._users -= 1
        if not self._users:
            # Whoever comes for this origin now gets a pool of its own.
            self._forget()
        await self._close_if_unused()

    def begin(self) -> None:
        """Count a request in."""
        self._exchanges += 1

    async def end(self) -> None:
        """Count a request out."""
        self._exchanges -= 1
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if not self._users and not self._exchanges:
            await self.transport.aclose()


class _Shared(httpx.AsyncBaseTransport):
    """One client's view on the pool of its origin."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._open = True
        pool.enter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._pool.begin()
        place: anyio.Semaphore | None = None
        try:
            place = await self._pool.places.take(request)
            response = await self._pool.transport.handle_async_request(request)
        except BaseException:
            if place is not None:
                place.release()
            await self._pool.end()
            raise
        response.stream = _Body(response.stream, place, self._pool)
        return response

    async def aclose(self) -> None:
        """Leave the pool; once more changes nothing."""
        if self._open:
            self._open = False
            await self._pool.leave()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose end gives the turn of its request back."""

    def __init__(
        self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, place: anyio.Semaphore, pool: _Pool
    ) -> None:
        self._stream = cast("httpx.AsyncByteStream", stream)
        self._place: anyio.Semaphore | None = place
        self._pool = pool

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
                await self._pool.end()


def proxy_for(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), or None."""
    scheme, _, host = origin.partition("://")
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or None
    # `localhost:3128` is common, and curl takes it for http.
    return f"http://{proxy}" if proxy is not None and "://" not in proxy else proxy
