"""A strict fake platform and real hosts: in this process for what they say, as a subprocess for how they live and die."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.support.in_process import run_main
from tests.support.warm import WarmProcess, start

from molecule_runtime.a2a import boot, cli
from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.a2a.stopping import StopSignal
from molecule_runtime.core.config import load_config

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.requests import Request

DEADLINE = 30.0
"""Seconds that any wait of these tests may take; far more than a slow machine needs."""

COMMAND = str(Path(sys.executable).with_name("molecule-runtime"))

ECHO = """
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "echo")
        display_name = staticmethod(lambda: "Echo")
        description = staticmethod(lambda: "Repeats what it is told.")

        async def setup(self, config):
            self.config = config

        async def create_executor(self, config):
            return ReplyExecutor(self.answer)

        async def answer(self, turn):
            return f"You said: {turn.text}"
"""


def free_port() -> int:
    """Return a port that stays free while its host is down: below those that the system gives to outgoing connections."""
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            port = random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
            sock.bind(("127.0.0.1", port))
            return port


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait, bounded, until something that no event announces is true."""
    with anyio.move_on_after(DEADLINE):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await anyio.sleep(0.01)
        return
    pytest.fail(f"never happened: {what}")


@dataclass
class FakePlatform:
    """The registry as the platform's contract has it: a bearer is required once a token was issued."""

    port: int
    token: str = "issued-token-1234567890"  # noqa: S105 - of a fake
    secret: str = "inbound-secret-1234567890"  # noqa: S105 - of a fake
    issued: bool = False
    registrations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cards_updated: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cards_seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    beats: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    notes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    peers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    delegations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    gates: dict[str, anyio.Event] = field(default_factory=dict[str, anyio.Event])
    opened: dict[str, anyio.Event] = field(default_factory=dict[str, anyio.Event])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def gate(self, name: str) -> tuple[anyio.Event, anyio.Event]:
        """Return (somebody waits at the gate, the gate is open)."""
        return self.gates.setdefault(name, anyio.Event()), self.opened.setdefault(name, anyio.Event())

    async def registered(self) -> dict[str, Any]:
        await eventually(lambda: self.registrations, "a registration")
        return self.registrations[-1]

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/registry/register", self._register, methods=["POST"]),
                Route("/registry/heartbeat", self._heartbeat, methods=["POST"]),
                Route("/registry/update-card", self._update_card, methods=["POST"]),
                Route("/registry/{id}/peers", self._peers),
                Route("/workspaces/{id}/a2a", self._a2a, methods=["POST"]),
                Route("/workspaces/{id}/notify", self._notify, methods=["POST"]),
                Route("/workspaces/{id}/delegations", self._delegations),
                Route("/workspaces/{id}/activity", self._activity),
                Route("/gate/{name}", self._gate),
                Route("/card/.well-known/agent-card.json", self._card),
                Route("/beats/{count}", self._beats),
            ]
        )

    def _refused(self, request: Request) -> Response | None:
        if self.issued and request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"error": "missing workspace auth token"}, status_code=401)
        return None

    async def _register(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        # The platform may send a message from now on, so the socket must accept now.
        async with httpx.AsyncClient(trust_env=False) as client:
            card = await client.get(f"{body['url']}/.well-known/agent-card.json", timeout=5)
        self.cards_seen.append(card.json())
        self.registrations.append(body)
        answer: dict[str, Any] = {"status": "registered", "platform_inbound_secret": self.secret}
        if not self.issued:
            self.issued = True
            answer["auth_token"] = self.token
        return JSONResponse(answer)

    async def _heartbeat(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self.beats.append(await request.json())
        return JSONResponse({"status": "ok"})

    async def _peers(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse(self.peers)

    async def _a2a(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        body = await request.json()
        target = request.path_params["id"]
        self.messages.append((target, body))
        for peer in self.peers:
            if peer["id"] == target and "proxy_to" in peer:
                async with httpx.AsyncClient(trust_env=False) as client:
                    answer = await client.post(peer["proxy_to"], json=body, timeout=DEADLINE)
                return JSONResponse(answer.json(), status_code=answer.status_code)
        return JSONResponse({"status": "queued", "delivery_mode": "poll", "method": "message/send"})

    async def _notify(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self.notes.append(await request.json())
        return JSONResponse({"status": "sent"})

    async def _delegations(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse(self.delegations)

    async def _activity(self, request: Request) -> Response:
        return self._refused(request) or JSONResponse([])

    async def _update_card(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        self.cards_updated.append((await request.json())["agent_card"])
        return JSONResponse({"status": "updated"})

    async def _card(self, _: Request) -> Response:
        return JSONResponse({"name": "a workspace without a server"})

    async def _gate(self, request: Request) -> Response:
        waiting, opened = self.gate(request.path_params["name"])
        waiting.set()
        await opened.wait()
        return JSONResponse({})

    async def _beats(self, request: Request) -> Response:
        """Answer once so many more beats of a busy workspace arrived."""
        wanted = int(request.path_params["count"]) + len(self._busy())
        await eventually(lambda: len(self._busy()) >= wanted, f"{wanted} beats")
        return JSONResponse({})

    def _busy(self) -> list[dict[str, Any]]:
        return [beat for beat in self.beats if beat["active_tasks"]]


@dataclass
class Workspace:
    """A folder with an adapter, a config.yaml and a state folder."""

    root: Path
    port: int
    platform_url: str
    adapter: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def environ(self, **changes: str) -> dict[str, str]:
        environ = {
            "WORKSPACE_ID": "ws-1",
            "WORKSPACE_CONFIG_PATH": str(self.root / "configs"),
            "CONFIGS_DIR": str(self.state),
            "PLATFORM_URL": self.platform_url,
            "MOLECULE_BIND_HOST": "127.0.0.1",
            "ADAPTER_MODULE": self.adapter,
            "PYTHONPATH": str(self.root),
            "HOME": str(self.root),
            "PATH": os.environ["PATH"],
        }
        return {key: value for key, value in {**environ, **changes}.items() if value}


@contextlib.asynccontextmanager
async def serving(workspace: Workspace, *, drain: float = 2.0, **changes: str) -> AsyncGenerator[StopSignal, None]:
    """Run a host in this process, so that every warning is an error."""
    environ = workspace.environ(**changes)
    settings = load_settings(environ)
    config = load_config(settings.config_path, environ)
    stop = StopSignal()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(boot.serve, settings, config, stop, drain)
        try:
            yield stop
        finally:
            stop.request("the end of the test")


async def ready(workspace: Workspace) -> None:
    """Wait until a host is ready for messages."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with anyio.fail_after(DEADLINE):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"{workspace.url}/ready")).status_code == 200:
                        return
                await anyio.sleep(0.02)


async def ask(
    workspace: Workspace, text: str, *, path: str = "/", part: Mapping[str, Any] | None = None, **message: Any
) -> dict[str, Any]:
    """Send a 0.3 `message/send` and return the JSON-RPC answer."""
    body = {
        "jsonrpc": "2.0",
        "id": "request-1",
        "method": "message/send",
        "params": {
            "message": {
                "role": "user",
                # One id for everything would be one message (see molecule_runtime.a2a.once).
                "messageId": str(uuid.uuid4()),
                "parts": [part or {"kind": "text", "text": text}],
                **message,
            }
        },
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{workspace.url}{path}", json=body, timeout=DEADLINE)
    return cast("dict[str, Any]", answer.json())


def text_of(answer: Mapping[str, Any]) -> str:
    """Return the text of a 0.3 answer with a Message."""
    result = answer["result"]
    assert result["kind"] == "message", answer
    return "\n".join(part["text"] for part in result["parts"])


@dataclass
class Process:
    """A `molecule-runtime` process."""

    popen: subprocess.Popen[bytes] | WarmProcess
    stderr: Path

    async def exit_code(self) -> int:
        with anyio.fail_after(DEADLINE):
            return await anyio.to_thread.run_sync(lambda: self.popen.wait(DEADLINE))

    def log(self) -> str:
        return self.stderr.read_text()

    async def says(self, text: str) -> None:
        await eventually(lambda: text in self.log(), f"{text!r} in the log:\n{self.log()}")


@contextlib.asynccontextmanager
async def process(workspace: Workspace, *arguments: str, **changes: str) -> AsyncGenerator[Process, None]:
    """Run a host as a process that need not import everything first."""
    stderr = workspace.root / "stderr.txt"
    stderr.write_bytes(b"")
    environ = workspace.environ(**changes)
    popen = start("molecule-runtime", arguments, environ=environ, folder=workspace.root, log=stderr)
    async with _until_the_end(Process(popen, stderr)) as host:
        yield host


@contextlib.asynccontextmanager
async def command(workspace: Workspace, *arguments: str, **changes: str) -> AsyncGenerator[Process, None]:
    """Run the installed command."""
    stderr = workspace.root / "stderr.txt"
    with stderr.open("wb") as handle:
        popen = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time that a test would miss
            [COMMAND, *arguments],
            env=workspace.environ(**changes),
            cwd=workspace.root,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
        )
    async with _until_the_end(Process(popen, stderr)) as host:
        yield host


@contextlib.asynccontextmanager
async def _until_the_end(host: Process) -> AsyncGenerator[Process, None]:
    try:
        yield host
    finally:
        if host.popen.poll() is None:
            host.popen.kill()
        host.popen.wait(DEADLINE)


@dataclass(frozen=True)
class Ended:
    """A command that ended by itself."""

    code: int
    log: str


async def ended(workspace: Workspace, **changes: str) -> Ended:
    """Run the command, in this process: for what ends it before it serves, and what it says then."""
    call = partial(run_main, cli.main, environ=workspace.environ(**changes))
    with anyio.fail_after(DEADLINE):
        done = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    return Ended(done.returncode, done.stdout + done.stderr)
