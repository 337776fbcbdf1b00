"""Real `molecule-mcp --transport http` processes, and clients of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import httpx2
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.support.warm import open_process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from anyio.abc import Process

SECONDS = 30.0
MODULE = ("-m", "molecule_runtime.mcp")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIMITED = """
import sys, anyio
from molecule_runtime.core import env
from molecule_runtime.mcp.http_server import HttpOptions, serve_http
from molecule_runtime.mcp.settings import load_settings
options = HttpOptions(port=0, announce_json=True, max_sessions=int(sys.argv[1]), idle_seconds=float(sys.argv[2]))
anyio.run(serve_http, load_settings(env.current()), options, env.current())
"""
ACCEPT = {"Accept": "application/json, text/event-stream"}


@dataclass(frozen=True)
class Served:
    """A process that serves HTTP.

    Attributes:
        announced: what it said of itself on stdout.
    """

    process: Process
    environ: Mapping[str, str]
    announced: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.announced["url"])

    @property
    def base(self) -> str:
        return self.url.removesuffix("/mcp")

    @property
    def token(self) -> str:
        file = self.announced["token_file"]
        return (
            self.environ["MOLECULE_MCP_HTTP_TOKEN"] if file is None else Path(file).read_text(encoding="utf-8").strip()
        )

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def http(self, **headers: str) -> httpx.AsyncClient:
        """A client that sends what an MCP client does, with the token."""
        return httpx.AsyncClient(
            base_url=self.base, headers={**self.bearer, **ACCEPT, **headers}, trust_env=False, timeout=SECONDS
        )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end; returns its exit code."""
        self.process.send_signal(number)
        with anyio.fail_after(SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def served(
    environ: Mapping[str, str],
    log: Path,
    *flags: str,
    cold: bool = False,
    max_sessions: int | None = None,
    idle_seconds: float = 1800.0,
) -> AsyncGenerator[Served]:
    """Run it on a free port, with nothing but `environ`; whatever is left of it is killed in the end.

    A cold one is a Python of its own from the beginning. With `max_sessions` it is the same server without the command, which has no
    options for limits.
    """
    arguments = ["--transport", "http", "--port", "0", "--announce-json", *flags]
    command = [sys.executable, *MODULE, *arguments] if cold else []
    if max_sessions is not None:
        command = [sys.executable, "-c", LIMITED, str(max_sessions), str(idle_seconds)]
    with log.open("ab") as stderr:
        if command:
            process = await anyio.open_process(command, env=environ, stderr=stderr, stdin=subprocess.DEVNULL)
        else:
            process = await open_process(
                "molecule-mcp", arguments, environ=environ, stderr=stderr, stdin=subprocess.DEVNULL
            )
    async with process:
        try:
            assert process.stdout is not None
            with anyio.fail_after(SECONDS):
                line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 65536)
            yield Served(process, environ, json.loads(line))
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def connected(server: Served, *, mode: str = "auto", **options: Any) -> AsyncGenerator[Client]:
    """Open a session of the official client."""
    http = httpx2.AsyncClient(headers=server.bearer, trust_env=False, timeout=SECONDS)
    with anyio.fail_after(2 * SECONDS):
        async with http, Client(streamable_http_client(server.url, http_client=http), mode=mode, **options) as client:
            yield client


async def opened(http: httpx.AsyncClient) -> str:
    """Open a session by hand; returns its id."""
    answer = await http.post("/mcp", json=INITIALIZE)
    assert answer.status_code == 200, answer.text
    session = answer.headers["mcp-session-id"]
    ready = await http.post("/mcp", json=INITIALIZED, headers={"mcp-session-id": session})
    assert ready.status_code == 202, ready.text
    return str(session)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
