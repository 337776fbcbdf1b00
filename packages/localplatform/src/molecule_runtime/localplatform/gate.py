"""The gate that every request passes first (contract 1.1): security headers, browsers kept out, rate limit, tenant guard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from molecule_runtime.core.identity import is_loopback, origin_of
from molecule_runtime.localplatform import urls, web
from molecule_runtime.localplatform.limits import RateLimiter

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from molecule_runtime.localplatform.limits import Verdict
    from molecule_runtime.localplatform.settings import LocalSettings

DEFAULT_RATE = 600
"""Requests a minute of a client on another machine (contract 1.3)."""

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"content-security-policy", b"default-src 'self'"),
    (b"cache-control", b"no-store"),
)
"""Set on every answer (contract 1.1). No HSTS: on a loopback name it would break every other server of this machine."""

ORG_EXEMPT = frozenset({"/health", "/healthz", "/metrics", "/registry/register", "/registry/heartbeat"})
"""Paths that need no organisation (contract 1.4)."""


class Gate:
    """Refuses what a browser on a foreign page could send, counts requests, and puts the common headers on every answer.

    The `Host` check stops DNS rebinding (a foreign name that resolves to this machine), the `Origin` check a plain cross-site request.
    """

    def __init__(self, app: ASGIApp, settings: LocalSettings) -> None:
        self._app = app
        self._allowed = {name.lower() for name in (settings.host, *settings.allowed_hosts)}
        self._any_address = settings.host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        self._org_id = settings.org_id
        self._limit_loopback = settings.rate_limit is not None
        self._known_hosts: dict[bytes, bool] = {}
        self._limiter = RateLimiter(settings.rate_limit or DEFAULT_RATE, time.monotonic)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass the lifespan on."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        if self._org_id and not self._of_this_org(scope):
            # As if there were no such route, and without the common headers (contract 28.3).
            await _deny(Response(b"", 404), scope, receive, send)
            return
        verdict = self._count(scope)
        common = _UNLIMITED if verdict is None else [*SECURITY_HEADERS, *_limit_headers(verdict)]

        async def send_secured(message: Message) -> None:
            if message["type"] in _STARTS:
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                message["headers"] = [*headers, *(header for header in common if header[0] not in present)]
            await send(message)

        refusal = self._refuse(scope, verdict)
        if refusal is None:
            await self._app(scope, receive, send_secured)
        else:
            await _deny(refusal, scope, receive, send_secured)

    def _of_this_org(self, scope: Scope) -> bool:
        if scope["path"] in ORG_EXEMPT:
            return True
        return _values(scope, b"x-molecule-org-id") == [self._org_id.encode()]

    def _count(self, scope: Scope) -> Verdict | None:
        client = scope["client"][0] if scope.get("client") else ""
        # All agents of this machine share one address, so for them the limit counts only when it was asked for.
        if not self._limit_loopback and (client == "127.0.0.1" or is_loopback(client)):
            return None
        return self._limiter.take(client)

    def _refuse(self, scope: Scope, verdict: Verdict | None) -> Response | None:
        if _values(scope, b"transfer-encoding") and _values(scope, b"content-length"):
            # Two lengths of one body: whoever reads the other one takes the rest of it for a request of its own (RFC 9112, 6.1).
            body = {"error": "not a valid HTTP request", "hint": "send Content-Length or Transfer-Encoding, not both"}
            return web.answer(body, 400, {"Connection": "close"})
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            hint = "reach it under the name it listens on, or start it with --allow-host NAME"
            return web.answer({"error": "host not allowed", "hint": hint}, 403)
        if origins := _values(scope, b"origin"):
            own = f"{_HTTP_OF.get(scope['scheme'], 'http')}://{hosts[0].decode('latin-1')}"
            if any(not _same_origin(origin.decode("latin-1"), own) for origin in origins):
                return Response(b"", 403)
        if verdict is not None and not verdict.allowed:
            hint = f"ask again in {verdict.retry_after} s; --rate-limit N sets how many requests a minute are allowed"
            limited = {"error": "rate limit exceeded", "retry_after": verdict.retry_after, "hint": hint}
            return web.answer(limited, 429, {"Retry-After": str(verdict.retry_after)})
        return None

    def _is_ours(self, host_header: bytes) -> bool:
        known = self._known_hosts.get(host_header)
        if known is None:
            if len(self._known_hosts) >= _MAX_KNOWN_HOSTS:
                self._known_hosts.clear()
            known = self._known_hosts[host_header] = self._judge(host_header.decode("latin-1"))
        return known

    def _judge(self, host_header: str) -> bool:
        try:
            host = web.host_of(host_header)
        except ValueError:
            return False
        # A literal address cannot be rebound; on all interfaces the machine is reached by any of its own.
        return is_loopback(host) or host in self._allowed or (self._any_address and urls.is_address(host))


_STARTS = frozenset({"http.response.start", "websocket.http.response.start", "websocket.accept"})
_HTTP_OF = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_MAX_KNOWN_HOSTS = 256
_UNLIMITED = [*SECURITY_HEADERS, (b"x-ratelimit-limit", b"unlimited")]


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for key, value in scope["headers"] if key == name]


def _same_origin(origin: str, own: str) -> bool:
    try:
        return origin_of(origin) == origin_of(own)
    except ValueError:
        return False


def _limit_headers(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit", b"%d" % verdict.limit),
        (b"x-ratelimit-remaining", b"%d" % verdict.remaining),
        (b"x-ratelimit-reset", b"%d" % verdict.reset_after),
    ]


async def _deny(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await response(scope, receive, send)
        return
    # Starlette's own `Response` writes the denial of a WebSocket handshake when it is given this scope (ASGI extension).
    await receive()
    await response(scope, receive, send)
