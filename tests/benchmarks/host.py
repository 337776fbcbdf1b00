"""How fast a workspace host is, beside the smallest agent on the same A2A SDK and a bare starlette endpoint, in one run.

uv run python -m tests.benchmarks.host [--seconds 3] [--rounds 3] [--json]

Messages a second over 1 and 32 connections in both versions of the protocol, the time to the first byte of a stream, the time from the
start of the process to the first answer that counts, and resident memory. The host does all that it does in production: it keeps answers
on disk, registers and sends heartbeats (to a platform that takes everything), and its gate is shut.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
from tests.benchmarks.http_load import Load, request_of, run
from tests.benchmarks.local_platform import bare, median, resident_mebibytes

if TYPE_CHECKING:
    from collections.abc import Generator

START_SECONDS = 30.0
VERSIONS = {"1.0": ("SendMessage", "SendStreamingMessage"), "0.3": ("message/send", "message/stream")}
PER_SECOND = 3000
"""Messages that are prepared for each second: each is another one, or the host would answer it from its memory."""

STREAMS = 200

ADAPTER = """
from molecule_runtime.a2a.executor import ReplyExecutor
from molecule_runtime.core.adapter import BaseAdapter


class Adapter(BaseAdapter):
    name = staticmethod(lambda: "echo")
    display_name = staticmethod(lambda: "Echo")
    description = staticmethod(lambda: "Repeats what it is told.")

    async def setup(self, config):
        return None

    async def create_executor(self, config):
        return ReplyExecutor(self.answer)

    async def answer(self, turn):
        return f"You said: {turn.text}"
