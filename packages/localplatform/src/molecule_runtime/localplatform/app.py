"""The HTTP face: an ASGI application on the table of routes."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.routing import Router
from starlette.websockets import WebSocket

from molecule_runtime.localplatform import streams, web
from molecule_runtime.localplatform.gate import Gate
from molecule_runtime.localplatform.platform import Platform, open_platform
from molecule_runtime.localplatform.routes import ROUTES
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from molecule_runtime.localplatform.routing import Handler, Route
    from molecule_runtime.localplatform.settings import LocalSettings

logger = logging.getLogger(__name__)

_SHOWN_CHARS = 200


def create_app(settings: LocalSettings) -> ASGIApp:
    """Return an ASGI application that opens the platform with the server's lifespan and closes it in the end."""
    application = _Application()

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[None]:
        del app
        async with open_platform(settings) as platform:
            application.platform = platform
            yield
            platform.proxy.release_waiting()
            platform.bus.close()

    lifecycle = Router(lifespan=lifespan)
    gate = Gate(application, settings)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (lifecycle if scope["type"] == "lifespan" else gate)(scope, receive, send)

    return app


def app_of(platform: Platform) -> ASGIApp:
    """Return an ASGI application on a platform that is open already; it has no lifespan of its own."""
    return Gate(_Application(platform), platform.settings)


class Tree:
    """Finds the route of a path segment by segment, whatever the number of routes; a literal segment wins over a placeholder."""

    def __init__(self) -> None:
        self._literal: dict[str, Tree] = {}
        self._any: Tree | None = None
        self._name = ""
        self.handlers: dict[str, Handler] = {}

    @classmethod
    def of(cls, routes: Iterable[Route]) -> Tree:
        """Return the tree of a table of routes.

        Raises:
            ValueError: two routes are the same, or name the same placeholder differently.
        """
        tree = cls()
        for route in routes:
            node = tree
            for segment in route.path.split("/")[1:]:
                node = node._child(segment, route.path)
            if route.method in node.handlers:
                raise ValueError(f"{route.method} {route.path} is there twice")
            node.handlers[route.method] = route.handler
        return tree

    def find(self, segments: Iterable[str]) -> tuple[dict[str, Handler], dict[str, str]]:
        """Return the handlers of a path by method, none where there is no such route, and what stands for its placeholders."""
        parameters: dict[str, str] = {}
        node = self
        for segment in segments:
            found = node._literal.get(segment)
            if found is None and segment and (found := node._any) is not None:
                parameters[found._name] = segment
            if found is None:
                return {}, {}
            node = found
        return node.handlers, parameters

    def _child(self, segment: str, path: str) -> Tree:
        if not segment.startswith("{"):
            return self._literal.setdefault(segment, Tree())
        name = segment.strip("{}")
        if self._any is None:
            self._any = Tree()
            self._any._name = name
        if self._any._name != name:
            raise ValueError(f"{path}: the placeholder {name} is called {self._any._name} in another route")
        return self._any


class _Application:
    """Hands each request to its handler, and turns whatever goes wrong into an answer."""

    def __init__(self, platform: Platform | None = None) -> None:
        self.platform = platform
        self._tree = Tree.of(ROUTES)
        self._sockets = dict(streams.SOCKETS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        platform = self.platform
        if platform is None:
            raise RuntimeError("the platform is not open: the server must run the lifespan")
        if scope["type"] == "websocket":
            websocket = WebSocket(scope, receive, send)
            if (serve := self._sockets.get(scope["path"])) is not None:
                await serve(platform, websocket)
            else:
                await websocket.send_denial_response(_unknown(scope, 404))
            return
        handlers, scope["path_params"] = self._tree.find(_segments(scope))
        method: str = scope["method"]
        handler = handlers.get("GET" if method == "HEAD" else method)
        if scope["path"] in self._sockets:
            hint = f"open it as a WebSocket: ws://HOST:PORT{scope['path']}"
            response = web.answer({"error": "upgrade required", "hint": hint}, 426, {"Upgrade": "websocket"})
        elif handler is None:
            response = _unknown(scope, 405 if handlers else 404, allowed=handlers)
        else:
            response = await _answer(handler, platform, Request(scope, receive, send))
        await response(scope, receive, send)


def _segments(scope: Scope) -> list[str]:
    raw: bytes | None = scope.get("raw_path")
    if raw is None or b"%2" not in raw:
        return cast("str", scope["path"]).split("/")[1:]
    # A slash that was percent-encoded belongs to its segment: keys and ids of workflows may have some.
    return [unquote(segment) for segment in raw.decode("latin-1").split("/")[1:]]


async def _answer(handler: Handler, platform: Platform, request: Request) -> Response:
    try:
        return await handler(platform, request)
    except Refusal as refusal:
        return web.answer(refusal.body, refusal.status, refusal.headers)
    except ClientDisconnect:
        return web.answer(
            {"error": "the request was cut off", "hint": "keep the connection open until the answer"}, 400
        )
    except sqlite3.Error:
        logger.exception("%s %s: the store failed", request.method, request.url.path)
        hint = "try again; if it stays so, look at the log and at the disk of the machine"
        body = {"error": "platform storage is unavailable", "code": "platform_unavailable", "hint": hint}
        return web.answer(body, 503)
    except Exception:  # the top of a request: nothing of it may reach the client but the fact
        logger.exception("%s %s failed", request.method, request.url.path)
        return web.answer({"error": "internal error", "hint": "the log of molecule-local says what went wrong"}, 500)


def _unknown(scope: Scope, status: int, *, allowed: Iterable[str] = ()) -> Response:
    body = {"method": scope.get("method", "GET"), "path": scope["path"][:_SHOWN_CHARS]}
    if status == 404:
        return web.answer({"error": "not found", **body, "hint": "GET /openapi.json lists every route"}, 404)
    hint = "the Allow header names the methods of this route"
    names = {"HEAD", *allowed} if "GET" in allowed else set(allowed)
    headers = {"Allow": ", ".join(sorted(names))}
    return web.answer({"error": "method not allowed", **body, "hint": hint}, 405, headers)
