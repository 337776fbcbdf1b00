"""A thousand targets in one `molecule-mcp` process, against `molecule-local` in a process of its own.

uv run python -m tests.benchmarks.mcp_fleet [--targets 1000] [--idle 60] [--rate 50] [--messages 1000] [--unrelated] [--json]

Measured are: the time from the start of the process until every target is registered; how late heartbeats are beside their interval
of 20 s with 10 % jitter, as the platform sees them; memory and CPU of both processes while nothing happens; and, with messages to
random targets, the time from before a message is sent until it is in the inbox file. All targets are members of one team unless they
are to be unrelated, in which case one WebSocket covers one of them only, and most are polled by the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from tests.benchmarks.local_platform import create, platform, resident_mebibytes
from websockets.asyncio.client import connect

if TYPE_CHECKING:
    from collections.abc import Sequence

LATEST_BEAT = 22.0
"""Seconds between two beats at most: 20, with 10 % jitter."""

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Seen:
    """What the platform's events say."""

    registered: dict[str, float] = field(default_factory=dict[str, float])
    beats: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def take(self, frame: dict[str, Any]) -> None:
        """Note one event."""
        now = time.monotonic()
        workspace_id = str(frame.get("workspace_id"))
        if frame.get("event") == "WORKSPACE_ONLINE":
            self.registered.setdefault(workspace_id, now)
        elif frame.get("event") == "WORKSPACE_HEARTBEAT":
            self.beats.setdefault(workspace_id, []).append(now)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def percentile(values: Sequence[float], part: float) -> float:
    """Return a percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def sockets(pid: int) -> int:
    """Return how many sockets a process has open."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # Closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count


def members(url: str, token: str, count: int, *, unrelated: bool) -> list[tuple[str, str]]:
    """Create the workspaces; returns ids and tokens."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60) as admin:
        related = {} if unrelated else {"parent_id": create(admin, "team")[0]}
        return [create(admin, f"member {number}", **related) for number in range(count)]


async def watch(url: str, token: str, seen: Seen, ready: asyncio.Event) -> None:
    """Follow the platform's events as its operator."""
    address = f"ws://{url.partition('://')[2]}/ws"
    headers = {"Authorization": f"Bearer {token}"}
    async with connect(address, additional_headers=headers, proxy=None, compression=None, max_queue=None) as websocket:
        ready.set()
        async for text in websocket:
            seen.take(json.loads(text))


async def send(
    url: str, token: str, targets: list[str], *, rate: float, count: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Send messages as a person would, at a steady rate; returns when each was sent and accepted, by its text (Unix seconds)."""
    sent: dict[str, float] = {}
    accepted: dict[str, float] = {}
    limits = httpx.Limits(max_connections=20, max_keepalive_connections=20)
    headers = {"Authorization": f"Bearer {token}"}

    async def one(http: httpx.AsyncClient, target: str) -> None:
        text = uuid.uuid4().hex
        body = {"role": "user", "messageId": text, "parts": [{"kind": "text", "text": text}]}
        call = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": body}}
        sent[text] = time.time()
        (await http.post(f"/workspaces/{target}/a2a", json=call)).raise_for_status()
        accepted[text] = time.time()

    async with (
        httpx.AsyncClient(base_url=url, headers=headers, limits=limits, trust_env=False, timeout=60) as http,
        asyncio.TaskGroup() as group,
    ):
        began = time.monotonic()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(one(http, random.choice(targets)))  # noqa: S311 - any of them
    return sent, accepted


def received(state: Path) -> dict[str, float]:
    """Return when each message was in the inbox file, by its text (Unix seconds)."""
    with closing(sqlite3.connect(f"file:{state / 'molecule-mcp.db'}?mode=ro", uri=True, timeout=30)) as db:
        rows = db.execute("SELECT body, received_at FROM messages").fetchall()
    return {json.loads(body)["text"]: float(at) for body, at in rows}


async def until_all(seen: dict[str, float], count: int, seconds: float) -> None:
    """Wait until so many are there."""
    deadline = time.monotonic() + seconds
    while len(seen) < count and time.monotonic() < deadline:  # noqa: ASYNC110 - a look costs nothing
        await asyncio.sleep(0.05)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything once."""
    with platform(folder / "platform") as (local, url, token):
        made = await asyncio.to_thread(members, url, token, options.targets, unrelated=options.unrelated)
        settings = folder / "workspaces.json"
        settings.write_text(json.dumps([{"id": name, "token": secret, "platform_url": url} for name, secret in made]))
        settings.chmod(0o600)
        state = folder / "state"
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "CONFIGS_DIR": str(state),
            "MOLECULE_WORKSPACES_FILE": str(settings),
            "LOG_LEVEL": options.log_level,
        }
        seen, ready = Seen(), asyncio.Event()
        watcher = asyncio.create_task(watch(url, token, seen, ready))
        await ready.wait()
        command = [sys.executable, *options.python, "-m", "molecule_runtime.mcp"]
        began = time.monotonic()
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(  # noqa: ASYNC220 - it takes milliseconds
                command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            ) as process,
        ):
            try:
                await until_all(seen.registered, options.targets, 120)
                figures: dict[str, Any] = {
                    "targets": options.targets,
                    "registered": len(seen.registered),
                    "registered_seconds": max(seen.registered.values(), default=began) - began,
                }
                # One round of heartbeats, after which the sockets cover what they can.
                await asyncio.sleep(options.settle)
                figures |= await idle(process.pid, local.pid, seen, options.idle)
                figures |= await talk(url, token, state, [name for name, _ in made], process.pid, local.pid, options)
            finally:
                watcher.cancel()
                process.kill()
        figures["warnings"] = [
            line for line in (folder / "log").read_text(errors="replace").splitlines() if "is online" not in line
        ][-8:]
        return figures


