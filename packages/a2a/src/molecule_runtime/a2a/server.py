"""The host's HTTP server: A2A, agent card, health, readiness and transcript; uvicorn under the host's own signal handling."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from molecule_runtime.a2a import internal
from molecule_runtime.a2a.answering import Unavailable
from molecule_runtime.a2a.card import CardDocument, CardFacts, Configuration
from molecule_runtime.a2a.connections import IDLE_SECONDS, HostConnection
from molecule_runtime.a2a.errors import AddressInUseError, BootError
from molecule_runtime.a2a.gate import CARD_PATHS, RETRY_SECONDS, RPC_PATHS
from molecule_runtime.core.presence import Phase
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from molecule_runtime.a2a.folders import Folders
    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.once import Once
    from molecule_runtime.a2a.presence_thread import PresenceThread
    from molecule_runtime.a2a.push import PushNotifications
    from molecule_runtime.a2a.tasks import Tasks
    from molecule_runtime.a2a.turns import TurnExecutor
    from molecule_runtime.core.adapter import BaseAdapter

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class HostState:
    """What the routes show. Written by boot, on the host's event loop."""

    card: CardFacts
    folders: Folders
    secrets: tuple[Path, ...] = ()
    adapter: BaseAdapter | None = None
    handler: HostHandler | None = None
    presence: PresenceThread | None = None
    stopping: bool = False
    boot_phase: str = "the adapter is loaded"
    _document: CardDocument | None = None

    def not_ready(self) -> str:
        """Return why this workspace cannot take a message that the platform sends, or `""`."""
        if self.stopping:
            return "the workspace is stopping"
        if self.card.configuration is Configuration.NOT_CONFIGURED:
            return f"not configured: {self.card.configuration_error}"
        if self.handler is None:
            return f"starting: {self.boot_phase}"
        if self.presence is None or self.presence.state.phase is not Phase.ONLINE:
            state = self.presence.state if self.presence is not None else None
            detail = f": {state.detail}" if state is not None and state.detail else ""
            return redact_text(f"not registered with the platform ({state.phase if state else 'starting'}{detail})")
        return ""

    def serving(self) -> HostHandler | Unavailable:
        """Return what answers A2A requests, or why nothing does."""
        if self.card.configuration is Configuration.NOT_CONFIGURED:
            return Unavailable(message="this workspace is not configured", detail=self.card.configuration_error)
        if self.stopping:
            return Unavailable(message="this workspace is stopping", retry_after=RETRY_SECONDS)
        if self.handler is None:
            return Unavailable(message="this workspace is starting", detail=self.boot_phase, retry_after=RETRY_SECONDS)
        return self.handler

    def document(self) -> CardDocument:
        """Return the card as it is served."""
        if self._document is None or self._document.facts is not self.card:
            self._document = CardDocument.of(self.card)
        return self._document

    def serve_with(
        self, executor: TurnExecutor, tasks: Tasks, once: Once, push: PushNotifications | None = None
    ) -> None:
        """Answer A2A requests with `executor` from now on.

        Args:
            executor: runs the turns.
            tasks: where tasks are kept.
            once: which messages ran already.
            push: who is told of what; None when this agent tells nobody.
        """
        from molecule_runtime.a2a.handler import HostHandler

        self.handler = HostHandler(executor, tasks, once=once, push=push, streaming=self.card.streaming)


def build_app(state: HostState) -> ASGIApp:
    """Build the ASGI application. It serves the card at once and messages from `state.serve_with` on."""
    from molecule_runtime.a2a import jsonrpc, rest

    async def card(request: Request) -> Response:
        return state.document().response(request)

    async def rpc(request: Request) -> Response:
        return await jsonrpc.handle(request, state.serving())

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        reason = state.not_ready()
        if reason:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    routes = [Route(path, card, methods=["GET"]) for path in CARD_PATHS]
    routes += [Route(path, rpc, methods=["POST"]) for path in RPC_PATHS]
    routes += [
        *rest.routes(state.serving),
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        *internal.routes(state),
    ]
    others = Starlette(routes=routes)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # What nearly every request is takes the short way, past a router of two dozen routes and its middleware.
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in RPC_PATHS:
            response = await rpc(Request(scope, receive, send))
            await response(scope, receive, send)
        else:
            await others(scope, receive, send)

    return app


def bind(host: str, port: int) -> socket.socket:
    """Bind the socket of the server, so that a taken port is one clear line and not a traceback.

    Raises:
        AddressInUseError: another process has the port.
        BootError: the address does not exist here, or the port may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio turns Nagle's algorithm off only where it is, and each answer would wait 40 ms for the client's ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        if exc.errno == errno.EADDRINUSE:
            raise AddressInUseError(
                f"a2a.port {port} is taken on {host}; stop the process that listens there or set a2a.port in config.yaml"
            ) from None
        raise BootError(
            f"cannot listen on {host!r}, a2a.port {port}: {exc.strerror or exc};"
            " check MOLECULE_BIND_HOST and a2a.port in config.yaml"
        ) from None
    return sock


class HostServer(uvicorn.Server):
    """uvicorn without its signal handlers: it would re-raise a signal and so skip the rest of the shutdown."""

    def __init__(self, app: ASGIApp, *, graceful: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HostConnection,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                # The gate counts by what a request is; whose it is, a header must not claim.
                proxy_headers=False,
                timeout_keep_alive=IDLE_SECONDS,
                timeout_graceful_shutdown=max(1, round(graceful)),
            )
        )
        self._listening = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to the host."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await super().startup(sockets=sockets)
        self._listening.set()

    async def listening(self) -> None:
        """Return once connections are accepted."""
        await self._listening.wait()
