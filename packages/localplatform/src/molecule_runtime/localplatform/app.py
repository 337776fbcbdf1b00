"""The HTTP face: the table of routes, and the gate that every request passes first."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from molecule_runtime.core.identity import origin_of
from molecule_runtime.localplatform import activity, delegation, proxy, registry, urls, web, workspaces
from molecule_runtime.localplatform.platform import Platform, open_platform
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from molecule_runtime.localplatform.settings import LocalSettings

    Handler: TypeAlias = Callable[[Platform, Request], Awaitable[Response]]

logger = logging.getLogger(__name__)

ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/health", workspaces.health),
    ("GET", "/healthz", workspaces.health),
    ("POST", "/registry/register", registry.register),
    ("POST", "/registry/heartbeat", registry.heartbeat),
    ("POST", "/registry/update-card", registry.update_card),
    ("POST", "/registry/check-access", registry.check_access),
    ("GET", "/registry/discover/{id}", registry.discover),
    ("GET", "/registry/{id}/peers", registry.list_peers),
    ("GET", "/workspaces", workspaces.list_all),
    ("POST", "/workspaces", workspaces.create),
    ("GET", "/workspaces/{id}", workspaces.get_one),
    ("PATCH", "/workspaces/{id}", workspaces.patch),
    ("DELETE", "/workspaces/{id}", workspaces.delete),
    ("GET", "/workspaces/{id}/tokens", workspaces.list_tokens),
    ("POST", "/workspaces/{id}/tokens", workspaces.create_token),
    ("DELETE", "/workspaces/{id}/tokens/{token_id}", workspaces.revoke_token),
    ("POST", "/workspaces/{id}/a2a", proxy.post_message),
    ("GET", "/workspaces/{id}/a2a/queue/{queue_id}", proxy.get_queued),
    ("GET", "/workspaces/{id}/activity", activity.list_rows),
    ("POST", "/workspaces/{id}/activity", activity.report),
    ("POST", "/workspaces/{id}/activity/ack", activity.acknowledge),
    ("POST", "/workspaces/{id}/notify", activity.notify),
    ("POST", "/workspaces/{id}/delegate", delegation.delegate),
    ("GET", "/workspaces/{id}/delegations", delegation.list_delegations),
    ("POST", "/workspaces/{id}/delegations/record", delegation.record),
    ("POST", "/workspaces/{id}/delegations/{delegation_id}/update", delegation.update),
)
"""Method, path and handler of everything that the platform answers."""

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"content-security-policy", b"default-src 'self'"),
    (b"cache-control", b"no-store"),
)
"""Set on every answer (contract 1.1). No HSTS: on a loopback name it would break every other server of this machine."""


def create_app(settings: LocalSettings) -> ASGIApp:
    """Return an ASGI application that opens the platform with the server's lifespan and closes it in the end."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with open_platform(settings) as platform:
            app.state.platform = platform
            yield
            platform.proxy.release_waiting()

    return _build(settings, Starlette(routes=_routes(), exception_handlers=_HANDLERS, lifespan=lifespan))


def app_of(platform: Platform) -> ASGIApp:
    """Return an ASGI application on a platform that is open already; it has no lifespan of its own."""
    app = Starlette(routes=_routes(), exception_handlers=_HANDLERS)
    app.state.platform = platform
    return _build(platform.settings, app)


def _build(settings: LocalSettings, app: Starlette) -> ASGIApp:
    app.router.redirect_slashes = False
    return Gate(app, host=settings.host, allowed_hosts=settings.allowed_hosts)


class Gate:
    """Refuses what a browser on a foreign page could send, and puts the security headers on every answer.

    The `Host` check stops DNS rebinding (a foreign name that resolves to this machine), the `Origin` check a plain cross-site request.
    """

    def __init__(self, app: ASGIApp, *, host: str, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed = {name.lower() for name in (host, *allowed_hosts)}
        self._any_address = host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass the lifespan on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                missing = [header for header in SECURITY_HEADERS if header[0] not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        request = Request(scope)
        refusal = self._refuse(request)
        await (refusal or self._app)(scope, receive, send_secured)

    def _refuse(self, request: Request) -> Response | None:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return web.answer({"error": "host not allowed"}, 403)
        origins = request.headers.getlist("origin")
        if not origins:
            return None
        own = f"{request.scope['scheme']}://{hosts[0]}"
        if any(not _same_origin(origin, own) for origin in origins):
            return Response(b"", 403)
        return None

    def _is_ours(self, host_header: str) -> bool:
        try:
            host = web.host_of(host_header)
        except ValueError:
            return False
        # A literal address cannot be rebound; on all interfaces the machine is reached by any of its own.
        return urls.is_loopback_name(host) or host in self._allowed or (self._any_address and urls.is_address(host))


def _same_origin(origin: str, own: str) -> bool:
    try:
        return origin_of(origin) == origin_of(own)
    except ValueError:
        return False


def _routes() -> list[Route]:
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in ROUTES:
        by_path.setdefault(path, {})[method] = handler
    return [Route(path, _endpoint(handlers), methods=list(handlers)) for path, handlers in by_path.items()]


def _endpoint(handlers: dict[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        platform = cast("Platform", request.app.state.platform)
        handler = handlers.get(request.method) or handlers["GET"]  # HEAD
        try:
            return await handler(platform, request)
        except Refusal as refusal:
            return web.answer(refusal.body, refusal.status, refusal.headers)
        except ClientDisconnect:
            return web.answer({"error": "the request was cut off"}, 400)
        except sqlite3.Error:
            logger.exception("%s %s: the store failed", request.method, request.url.path)
            body = {"error": "platform storage is unavailable", "code": "platform_unavailable"}
            return web.answer(body, 503)
        except Exception:  # the top of a request: nothing of it may reach the client but the fact
            logger.exception("%s %s failed", request.method, request.url.path)
            return web.answer({"error": "internal error"}, 500)

    return endpoint


async def _http_error(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    headers = exc.headers if isinstance(exc, HTTPException) else None
    body = {"error": _TEXTS.get(status, "request failed"), "method": request.method, "path": request.url.path}
    return web.answer(body, status, headers)


_TEXTS = {404: "not found", 405: "method not allowed"}
_HANDLERS = {HTTPException: _http_error}
