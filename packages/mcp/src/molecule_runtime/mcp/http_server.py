"""Streamable HTTP: MCP sessions of many clients over one port of this machine, and the work of every workspace beside them."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
import uvicorn
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from uvicorn.protocols.http.h11_impl import H11Protocol

from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.identity import is_loopback
from molecule_runtime.mcp.errors import ListenError
from molecule_runtime.mcp.http_gate import LOOPBACK_NAMES, MAX_BODY, MCP_PATH, Gate
from molecule_runtime.mcp.http_streams import OpenStreams
from molecule_runtime.mcp.http_token import HttpToken, load_token
from molecule_runtime.mcp.opening import open_process
from molecule_runtime.mcp.push_session import bind
from molecule_runtime.mcp.server import create_server

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Generator, Mapping

    from starlette.types import ASGIApp

    from molecule_runtime.mcp.settings import McpSettings

logger = logging.getLogger(__name__)

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 9100
"""Contract `runtime.md` 5.5."""

MAX_SESSIONS: Final = 512
"""Open at once, by default. A sidecar that is probed with `initialize` every ten seconds has some 180 that nobody uses."""

IDLE_SECONDS: Final = 1800.0
"""Without a request, and without an open stream, after which a session ends by default: the SDK's own."""

MAX_REQUESTS: Final = 1024
"""Connections and requests at once; more are answered 503."""

_HEAD_SECONDS = 15.0
_STOP_SECONDS = 1.8
_GRACE_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Where to listen.

    Attributes:
        host: an address of this machine.
        port: 0 for a free one.
        allowed_hosts: names, beside those of this machine, that clients reach this server by.
        announce_json: print the address as a line of JSON on stdout too.
        max_sessions: how many sessions may be open.
        idle_seconds: how long a session lasts without a request and without an open stream.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = ()
    announce_json: bool = False
    max_sessions: int = MAX_SESSIONS
    idle_seconds: float = IDLE_SECONDS

    def check(self) -> None:
        """Refuse what would open the tools to others unasked.

        Raises:
            ConfigurationError: the port does not exist, or others reach the address and nobody said that they may.
        """
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"--port {self.port} is no port; use 1 to 65535, or 0 for a free one")
        if not self.allowed_hosts and not is_loopback(self.host):
            raise ConfigurationError(
                f"--host {self.host} is not a loopback address: whoever reaches it could try tokens, and yours would cross the network"
                " in the clear. If that is meant (a proxy in front encrypts), say by which name clients come: --allow-host NAME"
            )


async def serve_http(settings: McpSettings, options: HttpOptions, environ: Mapping[str, str] | None = None) -> None:
    """Serve MCP over HTTP until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the options or the token are wrong.
        ListenError: the address cannot be listened on.
        StateError: the inbox file cannot be used.
    """
    options.check()
    token = await anyio.to_thread.run_sync(load_token, settings.state_dir, environ)
    # Before anything else: a second start by mistake must not register the workspaces first.
    with _bound(options) as listener:
        port = listener.getsockname()[1]
        async with open_process(settings, environ) as opened, anyio.create_task_group() as background:
            background.start_soon(opened.supervisor.run)
            server = create_server(settings, opened)
            streams = OpenStreams()
            if opened.inbox is not None:
                choice = settings.push.of_the_client_alone()
                server.experimental = choice.capabilities
                bind(server, opened.inbox, choice, background, streams)
            sessions = StreamableHTTPSessionManager(
                server,
                session_idle_timeout=options.idle_seconds,
                max_sessions=options.max_sessions,
                max_request_body_size=MAX_BODY,
            )
            single = StreamableHTTPSessionManager(
                server, stateless=True, json_response=True, max_request_body_size=MAX_BODY
            )
            gate = Gate(
                token=token.secret,
                hosts=_hosts(options),
                port=port,
                sessions=sessions.handle_request,
                single=single.handle_request,
                streams=streams,
                full=(
                    f"{options.max_sessions} sessions are open, and no more may be",
                    f"end one that is done with (DELETE {MCP_PATH}), or come again: "
                    f"one ends after {options.idle_seconds:g} s without a request or an open stream",
                ),
            )
            http = _HttpServer(gate)
            async with anyio.create_task_group() as serving, sessions.run(), single.run():
                serving.start_soon(http.serve, [listener])
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    await http.listening()
                    _announce(options, port, token)
                    async for number in signals:
                        logger.info("stopping on %s", signal.Signals(number).name)
                        break
                _leave_late()
                gate.close()
                http.should_exit = True
                # First the sessions end, and with them the streams that the server would wait for.
            background.cancel_scope.cancel()


def _leave_late() -> None:
    """End the process in a while, whatever still runs or blocks the event loop; the inbox is on disk at every moment."""
    timer = threading.Timer(_STOP_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()


def _hosts(options: HttpOptions) -> set[str]:
    own = f"[{options.host}]" if ":" in options.host else options.host
    return {*LOOPBACK_NAMES, own.lower(), *(name.lower() for name in options.allowed_hosts)}


def _bound(options: HttpOptions) -> socket.socket:
    """Return a socket that is bound and does not listen yet.

    Raises:
        ListenError: another process has the port, or the address does not exist here or may not be used.
    """
    host = DEFAULT_HOST if options.host == "localhost" else options.host
    # The protocol is named: asyncio turns Nagle's algorithm off only where it is, and each answer would wait 40 ms for the client's ACK.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, options.port))
        # Two sockets may be bound to one port as long as neither listens: the second learns of it only here.
        listener.listen(128)
    except OSError as exc:
        listener.close()
        if exc.errno == errno.EADDRINUSE:
            raise ListenError(
                f"port {options.port} of {host} is taken by another process; stop it, or choose another with --port (0: a free one)"
            ) from None
        raise ListenError(
            f"cannot listen on port {options.port} of {host!r}: {exc.strerror or exc}; check --host and --port"
        ) from None
    return listener


def _announce(options: HttpOptions, port: int, token: HttpToken) -> None:
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{port}{MCP_PATH}"
    where = f"in {token.file}" if token.file is not None else "that of MOLECULE_MCP_HTTP_TOKEN"
    print(f"molecule-mcp: serving MCP at {url}; the bearer token is {where}", file=sys.stderr, flush=True)  # noqa: T201 - the command's own line
    if options.announce_json:
        announced = {"url": url, "host": options.host, "port": port, "pid": os.getpid()}
        line = json.dumps({**announced, "token_file": str(token.file) if token.file is not None else None})
        print(line, flush=True)  # noqa: T201 - what --announce-json asks for


class _Connection(H11Protocol):
    """One connection of a client, with a deadline for its first request: uvicorn's own would wait without end."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head = self.loop.call_later(_HEAD_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        cycle: Any = self.cycle
        if cycle is not None:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


class _HttpServer(uvicorn.Server):
    """uvicorn without its signal handlers: it would raise a signal again and so skip the rest of the stop."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                # Whose a request is, a header must not claim.
                proxy_headers=False,
                limit_concurrency=MAX_REQUESTS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._listening = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept connections."""
        await super().startup(sockets=sockets)
        self._listening.set()

    async def listening(self) -> None:
        """Return once connections are accepted."""
        await self._listening.wait()
