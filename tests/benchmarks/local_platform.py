"""How fast `molecule-local` is, beside a bare starlette endpoint and a bare starlette proxy on the same uvicorn, in one run.

uv run python -m tests.benchmarks.local_platform [--seconds 3] [--rounds 3] [--json]

Heartbeats and proxied messages a second over 1 and 32 connections, memory with 1,000 registered workspaces, and the time from the start of
the process to the first healthy answer beside that of the bare endpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from tests.benchmarks.http_load import Load, request_of, run

if TYPE_CHECKING:
    from collections.abc import Generator

WORKSPACES = 1000
START_SECONDS = 30.0
MESSAGE = {"jsonrpc": "2.0", "id": "1", "method": "message/send"}


@contextlib.contextmanager
def bare(kind: str, *arguments: str) -> Generator[str]:
    """Run one of the peers and yield its URL."""
    command = [sys.executable, "-m", "tests.benchmarks.bare_servers", kind, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextlib.contextmanager
def platform(folder: Path) -> Generator[tuple[subprocess.Popen[str], str, str]]:
    """Run `molecule-local` and yield its process, URL and admin token."""
    command = [
        sys.executable,
        "-m",
        "molecule_runtime.localplatform",
        "up",
        "--port",
        "0",
        "--data",
        str(folder),
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            yield process, started["url"], Path(started["admin_token_file"]).read_text(encoding="utf-8").strip()
        finally:
            process.kill()


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def create(client: httpx.Client, name: str, **fields: Any) -> tuple[str, str]:
    """Create an external workspace; returns id and token."""
    made = client.post("/workspaces", json={"name": name, "external": True, **fields}).raise_for_status().json()
    return made["id"], made["connection"]["auth_token"]


def register(client: httpx.Client, workspace_id: str, token: str, **fields: Any) -> None:
    """Register a workspace."""
    body = {"id": workspace_id, "agent_card": {"name": "agent"}, **fields}
    client.post("/registry/register", json=body, headers={"Authorization": f"Bearer {token}"}).raise_for_status()


def heartbeats(url: str, members: list[tuple[str, str]]) -> list[bytes]:
    """Return one heartbeat of each workspace."""
    return [
        request_of(
            f"{url}/registry/heartbeat",
            json.dumps(
                {"workspace_id": workspace_id, "active_tasks": 0, "uptime_seconds": 60, "error_rate": 0.0}
            ).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )
        for workspace_id, token in members
    ]


def message(number: int) -> bytes:
    """Return one message."""
    body = {"role": "user", "messageId": f"m-{number}", "parts": [{"kind": "text", "text": "what is 6 times 7?"}]}
    return json.dumps({**MESSAGE, "params": {"message": body}}).encode()


def median(loads: list[Load]) -> Load:
    """Return the load with the median rate."""
    return sorted(loads, key=lambda load: load.per_second)[len(loads) // 2]


def measure_rates(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Return the rates of the platform and of its peers."""
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        endpoint = stack.enter_context(bare("endpoint"))
        agent = stack.enter_context(bare("agent"))
        proxy = stack.enter_context(bare("proxy", agent))
        _, url, token = stack.enter_context(platform(folder / "data"))
        admin = stack.enter_context(
            httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
        )
        parent = create(admin, "parent")
        members = [create(admin, f"agent {number}", parent_id=parent[0]) for number in range(33)]
        sender, targets = members[0], members[1:]
        for workspace_id, its_token in members:
            register(admin, workspace_id, its_token, url=agent)
        as_sender = {"Authorization": f"Bearer {sender[1]}", "X-Workspace-ID": sender[0]}
        beats = heartbeats(url, members)
        sent = [
            request_of(f"{url}/workspaces/{target}/a2a", message(number), headers=as_sender)
            for number, (target, _) in enumerate(targets)
        ]
        kinds = {
            "bare starlette endpoint": (endpoint, [request_of(endpoint, b'{"workspace_id":"x","active_tasks":0}')]),
            "molecule-local heartbeat": (url, beats),
            "bare starlette proxy": (proxy, [request_of(proxy, message(0))]),
            "molecule-local a2a proxy": (url, sent),
        }
        for connections in (1, 32):
            results: dict[str, list[Load]] = {name: [] for name in kinds}
            for counted in range(rounds + 1):
                for name, (where, requests) in kinds.items():
                    load = asyncio.run(
                        run(requests, where, connections=connections, seconds=seconds if counted else 0.5)
                    )
                    if counted:
                        results[name].append(load)
            floor = median(results["bare starlette endpoint"]).per_second
            peer = median(results["bare starlette proxy"]).per_second
            for name, loads in results.items():
                load = median(loads)
                rows.append(
                    {
                        "what": name,
                        "connections": connections,
                        "per_second": round(load.per_second),
                        "p50_ms": round(load.p50, 2),
                        "p99_ms": round(load.p99, 2),
                        "of_endpoint": round(load.per_second / floor, 2),
                        "of_proxy": round(load.per_second / peer, 2),
                    }
                )
    return rows


