"""Runs a local platform: binds the address, serves until the context ends, and stops gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import uvicorn

from molecule_runtime.localplatform import registry
from molecule_runtime.localplatform.app import app_of
from molecule_runtime.localplatform.connections import GuardedConnection, GuardedSocket
from molecule_runtime.localplatform.errors import PortTakenError
from molecule_runtime.localplatform.platform import Platform, open_platform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from molecule_runtime.localplatform.events import EventBus
    from molecule_runtime.localplatform.provisioning import Hosting
    from molecule_runtime.localplatform.settings import LocalSettings
    from molecule_runtime.localplatform.store import Store

logger = logging.getLogger(__name__)

_BACKLOG = 512
_MAX_WEBSOCKET_MESSAGE = 64 * 1024
_KEEPALIVE_SECONDS = 75
_FORCED_STOP_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPlatform:
    """A platform that answers requests.

    Attributes:
        url: where it answers, without a trailing slash.
        admin_token: for the routes marked admin.
        bus: every event of the platform.
        store: its database.
        settings: what it was started with.
    """

    url: str
    admin_token: str = field(repr=False)
    bus: EventBus
    store: Store
    settings: LocalSettings
    _platform: Platform = field(repr=False)

    @property
    def hosting(self) -> Hosting:
        """Where whoever runs the workspaces' processes is attached."""
        return self._platform.hosting

    async def sweep(self) -> list[str]:
        """Look for silent workspaces now instead of at the next interval; returns who went offline."""
        return await registry.sweep(self._platform)

    async def tick(self) -> int:
        """Send the schedules that are due now instead of at the next interval; returns how many runs wait."""
        return await self._platform.scheduler.tick()

    async def idle(self) -> None:
        """Wait until no turn, delegation or queued message is under way."""
        await self._platform.background.idle()


@asynccontextmanager
async def serve(settings: LocalSettings) -> AsyncGenerator[RunningPlatform]:
    """Run a local platform while the context lasts; it answers before the context begins.

    In the end no new request is taken, turns under way get `settings.stop_grace` seconds, whoever still waits is answered 503, and
    what the platform sends on its own account is on disk for the next start.

    Raises:
        ConfigurationError: the port is taken, or the data folder cannot be used.
    """
    listener = _bind(settings.host, settings.port)
    with contextlib.closing(listener):
        url = _url_of(listener, settings.host)
        async with open_platform(settings) as platform:
            server = _Server(
                uvicorn.Config(
                    app_of(platform),
                    lifespan="off",
                    http=GuardedConnection,
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    proxy_headers=False,
                    ws=GuardedSocket,
                    ws_max_size=_MAX_WEBSOCKET_MESSAGE,
                    # Longer than the clients of this repository keep an idle connection, so that they are the ones who close it.
                    timeout_keep_alive=_KEEPALIVE_SECONDS,
                    timeout_graceful_shutdown=math.ceil(settings.stop_grace) + _FORCED_STOP_SECONDS,
                )
            )
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
            try:
                await server.wait_until_ready(serving)
                logger.info("listening on %s, data in %s", url, settings.data)
                yield RunningPlatform(
                    url=url,
                    admin_token=platform.admin_token,
                    bus=platform.bus,
                    store=platform.store,
                    settings=settings,
                    _platform=platform,
                )
            finally:
                with anyio.CancelScope(shield=True):
                    server.should_exit = True
                    with anyio.move_on_after(settings.stop_grace):
                        await platform.background.idle()
                    platform.proxy.release_waiting()
                    platform.bus.close()
                    await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the command line owns those), and with a way to wait for the start."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._ready.set()

    async def wait_until_ready(self, serving: asyncio.Task[None]) -> None:
        """Wait until requests are taken, or raise what prevented it."""
        ready = asyncio.create_task(self._ready.wait(), name="http server start")
        try:
            await asyncio.wait({ready, serving}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
                raise RuntimeError("the HTTP server ended before it began")
        finally:
            ready.cancel()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as exc:
        raise PortTakenError(f"host {host!r} is no address of this machine ({exc}); use 127.0.0.1") from exc
    listener = socket.socket(family, kind, protocol)
    try:
        # Without it the port stays unusable for a minute after a stop; it does not let two servers share one.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"port {port} on {host} is taken by another program; stop it, or choose another with --port (0 takes a free one)"
            ) from exc
        raise PortTakenError(
            f"cannot listen on {host} port {port} ({exc.strerror}); choose others with --host and --port"
        ) from exc
    return listener


def _url_of(listener: socket.socket, host: str) -> str:
    port = listener.getsockname()[1]
    if host in {"0.0.0.0", ""}:  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    elif host == "::":
        host = "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
