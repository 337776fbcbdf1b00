"""Real `molecule-mcp` processes: driven by the official client, or line by line."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import Client, StdioServerParameters, stdio_client
from tests.support import warm
from tests.support.tenants import bearer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import Process
    from mcp.types import CallToolResult
    from tests.support.tenants import Member, Tenant

SECONDS = 30.0
MODULE = ("-m", "molecule_runtime.mcp")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@dataclass(frozen=True)
class Place:
    """Where a process keeps its state, and what it is told."""

    home: Path
    variables: Mapping[str, str]

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def log(self) -> Path:
        return self.home / "stderr"

    @property
    def environ(self) -> dict[str, str]:
        """Nothing of the environment of the tests gets in."""
        return {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "CONFIGS_DIR": str(self.state),
            "PYTHONWARNINGS": "error",
            **self.variables,
        }

    def log_text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def place(folder: Path, **variables: str) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    return Place(folder, variables)


def one(folder: Path, url: str, member: Member, **variables: str) -> Place:
    """A process for one workspace."""
    single = {"WORKSPACE_ID": member.id, "PLATFORM_URL": url, "MOLECULE_WORKSPACE_TOKEN": member.token}
    return place(folder, **single, **variables)


def several(folder: Path, *entries: Mapping[str, str], **variables: str) -> Place:
    """A process for several workspaces."""
    return place(folder, MOLECULE_WORKSPACES=json.dumps(entries), **variables)


@dataclass(frozen=True)
class Session:
    """A session of the official client with a process whose number is known."""

    client: Client
    pid: int
    patience: anyio.CancelScope

    def go_on(self) -> None:
        """Begin to count anew: the deadline is for one step, since a long test on a busy machine has many."""
        self.patience.deadline = anyio.current_time() + 2 * SECONDS

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        self.go_on()
        return await self.client.call_tool(tool, arguments)

    async def message(self) -> Any:
        """Wait for a message as an agent does: it asks again until there is one."""
        with anyio.fail_after(SECONDS):
            while "activity_id" not in (found := await self.json("wait_for_message", timeout_secs=20)):
                pass
        return found

    async def text(self, tool: str, **arguments: Any) -> str:
        result = await self.call(tool, **arguments)
        assert not result.is_error, text_of(result)
        return text_of(result)

    async def json(self, tool: str, **arguments: Any) -> Any:
        return json.loads(await self.text(tool, **arguments))

    async def kill(self) -> None:
        """Kill the process, and wait until it is gone."""
        gone = os.pidfd_open(self.pid)
        try:
            os.kill(self.pid, signal.SIGKILL)
            with anyio.fail_after(SECONDS):
                await anyio.wait_readable(gone)
        finally:
            os.close(gone)


@asynccontextmanager
async def session(where: Place, *, mode: str = "auto", **options: Any) -> AsyncGenerator[Session]:
    """Run `molecule-mcp` under the official client, over real stdio; `options` are those of the client."""
    # The client keeps the process to itself.
    pid_file = where.home / "pid"
    program, *arguments = await anyio.to_thread.run_sync(warm.stand_in, "molecule-mcp", pid_file)
    server = StdioServerParameters(command=program, args=arguments, env=where.environ)
    with anyio.fail_after(2 * SECONDS) as patience, where.log.open("a", encoding="utf-8") as log:
        async with Client(stdio_client(server, errlog=log), mode=mode, **options) as client:
            yield Session(client, int(await anyio.Path(pid_file).read_text()), patience)
            patience.deadline = anyio.current_time() + 2 * SECONDS


def tool_call(request_id: int, tool: str, **arguments: Any) -> dict[str, Any]:
    """The request that calls a tool."""
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


class Lines:
    """A process that is spoken to line by line."""

    def __init__(self, process: Process, where: Place) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.where = where
        self.received = bytearray()
        self.patience = SECONDS
        self._buffered = BufferedByteReceiveStream(process.stdout)

    async def send(self, *lines: object) -> None:
        for line in lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode()
            await self.stdin.send(data + b"\n")

    async def read(self) -> dict[str, Any]:
        with anyio.fail_after(self.patience):
            line = await self._buffered.receive_until(b"\n", 1024 * 1024)
        self.received += line + b"\n"
        return dict(json.loads(line))

    async def answer(self, request_id: int | str) -> dict[str, Any]:
        """Read up to the answer to a request."""
        while (message := await self.read()).get("id") != request_id:
            pass
        return message

    async def hello(self) -> dict[str, Any]:
        await self.send(INITIALIZE)
        answer = await self.answer(1)
        await self.send(INITIALIZED)
        return dict(answer["result"])

    async def call(self, request_id: int, tool: str, **arguments: Any) -> None:
        await self.send(tool_call(request_id, tool, **arguments))

    async def end(self) -> int:
        with anyio.fail_after(self.patience):
            return await self.process.wait()


@asynccontextmanager
async def lines(where: Place, command: Sequence[str] = ()) -> AsyncGenerator[Lines]:
    """Run `molecule-mcp`, or a command of this Python; whatever is left of it is killed in the end."""
    with where.log.open("ab") as log:
        if command:
            process = await anyio.open_process([sys.executable, *command], env=where.environ, stderr=log)
        else:
            process = await warm.open_process("molecule-mcp", environ=where.environ, stderr=log)
    async with process:
        try:
            yield Lines(process, where)
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()


async def online(where: Tenant, *members: Member) -> None:
    """Wait until the platform saw every one of them register."""
    with anyio.fail_after(SECONDS):
        async with where.platform.bus.subscribe() as frames:
            missing: set[str] = set()
            for member in members:
                row = (await where.http.get(f"/workspaces/{member.id}", headers=bearer(member))).json()
                if row["status"] != "online":
                    missing.add(member.id)
            while missing:
                frame = await anext(frames)
                if frame.event == "WORKSPACE_ONLINE":
                    missing.discard(frame.workspace_id)
