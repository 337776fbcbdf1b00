"""Connection pools, one per origin, shared by every client of that origin.

Only connections are shared. Headers and credentials belong to one client of one workspace, and cookies are not kept, so nothing of one
tenant can travel with a request of another.
"""

from __future__ import annotations

import functools
import ssl
import time
import urllib.request
from collections import deque
from typing import TYPE_CHECKING, Literal, cast

import anyio
import httpx

from molecule_runtime.core.identity import origin_of
from molecule_runtime.core.platform.whole_writes import write_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

MAX_CONNECTIONS_PER_ORIGIN = 128
MAX_LONG_PER_ORIGIN = 96
"""Of these, for requests that may take long, such as the answer of an agent: they never keep a short one waiting."""

LONG_SECONDS = 90.0
"""A request that may wait longer than that for its answer is a long one."""

MAX_IDLE_PER_ORIGIN = 16
"""Kept for the next request."""
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
            verification = self._verification(origin) or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            connect = functools.partial(
                httpx.AsyncHTTPTransport,
                # Also where it is not used: httpx would make one for each connection.
                verify=verification,
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_SECONDS),
                proxy=proxy_for(origin),
            )
            pool = self._pools[origin] = _Pool(lambda: write_whole(connect()), lambda: self._forget(origin))
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
            await pool.aclose()

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
        if places.value:
            places.acquire_nowait()
            return places
        # A little less than the caller waits in all, who is to learn that nothing was sent.
        with anyio.move_on_after(None if pool is None else pool * 0.9):
            await places.acquire()
            return places
        raise httpx.PoolTimeout("no connection became free in time", request=request)


class _Pool:
    """The connections of one origin, and who uses them.

    Each is a transport of its own, for one request at a time: a pool of httpcore looks at all of its connections for every request, and
    at the idle ones once for each other. The last one used is used next, so that those beyond need end.
    """

    def __init__(self, connect: Callable[[], httpx.AsyncHTTPTransport], forget: Callable[[], None]) -> None:
        self.places = _Places()
        self._connect = connect
        self._connections: set[httpx.AsyncHTTPTransport] = set()
        self._idle: deque[tuple[float, httpx.AsyncHTTPTransport]] = deque()
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

    def take(self) -> httpx.AsyncHTTPTransport:
        """Return a connection for one request; whoever has it gives it back with `put`."""
        if self._idle:
            return self._idle.pop()[1]
        made = self._connect()
        self._connections.add(made)
        return made

    async def put(self, connection: httpx.AsyncHTTPTransport) -> None:
        """Keep a connection for the next request, or close it where there are enough; close those that nobody needed for long."""
        now = time.monotonic()
        # Of those who are in, who has none yet takes one in a moment.
        awaited = self._exchanges - (len(self._connections) - len(self._idle))
        self._idle.append((now, connection))
        while len(self._idle) > max(awaited, MAX_IDLE_PER_ORIGIN) or (
            self._idle and self._idle[0][0] < now - IDLE_SECONDS
        ):
            _, surplus = self._idle.popleft()
            self._connections.discard(surplus)
            await surplus.aclose()

    async def aclose(self) -> None:
        """Close every connection, also of requests that are under way."""
        connections, self._connections = self._connections, set()
        self._idle.clear()
        for connection in connections:
            await connection.aclose()

    def begin(self) -> None:
        """Count a request in."""
        self._exchanges += 1

    async def end(self) -> None:
        """Count a request out."""
        self._exchanges -= 1
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if not self._users and not self._exchanges:
            await self.aclose()


class _Shared(httpx.AsyncBaseTransport):
    """One client's view on the pool of its origin."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._open = True
        pool.enter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        pool = self._pool
        pool.begin()
        try:
            place = await pool.places.take(request)
        except BaseException:
            await pool.end()
            raise
        turn = _Turn(pool, place, pool.take())
        try:
            response = await turn.connection.handle_async_request(request)
        except BaseException:
            await turn.end()
            raise
        response.stream = _Body(response.stream, turn)
        return response

    async def aclose(self) -> None:
        """Leave the pool; once more changes nothing."""
        if self._open:
            self._open = False
            await self._pool.leave()


class _Turn:
    """What one request has of its pool."""

    def __init__(self, pool: _Pool, place: anyio.Semaphore, connection: httpx.AsyncHTTPTransport) -> None:
        self.connection = connection
        self._pool = pool
        self._place: anyio.Semaphore | None = place

    async def end(self) -> None:
        """Give it back; once more changes nothing."""
        place, self._place = self._place, None
        if place is not None:
            place.release()
            try:
                await self._pool.put(self.connection)
            finally:
                await self._pool.end()


class _Body(httpx.AsyncByteStream):
    """The body of an answer, whose end gives the turn of its request back."""

    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, turn: _Turn) -> None:
        self._stream = cast("httpx.AsyncByteStream", stream)
        self._turn = turn

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        """Close it; once more changes nothing."""
        try:
            await self._stream.aclose()
        finally:
            await self._turn.end()


def proxy_for(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), or None."""
    scheme, _, host = origin.partition("://")
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or None
    # `localhost:3128` is common, and curl takes it for http.
    return f"http://{proxy}" if proxy is not None and "://" not in proxy else proxy
