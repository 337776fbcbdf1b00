"""What a tool call costs on top of its request, and what a thousand delegations at once cost: time, memory, answers lost.

uv run python -m tests.benchmarks.tool_calls [--calls 400] [--delegations 1000]

The server runs in a process of its own and answers at once, so that what is measured is ours. `dispatch` goes through everything a call
goes through (arguments, permission, deadline, bounds); the floor is one httpx request of the same kind over a connection that is kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken
from molecule_runtime.tools import Journal, Permissions, ToolContext, dispatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

OWN_ID = "alice"
PEER_ID = "bob"
WORKSPACE = {"id": OWN_ID, "name": "Alice", "status": "online"}
ANSWER = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": "done " * 200}]}


def serve() -> None:
    """Be the platform: print the port, and answer until stdin ends."""
    import asyncio

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                path = head.split(" ", 2)[1]
                length = next(
                    (int(line.split(":")[1]) for line in head.splitlines() if line.startswith("content-length:")), 0
                )
                if length:
                    await reader.readexactly(length)
                if path.endswith("/a2a"):
                    body: dict[str, Any] = {"jsonrpc": "2.0", "id": "1", "result": ANSWER}
                elif path.startswith("/registry/discover/"):
                    body = {"id": PEER_ID, "name": "Bob"}
                elif path.endswith("/activity"):
                    body = {"status": "logged"}
                else:
                    body = WORKSPACE
                data = json.dumps(body).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (len(data), data)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=2048)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        server.close()

    asyncio.run(main())


async def one_after_another(calls: int, run: Callable[[], Awaitable[object]]) -> list[float]:
    """Return the milliseconds of each call, after some that do not count."""
    for _ in range(20):
        await run()
    taken: list[float] = []
    for _ in range(calls):
        started = time.perf_counter()
        await run()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def row(name: str, taken: list[float], floor: float) -> str:
    """Return one line of the table: milliseconds, and those above the floor."""
    ordered = sorted(taken)
    p99 = ordered[int(len(ordered) * 0.99)]
    median = statistics.median(ordered)
    return f"{name:<34} {median:8.2f} {p99:8.2f} {median - floor:8.2f}"


async def overhead(url: str, context: ToolContext, calls: int) -> None:
    """Print what a call costs."""
    async with httpx.AsyncClient(trust_env=False) as http:

        async def direct() -> None:
            (await http.get(f"{url}/workspaces/{OWN_ID}", headers={"Authorization": "Bearer t"})).json()

        async def three() -> None:
            message = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": ANSWER}}
            headers = {"Authorization": "Bearer t"}
            (await http.get(f"{url}/registry/discover/{PEER_ID}", headers=headers)).json()
            (await http.post(f"{url}/workspaces/{PEER_ID}/a2a", json=message, headers=headers)).json()
            (await http.post(f"{url}/workspaces/{OWN_ID}/activity", json=ANSWER, headers=headers)).json()

        async def ours(name: str, **arguments: Any) -> None:
            result = await dispatch(name, arguments, context)
            assert not result.is_error, result.text

        client = context.client_of(OWN_ID)
        # In turn, so that a machine whose speed drifts slows all of them.
        samples: dict[str, list[float]] = {}
        tasks: dict[str, Callable[[], Awaitable[object]]] = {
            "httpx, one request": direct,
            "httpx, three requests": three,
            "PlatformClient, one request": client.workspace,
            "get_workspace_info, one request": lambda: ours("get_workspace_info"),
            "get_runtime_identity, no request": lambda: ours("get_runtime_identity"),
            "delegate_task, three requests": lambda: ours("delegate_task", workspace_id=PEER_ID, task="t"),
        }
        for _ in range(4):
            for name, run in tasks.items():
                samples.setdefault(name, []).extend(await one_after_another(max(1, calls // 4), run))
    one, floor = (statistics.median(samples[f"httpx, {number}"]) for number in ("one request", "three requests"))
    print(f"{'milliseconds':<34} {'median':>8} {'p99':>8} {'above':>8}")
    for name, taken in samples.items():
        print(row(name, taken, floor if "three" in name else 0 if "no request" in name else one))


async def at_once(context: ToolContext, delegations: int) -> None:
    """Print what many delegations at once cost."""
    taken: list[float] = []
    failed = 0

    async def one(number: int) -> None:
        nonlocal failed
        started = time.perf_counter()
        result = await dispatch("delegate_task", {"workspace_id": PEER_ID, "task": f"task {number}"}, context)
        taken.append(time.perf_counter() - started)
        failed += result.is_error

    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(delegations):
            group.start_soon(one, number)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    ordered = sorted(taken)
    grown = (after.ru_maxrss - before.ru_maxrss) / 1024
    print(f"\n{delegations} delegations at once: {seconds:.2f} s, {delegations / seconds:.0f}/s, {failed} failed")
    print(f"each: median {statistics.median(ordered):.2f} s, p99 {ordered[int(len(ordered) * 0.99) - 1]:.2f} s")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"memory: {grown:+.1f} MiB ({grown * 1024 / delegations:.1f} KiB each); CPU {cpu / delegations * 1000:.2f} ms each"
    )


async def measure(url: str, folder: Path, calls: int, delegations: int) -> None:
    """Print both tables."""
    target = WorkspaceTarget(id=validate_workspace_id(OWN_ID), token=StaticToken("t"), platform_url=url)
    async for context in _contexts(target, folder):
        await overhead(url, context, calls)
        await at_once(context, delegations)


async def _contexts(target: WorkspaceTarget, folder: Path) -> AsyncGenerator[ToolContext]:
    journal = Journal(folder)
    async with ConnectionPools() as pools, PlatformClient(target, pools) as client:
        yield ToolContext(clients={OWN_ID: client}, permissions=Permissions(("operator",)), journal=journal)
    journal.close()


def main() -> None:
    """Start the server and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--delegations", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    command = [sys.executable, "-m", "tests.benchmarks.tool_calls", "--serve"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdin is not None
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        try:
            anyio.run(measure, url, Path(folder), options.calls, options.delegations)
        finally:
            server.stdin.close()


if __name__ == "__main__":
    main()
