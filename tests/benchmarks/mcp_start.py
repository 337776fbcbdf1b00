"""How soon `molecule-mcp` answers, what a call costs and how fast it ends, beside the least server on the same SDK, in one run.

uv run python -m tests.benchmarks.mcp_start [--runs 7] [--calls 300] [--json]

Both are started in turn, with byte code on, and spoken to line by line. `tools` is from the start of the process to the whole answer of
`tools/list`; `first_call` to that of the first tool call, sent right behind; `second_call` to that of the next, for which we have loaded
the SDK as well; `call` is one call after another in a warm session, of a tool that asks nobody; `pipelined` all of them at once; `end`
from the end of stdin to that of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NOWHERE = "http://127.0.0.1:9"
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "benchmark", "version": "1"}}
OURS: tuple[str, ...] = ("-m", "molecule_runtime.mcp")
PEER: tuple[str, ...] = ("-m", "tests.benchmarks.minimal_stdio_server")
TOOL: dict[tuple[str, ...], str] = {OURS: "get_runtime_identity", PEER: "noop"}
FIGURES = ("tools", "first_call", "second_call", "call", "pipelined", "end")


class Server:
    """One process, spoken to line by line."""

    def __init__(self, command: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self.tool = TOOL[command]
        self.began = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in: IO[bytes] = self.process.stdin
        self._out: IO[bytes] = self.process.stdout

    def send(self, *messages: Mapping[str, Any]) -> None:
        self._in.write(b"".join(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages))
        self._in.flush()

    def until(self, *numbers: int) -> None:
        wanted = set(numbers)
        while wanted:
            line = self._out.readline()
            if not line:
                raise RuntimeError("the server ended")
            wanted.discard(json.loads(line).get("id", -1))

    def call(self, number: int) -> dict[str, Any]:
        return {"id": number, "method": "tools/call", "params": {"name": self.tool, "arguments": {}}}

    def end(self) -> float:
        began = time.perf_counter()
        self._in.close()
        self.process.wait(30)
        return time.perf_counter() - began


def measure(command: tuple[str, ...], environ: Mapping[str, str], calls: int) -> dict[str, float]:
    """Return the seconds of one run."""
    server = Server(command, environ)
    server.send({"id": 1, "method": "initialize", "params": HELLO})
    server.until(1)
    server.send({"method": "notifications/initialized"}, {"id": 2, "method": "tools/list"})
    server.until(2)
    found = {"tools": time.perf_counter() - server.began}
    server.send(server.call(3))
    server.until(3)
    found["first_call"] = time.perf_counter() - server.began
    server.send(server.call(4))
    server.until(4)
    found["second_call"] = time.perf_counter() - server.began
    began = time.perf_counter()
    for number in range(10, 10 + calls):
        server.send(server.call(number))
        server.until(number)
    found["call"] = (time.perf_counter() - began) / calls
    numbers = range(10 + calls, 10 + 2 * calls)
    began = time.perf_counter()
    server.send(*map(server.call, numbers))
    server.until(*numbers)
    found["pipelined"] = (time.perf_counter() - began) / calls
    found["end"] = server.end()
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mcp_start", description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    taken: dict[tuple[str, ...], list[dict[str, float]]] = {OURS: [], PEER: []}
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "CONFIGS_DIR": folder,
            "WORKSPACE_ID": "alice",
            "PLATFORM_URL": NOWHERE,
            "MOLECULE_WORKSPACE_TOKEN": "t",
        }
        for counted in range(options.runs + 1):
            for command, found in taken.items():
                result = measure(command, environ, options.calls)
                if counted:
                    found.append(result)
    ours, peer = (
        {name: statistics.median(run[name] for run in taken[command]) * 1000 for name in FIGURES}
        for command in (OURS, PEER)
    )
    if options.json:
        print(json.dumps({"unit": "ms", "ours": ours, "peer": peer, "runs": options.runs}))
        return 0
    print(f"{'ms, median of ' + str(options.runs):<18}{'ours':>10}{'peer':>10}{'ratio':>8}")
    for name in FIGURES:
        print(f"{name:<18}{ours[name]:>10.2f}{peer[name]:>10.2f}{ours[name] / peer[name]:>8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
