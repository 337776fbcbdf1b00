"""The HTTP face: an ASGI application on the table of routes."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Route, WebSocketRoute

from molecule_runtime.localplatform import streams, web
from molecule_runtime.localplatform.gate import Gate
from molecule_runtime.localplatform.platform import Platform, open_platform
from molecule_runtime.localplatform.routes import ROUTES
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp

    from molecule_runtime.localplatform.routing import Handler
    from molecule_runtime.localplatform.settings import LocalSettings

logger = logging.getLogger(__name__)


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
    return Gate(app, settings)


def _routes() -> list[BaseRoute]:
    by_path: dict[str, dict[str, Handler]] = {}
    for route in ROUTES:
        by_path.setdefault(route.path, {})[route.method] = route.handler
    # A path without braces first: else `latest` would be read as the name of a workflow.
    paths = sorted(by_path, key=lambda path: "{" in path.rpartition("/")[2])
    return [
        *(Route(path, _endpoint(by_path[path]), methods=list(by_path[path])) for path in paths),
        *(WebSocketRoute(path, handler) for path, handler in streams.SOCKETS),
    ]


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
    error, hint = _TEXTS.get(status, ("request failed", "see the log of molecule-local"))
    body = {"error": error, "method": request.method, "path": request.url.path[:_SHOWN_CHARS], "hint": hint}
    return web.answer(body, status, headers)


_SHOWN_CHARS = 200
_TEXTS = {
    404: ("not found", "GET /openapi.json lists every route"),
    405: ("method not allowed", "the Allow header names the methods of this route"),
}
_HANDLERS = {HTTPException: _http_error}
