"""A scripted platform: a real HTTP server that records every request and answers what a test laid down."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread

from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken, TokenSource

if TYPE_CHECKING:
    from molecule_runtime.core.platform.pools import ConnectionPools

DEADLINE = 10.0
"""Seconds that any wait of a test may take; far above what it needs."""

TOKEN = "Zq7-example-token-of-workspace-one"  # noqa: S105 - made up


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One recorded request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme == "Bearer" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One scripted answer.

    Attributes:
        body: an object becomes JSON; bytes go out as they are.
        gate: the answer waits until this is set.
        promise: bytes of Content-Length beyond the body, after which the connection is cut.
        raw: these bytes instead of an HTTP answer (empty: the connection is cut at once).
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    gate: threading.Event | None = None
    promise: int = 0
    raw: bytes | None = None


Script: TypeAlias = Answer | Callable[[Request], Answer]


class ScriptedPlatform:
    """An HTTP server on a free port. Unscripted routes answer 404 in the platform's form."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._changed = threading.Condition()
        self._scripts: dict[tuple[str, str], deque[Script]] = {}
        self._gates: list[threading.Event] = []
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.connections = 0
        """That were made so far."""
        self.open_connections = 0
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def on(self, method: str, path: str, *scripts: Script) -> None:
        """Answer a route with these in turn; the last one repeats."""
        for script in scripts:
            if isinstance(script, Answer) and script.gate is not None:
                self._gates.append(script.gate)
        with self._changed:
            self._scripts[method, path] = deque(scripts)

    def to(self, method: str, path: str) -> list[Request]:
        """Return the requests of one route, in the order they came."""
        with self._changed:
            return [request for request in self.requests if (request.method, request.path) == (method, path)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the recorded requests holds."""

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(condition, DEADLINE)

        assert await anyio.to_thread.run_sync(wait, abandon_on_cancel=True), (
            f"not reached; requests: {[(r.method, r.path) for r in self.requests]}"
        )

    async def until_requests(self, method: str, path: str, count: int = 1) -> list[Request]:
        """Wait until a route was asked so many times."""
        await self.until(lambda: len([r for r in self.requests if (r.method, r.path) == (method, path)]) >= count)
        return self.to(method, path)

    def connected(self, change: int) -> None:
        """Count a connection in or out."""
        with self._changed:
            self.connections += max(0, change)
            self.open_connections += change
            self._changed.notify_all()

    def answer(self, request: Request) -> Answer:
        """Record a request and take the next answer of its route."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            scripts = self._scripts.get((request.method, request.path))
            if not scripts:
                return Answer(status=404, body={"error": "no such route in this test"})
            script = scripts.popleft() if len(scripts) > 1 else scripts[0]
        return script if isinstance(script, Answer) else script(request)

    def close(self) -> None:
        for gate in self._gates:
            gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no failure of the server."""

    def server_bind(self) -> None:
        # HTTPServer looks the name of its address up, which may ask a name server.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


def _handler_of(platform: ScriptedPlatform) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            platform.connected(1)

        def finish(self) -> None:
            super().finish()
            platform.connected(-1)

        def _any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            answer = platform.answer(
                Request(
                    method=self.command,
                    path=parts.path,
                    query=parse_qs(parts.query, keep_blank_values=True),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(length),
                )
            )
            if answer.gate is not None:
                answer.gate.wait(DEADLINE)
            if answer.raw is not None:
                self.wfile.write(answer.raw)
                self.close_connection = True
                return
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            headers = {"Content-Type": "application/json"} | answer.headers
            self.send_response(answer.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) + answer.promise))
            self.end_headers()
            self.wfile.write(body)
            if answer.promise:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - names of the standard library

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on stderr."""

    return Handler


@dataclass(slots=True)
class Rotating:
    """A token source whose token a test changes."""

    value: str = TOKEN
    description: str = "a rotating source"
    reads: int = 0

    def read(self) -> str:
        self.reads += 1
        return self.value


def target_of(
    url: str, *, workspace: str = "ws-1", token: str | TokenSource = TOKEN, org_id: str | None = None
) -> WorkspaceTarget:
    source = StaticToken(token) if isinstance(token, str) else token
    return WorkspaceTarget(id=validate_workspace_id(workspace), token=source, platform_url=url, org_id=org_id)


def client_of(
    platform: ScriptedPlatform,
    pools: ConnectionPools,
    *,
    workspace: str = "ws-1",
    token: str | TokenSource = TOKEN,
    org_id: str | None = None,
) -> PlatformClient:
    return PlatformClient(target_of(platform.url, workspace=workspace, token=token, org_id=org_id), pools)


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