"""


@contextlib.contextmanager
def host(folder: Path, platform_url: str) -> Generator[tuple[subprocess.Popen[bytes], str]]:
    """Run `molecule-runtime` and yield its process and URL; it may not be ready yet."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    folder.mkdir(parents=True)
    (folder / "echo_adapter.py").write_text(ADAPTER, encoding="utf-8")
    (folder / "config.yaml").write_text(f"name: Echo\nruntime: echo\na2a:\n  port: {port}\n", encoding="utf-8")
    environment = {
        **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
        "WORKSPACE_ID": "benchmark",
        "PLATFORM_URL": platform_url,
        "WORKSPACE_CONFIG_PATH": str(folder),
        "CONFIGS_DIR": str(folder),
        "MOLECULE_WORKSPACE_TOKEN": "a-token-that-is-taken",
        "MOLECULE_BIND_HOST": "127.0.0.1",
        "MOLECULE_WORKSPACE_URL": f"http://127.0.0.1:{port}",
        "ADAPTER_MODULE": "echo_adapter",
    }
    command = [sys.executable, "-m", "molecule_runtime.a2a"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process, f"http://127.0.0.1:{port}/"
        finally:
            process.kill()


def wait_for(url: str, *, json_body: bool = False) -> None:
    """Return once a URL is answered with a 2xx.

    Raises:
        RuntimeError: it was not, within 30 s.
    """
    deadline = time.perf_counter() + START_SECONDS
    with httpx.Client(trust_env=False) as client:
        while time.perf_counter() < deadline:
            with contextlib.suppress(httpx.TransportError):
                answer = client.post(url, json={}) if json_body else client.get(url)
                if answer.is_success:
                    return
            time.sleep(0.002)
    raise RuntimeError(f"{url} did not answer within {START_SECONDS:.0f} s")


def message(url: str, method: str, version: str) -> bytes:
    """Return one message that nobody has sent before."""
    said: dict[str, Any] = {"messageId": str(uuid.uuid4())}
    if version == "1.0":
        said |= {"role": "ROLE_USER", "parts": [{"text": "what is 6 times 7?"}]}
    else:
        said |= {"role": "user", "kind": "message", "parts": [{"kind": "text", "text": "what is 6 times 7?"}]}
    body = json.dumps({"jsonrpc": "2.0", "id": "1", "method": method, "params": {"message": said}}).encode()
    return request_of(url, body, headers={"A2A-Version": version})


def measure_rates(urls: dict[str, str], seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Return the messages a second of each server, and their latencies."""
    rows: list[dict[str, Any]] = []
    for version, (send, _) in VERSIONS.items():
        for connections in (1, 32):
            results: dict[str, list[Load]] = {name: [] for name in urls}
            for counted in range(rounds + 1):
                for name, url in urls.items():
                    lasts = seconds if counted else 0.5
                    requests = [message(url, send, version) for _ in range(round(PER_SECOND * lasts))]
                    load = asyncio.run(run(requests, url, connections=connections, seconds=lasts))
                    if counted:
                        results[name].append(load)
            floor, peer = (median(results[name]) for name in ("bare endpoint", "a2a-sdk echo"))
            rows += [
                {
                    "what": name,
                    "version": version,
                    "connections": connections,
                    "per_second": round(load.per_second),
                    "p50_ms": round(load.p50, 2),
                    "p99_ms": round(load.p99, 2),
                    "of_endpoint": round(load.per_second / floor.per_second, 2),
                    "of_sdk": round(load.per_second / peer.per_second, 2),
                    "p99_of_sdk": round(load.p99 / peer.p99, 2),
                }
                for name, loads in results.items()
                for load in [median(loads)]
            ]
    return rows


async def _first_bytes(url: str) -> list[float]:
    """Return the milliseconds from a message to the first byte of the event that answers it, one stream after the other."""
    parts = urlsplit(url)
    taken: list[float] = []
    for _ in range(STREAMS):
        request = message(url, VERSIONS["1.0"][1], "1.0")
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        started = time.perf_counter()
        writer.write(request)
        await reader.readuntil(b"data:")
        taken.append((time.perf_counter() - started) * 1000)
        writer.close()
    return taken


def measure_streams(urls: dict[str, str]) -> list[dict[str, Any]]:
    """Return the time to the first byte of a stream."""
    rows: list[dict[str, Any]] = []
    for name in ("a2a-sdk echo", "molecule-runtime"):
        asyncio.run(_first_bytes(urls[name]))
        taken = sorted(asyncio.run(_first_bytes(urls[name])))
        rows.append(
            {
                "what": name,
                "p50_ms": round(statistics.median(taken), 2),
                "p99_ms": round(taken[len(taken) * 99 // 100], 2),
            }
        )
    return rows


def measure_start(folder: Path, platform_url: str, rounds: int) -> dict[str, float]:
    """Return the seconds from the start of a process to its first answer, as medians; the host's first is that it is ready."""
    taken: dict[str, list[float]] = {"molecule-runtime": [], "a2a-sdk echo": [], "bare endpoint": []}
    for number in range(rounds):
        started = time.perf_counter()
        with host(folder / f"start-{number}", platform_url) as (_, url):
            wait_for(f"{url}ready")
            taken["molecule-runtime"].append(time.perf_counter() - started)
        started = time.perf_counter()
        with bare("sdk") as url:
            wait_for(f"{url}.well-known/agent-card.json")
            taken["a2a-sdk echo"].append(time.perf_counter() - started)
        started = time.perf_counter()
        with bare("endpoint") as url:
            wait_for(url, json_body=True)
            taken["bare endpoint"].append(time.perf_counter() - started)
    return {name: round(statistics.median(seconds), 3) for name, seconds in taken.items()}


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Return all figures."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        platform_url = stack.enter_context(bare("platform")).rstrip("/")
        start = measure_start(folder, platform_url, rounds)
        endpoint, sdk = stack.enter_context(bare("endpoint")), stack.enter_context(bare("sdk"))
        process, ours = stack.enter_context(host(folder / "host", platform_url))
        wait_for(f"{ours}ready")
        urls = {"bare endpoint": endpoint, "a2a-sdk echo": sdk, "molecule-runtime": ours}
        empty = resident_mebibytes(process.pid)
        rates = measure_rates(urls, seconds, rounds)
        streams = measure_streams(urls)
        memory = {"started_mib": round(empty, 1), "after_mib": round(resident_mebibytes(process.pid), 1)}
        return {"rates": rates, "first_byte": streams, "start_s": start, "memory": memory}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.seconds, options.rounds)
    if options.json:
        print(json.dumps(figures))
        return
    heads = ("A2A", "conns", "req/s", "p50 ms", "p99 ms", "of endpoint", "of SDK", "p99 of SDK")
    print(" " * 18 + "  ".join(f"{head:>7}" for head in heads))
    for row in figures["rates"]:
        cells = [row["version"], row["connections"], row["per_second"], row["p50_ms"], row["p99_ms"]]
        cells += [row["of_endpoint"], row["of_sdk"], row["p99_of_sdk"]]
        print(
            f"{row['what']:18}"
            + "  ".join(f"{cell!s:>{max(7, len(head))}}" for cell, head in zip(cells, heads, strict=True))
        )
    for row in figures["first_byte"]:
        print(f"first byte of a stream, {row['what']}: {row['p50_ms']} ms, p99 {row['p99_ms']} ms")
    print("start to first answer: " + ", ".join(f"{name} {seconds} s" for name, seconds in figures["start_s"].items()))
    memory = figures["memory"]
    print(f"memory of the host: {memory['started_mib']} MiB at its start, {memory['after_mib']} MiB after all of this")


if __name__ == "__main__":
    main()
