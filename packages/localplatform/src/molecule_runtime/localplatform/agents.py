"""The connections to agents: a small pool for each, so that one slow or busy agent holds up nobody else.

One pool for all would also be walked through whole for every message, which costs more than the message when many agents are connected.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

CONNECT_SECONDS = 10.0
MAX_POOLS = 512
"""Agents whose connections are kept; those longest out of use are closed first."""

# Below the 5 s after which uvicorn closes an idle connection, so that a message is not lost to one that is just closing.
_KEEPALIVE_SECONDS = 4.0
_MAX_IDLE = 4


def agent_client() -> httpx.AsyncClient:
    """Return the client for calls to agents: no proxy, no redirects, no deadline for the answer (the idle timer sets one)."""
    return httpx.AsyncClient(
        transport=AgentPools(),
        follow_redirects=False,
        trust_env=False,
        timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
        headers={"User-Agent": "molecule-local", "Accept": "application/json", "Accept-Encoding": "identity"},
    )


class AgentPools(httpx.AsyncBaseTransport):
    """Sends each request over the pool of its workspace (the extension `workspace`), or of its origin where none is named."""

    def __init__(self) -> None:
        self._pools: OrderedDict[str, _Pool] = OrderedDict()
        self._ssl_context: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        key = f"{request.extensions.get('workspace', '')} {origin}"
        pool = self._pools.pop(key, None)
        if pool is None:
            pool = _Pool(self._verification(request.url.scheme))
        self._pools[key] = pool
        if len(self._pools) > MAX_POOLS:
            await self._close_unused()
        return await pool.send(request)

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = list(self._pools.values()), OrderedDict()
        for pool in pools:
            await pool.transport.aclose()

    async def _close_unused(self) -> None:
        for key in list(self._pools):
            if len(self._pools) <= MAX_POOLS:
                return
            if not self._pools[key].active:
                await self._pools.pop(key).transport.aclose()

    def _verification(self, scheme: str) -> ssl.SSLContext | bool:
        # Loading the certificate store takes tens of milliseconds; plain http needs none, and https needs it once.
        if scheme == "http":
            return False
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        return self._ssl_context


class _Pool:
    """The connections to one agent, and how many requests use them."""

    def __init__(self, verify: ssl.SSLContext | bool) -> None:
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=_MAX_IDLE, keepalive_expiry=_KEEPALIVE_SECONDS
        )
        self.transport = httpx.AsyncHTTPTransport(verify=verify, limits=limits)
        self.active = 0

    async def send(self, request: httpx.Request) -> httpx.Response:
        self.active += 1
        try:
            response = await self.transport.handle_async_request(request)
        except BaseException:
            self.active -= 1
            raise
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Counted(response.stream, self)
        return response


class _Counted(httpx.AsyncByteStream):
    """An answer's body, whose end is the end of its request."""

    def __init__(self, stream: httpx.AsyncByteStream, pool: _Pool) -> None:
        self._stream = stream
        self._pool: _Pool | None = pool

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._pool is not None:
                self._pool.active -= 1
                self._pool = None