def measure_memory() -> dict[str, float]:
    """Return the resident memory before and after 1,000 workspaces have registered and sent a heartbeat."""
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder) / "data") as (process, url, token):
        empty = resident_mebibytes(process.pid)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as admin:
            parent = create(admin, "parent")
            members = [create(admin, f"agent {number}", parent_id=parent[0]) for number in range(WORKSPACES)]
            card = {
                "name": "agent",
                "description": "An agent with a card of usual size. " * 10,
                "skills": [{"id": "a"}] * 5,
            }
            for workspace_id, its_token in members:
                register(admin, workspace_id, its_token, delivery_mode="poll", agent_card=card)
            asyncio.run(run(heartbeats(url, members), url, connections=32, seconds=3))
        return {"empty_mib": round(empty, 1), "registered_mib": round(resident_mebibytes(process.pid), 1)}


def measure_start(rounds: int) -> dict[str, float]:
    """Return the seconds from the start of a process to its first answer, as medians."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            with platform(Path(folder) / "data") as (_, url, _):
                _first_answer(f"{url}/health", "GET")
                ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        with bare("endpoint") as url:
            _first_answer(url, "POST")
            theirs.append(time.perf_counter() - started)
    seconds, floor = statistics.median(ours), statistics.median(theirs)
    return {
        "molecule_local_s": round(seconds, 3),
        "bare_endpoint_s": round(floor, 3),
        "ratio": round(seconds / floor, 2),
    }


def _first_answer(url: str, method: str) -> None:
    deadline = time.perf_counter() + START_SECONDS
    with httpx.Client(trust_env=False) as client:
        while time.perf_counter() < deadline:
            with contextlib.suppress(httpx.TransportError):
                client.request(method, url, json={} if method == "POST" else None).raise_for_status()
                return
    raise RuntimeError(f"{url} did not answer within {START_SECONDS:.0f} s")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = measure_rates(options.seconds, options.rounds)
    memory, start = measure_memory(), measure_start(options.rounds)
    if options.json:
        print(json.dumps({"rates": rates, "memory": memory, "start": start}))
        return
    print(f"{'':26}  {'conns':>5}  {'req/s':>6}  {'p50 ms':>7}  {'p99 ms':>7}  {'of endpoint':>11}  {'of proxy':>8}")
    for row in rates:
        print(
            f"{row['what']:26}  {row['connections']:5}  {row['per_second']:6}  {row['p50_ms']:7.2f}  {row['p99_ms']:7.2f}"
            f"  {row['of_endpoint']:11.2f}  {row['of_proxy']:8.2f}"
        )
    print(
        f"memory: {memory['empty_mib']} MiB empty, {memory['registered_mib']} MiB with {WORKSPACES} registered workspaces"
    )
    print(
        f"start to first answer: {start['molecule_local_s']} s, {start['ratio']}x the bare endpoint's {start['bare_endpoint_s']} s"
    )


if __name__ == "__main__":
    main()
