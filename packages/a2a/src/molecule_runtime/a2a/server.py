"""The host's HTTP server: A2A, agent card, health, readiness and transcript; uvicorn under the host's own signal handling."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from molecule_runtime.a2a import inbound, internal
from molecule_runtime.a2a.card import CardFacts, Configuration
from molecule_runtime.a2a.connections import IDLE_SECONDS, HostConnection
from molecule_runtime.a2a.errors import AddressInUseError, BootError
from molecule_runtime.a2a.gate import CARD_PATHS, RPC_PATHS
from molecule_runtime.core.presence import Phase
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from pathlib import Path

    from a2a.server.agent_execution import AgentExecutor
    from a2a.types import AgentCard
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from molecule_runtime.a2a.folders import Folders
    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.once import Once
    from molecule_runtime.a2a.presence_thread import PresenceThread
    from molecule_runtime.a2a.tasks import Tasks
    from molecule_runtime.core.adapter import BaseAdapter

logger = logging.getLogger(__name__)

Endpoint = Callable[["Request"], Awaitable[Response]]


@dataclass(slots=True)
class HostState:
    """What the routes show. Written by boot, on the host's event loop."""

    card: CardFacts
    folders: Folders
    secrets: tuple[Path, ...] = ()
    adapter: BaseAdapter | None = None
    handler: HostHandler | None = None
    rpc: Endpoint | None = None
    presence: PresenceThread | None = None
    stopping: bool = False
    boot_phase: str = "the adapter is loaded"

    def not_ready(self) -> str:
        """Return why this workspace cannot take a message that the platform sends, or `""`."""
        if self.stopping:
            return "the workspace is stopping"
        if self.card.configuration is Configuration.NOT_CONFIGURED:
            return f"not configured: {self.card.configuration_error}"
        if self.rpc is None:
            return f"starting: {self.boot_phase}"
        if self.presence is None or self.presence.state.phase is not Phase.ONLINE:
            state = self.presence.state if self.presence is not None else None
            detail = f": {state.detail}" if state is not None and state.detail else ""
            return redact_text(f"not registered with the platform ({state.phase if state else 'starting'}{detail})")
        return ""

    def serve_with(self, executor: AgentExecutor, tasks: Tasks, once: Once) -> None:
        """Answer A2A requests with `executor` from now on; keep tasks in `tasks`, and run no message twice that `once` knows."""
        from a2a.server.routes import create_jsonrpc_routes

        from molecule_runtime.a2a.handler import HostHandler

        handler = HostHandler(executor, tasks, once=once, card=self.card.served())
        # The platform and today's agents speak 0.3 (contract `platform-api.md` 5.7); the SDK speaks both on one endpoint.
        routes = create_jsonrpc_routes(handler, rpc_url="/", enable_v0_3_compat=True)
        self.handler = handler
        self.rpc = routes[0].endpoint


def build_app(state: HostState) -> Starlette:
    """Build the ASGI application. It serves the card at once and messages from `state.serve_with` on."""
    from a2a.server.routes import create_agent_card_routes

    async def current_card(_: AgentCard) -> AgentCard:
        return state.card.served()

    async def rpc(request: Request) -> Response:
        async def serve(replayed: Request) -> Response:
            assert state.rpc is not None  # noqa: S101 - `refuse` answered otherwise
            return await state.rpc(replayed)

        return await inbound.handle(request, serve, lambda request_id: _refusal(state, request_id))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        reason = state.not_ready()
        if reason:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ready"})

    routes: list[Any] = [
        route
        for path in CARD_PATHS
        for route in create_agent_card_routes(state.card.served(), card_modifier=current_card, card_url=path)
    ]
    routes += [Route(path, rpc, methods=["POST"]) for path in RPC_PATHS]
    routes += [
        Route("/health", health, methods=["GET"]),
        Route("/ready", ready, methods=["GET"]),
        *internal.routes(state),
    ]
    return Starlette(routes=routes)


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


def _refusal(state: HostState, request_id: object) -> Response | None:
    if state.card.configuration is Configuration.NOT_CONFIGURED:
        return inbound.error_response(
            request_id,
            status=503,
            code=inbound.INTERNAL_ERROR,
            message="this workspace is not configured",
            data=state.card.configuration_error,
        )
    if state.stopping or state.rpc is None:
        return inbound.error_response(
            request_id,
            status=503,
            code=inbound.INTERNAL_ERROR,
            message="this workspace is stopping" if state.stopping else "this workspace is starting",
            data="" if state.stopping else state.boot_phase,
            retry_after=5,
        )
    return None