async def idle(pid: int, local: int, seen: Seen, seconds: float) -> dict[str, Any]:
    """Look at a process to which nothing happens."""
    ours, theirs, began = cpu_seconds(pid), cpu_seconds(local), time.monotonic()
    await asyncio.sleep(seconds)
    taken = time.monotonic() - began
    late = [
        max(0.0, after - before - LATEST_BEAT)
        for beats in seen.beats.values()
        for before, after in itertools.pairwise(beats)
        if after >= began
    ]
    return {
        "idle_seconds": taken,
        "idle_cpu_percent": 100 * (cpu_seconds(pid) - ours) / taken,
        "idle_cpu_percent_platform": 100 * (cpu_seconds(local) - theirs) / taken,
        "beats": len(late),
        "beats_per_second": len(late) / taken,
        "beat_late_p99": percentile(late, 0.99),
        "beat_late_max": max(late, default=0.0),
        "resident_mebibytes": resident_mebibytes(pid),
        "resident_mebibytes_platform": resident_mebibytes(local),
        "threads": threads(pid),
        "sockets": sockets(pid),
    }


async def talk(
    url: str, token: str, state: Path, targets: list[str], pid: int, local: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Send messages and see when they are in the inbox."""
    if not options.messages:
        return {}
    ours, theirs, began = cpu_seconds(pid), cpu_seconds(local), time.monotonic()
    sent, accepted = await send(url, token, targets, rate=options.rate, count=options.messages)
    taken = time.monotonic() - began
    ours, theirs = cpu_seconds(pid) - ours, cpu_seconds(local) - theirs
    deadline = time.monotonic() + options.patience
    got = await asyncio.to_thread(received, state)
    while not sent.keys() <= got.keys() and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        got = await asyncio.to_thread(received, state)
    latencies = [got[text] - at for text, at in sent.items() if text in got]
    # The platform's own part of it, which a busy machine makes the larger one.
    accepting = [accepted[text] - at for text, at in sent.items()]
    return {
        "messages": len(sent),
        "messages_per_second": len(sent) / taken,
        "messages_missing": len(sent) - len(latencies),
        "latency_p50": statistics.median(latencies) if latencies else 0.0,
        "latency_p99": percentile(latencies, 0.99),
        "latency_max": max(latencies, default=0.0),
        "accepted_p50": statistics.median(accepting),
        "accepted_p99": percentile(accepting, 0.99),
        "talk_cpu_percent": 100 * ours / taken,
        "talk_cpu_percent_platform": 100 * theirs / taken,
        "resident_mebibytes_after": resident_mebibytes(pid),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument(
        "--settle", type=float, default=30.0, help="seconds after the registrations that are not measured"
    )
    parser.add_argument("--idle", type=float, default=60.0, help="seconds without any message")
    parser.add_argument("--rate", type=float, default=50.0, help="messages a second")
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--patience", type=float, default=90.0, help="seconds to wait for the last message")
    parser.add_argument("--unrelated", action="store_true", help="workspaces that may not talk to each other")
    parser.add_argument("--python", nargs="*", default=[], help="options of the Python that runs molecule-mcp")
    parser.add_argument("--log-level", default="WARNING")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(options, Path(folder)))
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:<28} {value:.3f}" if isinstance(value, float) else f"{name:<28} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
