"""Connection pools, one per origin, shared by every client of that origin.

Only connections are shared. Cookies, headers and credentials belong to one client of one workspace, so nothing of one tenant can
travel with a request of another.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import httpx

from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

MAX_CONNECTIONS_PER_ORIGIN = 32
MAX_IDLE_PER_ORIGIN = 8
IDLE_SECONDS = 30.0


class ConnectionPools:
    """The pools of one process (or of one thread with its own event loop). An async context manager that closes them."""

    def __init__(self) -> None:
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}
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
        return _Shared(self._transports[origin])

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


class _Shared(httpx.AsyncBaseTransport):
    """A view on a pooled transport that its user may close without closing the pool."""

    def __init__(self, transport: httpx.AsyncHTTPTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Leave the pool open: its owner closes it."""


def _proxy_for(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin (HTTP_PROXY, HTTPS_PROXY, NO_PROXY), or None."""
    scheme, _, host = origin.partition("://")
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or None
    # `localhost:3128` is common, and curl takes it for http.
    return f"http://{proxy}" if proxy is not None and "://" not in proxy else proxy
