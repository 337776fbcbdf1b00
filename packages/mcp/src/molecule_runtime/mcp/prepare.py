"""Write `prepared.json`, what `early.py` answers: `python -m molecule_runtime.mcp.prepare [--check]`.

The SDK's own server, in memory, says what the answers are. An answer that depends on the settings is left out, but for the
instructions, which a process makes for itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
from mcp import types
from mcp.shared.message import SessionMessage
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from molecule_runtime.mcp.early import META, PREPARED_NAME
from molecule_runtime.mcp.opening import open_process
from molecule_runtime.mcp.server import create_server
from molecule_runtime.mcp.settings import McpSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

PREPARED_FILE = Path(__file__).with_name(PREPARED_NAME)

METHODS: Final = ("ping", "server/discover", "tools/list", "prompts/list", "resources/templates/list")
"""What may be answered early where the server knows it; `resources/list` shows the peers and messages of the moment."""

CLIENT: Final = {"name": "prepare", "version": "1"}
ANSWER_SECONDS = 30.0
_MAX_PAGES = 100


def envelope(version: str) -> dict[str, Any]:
    """Return the `_meta` of a request of the era without handshakes."""
    return {
        f"{META}protocolVersion": version,
        f"{META}clientInfo": CLIENT,
        f"{META}clientCapabilities": {},
    }


async def derive() -> dict[str, Any]:
    """Ask the server for everything that may be prepared."""
    with tempfile.TemporaryDirectory() as folder:
        collected = [await _collect(settings) for settings in sample_settings(Path(folder))]
    bodies: list[Any] = []
    answers: dict[str, dict[str, dict[str, int]]] = {}
    first, *others = collected
    for version, methods in first.items():
        answers[version] = {}
        for method, pages in methods.items():
            if any(other[version].get(method) != pages for other in others):
                continue
            numbers: dict[str, int] = {}
            for cursor, body in pages.items():
                # By its text: an equal value in another order is another answer.
                known = [json.dumps(known) for known in bodies]
                if (text := json.dumps(body)) not in known:
                    bodies.append(body)
                numbers[cursor] = known.index(text) if text in known else len(bodies) - 1
            answers[version][method] = numbers
        if "tools/list" not in answers[version]:
            raise SystemExit(f"the tools of {version} depend on the settings: they cannot be prepared")
    return {"handshakes": list(HANDSHAKE_PROTOCOL_VERSIONS), "answers": answers, "bodies": bodies}


def sample_settings(folder: Path) -> list[McpSettings]:
    """Return settings that differ in all that a server may show."""
    url, token = "https://platform.example", "prepare"  # secret-scan: allow, made up
    one = {"WORKSPACE_ID": "ws-1", "PLATFORM_URL": url, "MOLECULE_WORKSPACE_TOKEN": token, "CONFIGS_DIR": str(folder)}
    two = [{"id": name, "platform_url": url, "token": token} for name in ("ws-1", "ws-2")]
    several = {"MOLECULE_WORKSPACES": json.dumps(two), "CONFIGS_DIR": str(folder), "MOLECULE_MCP_DISABLE_INBOX": "1"}
    return [dataclasses.replace(load_settings(environ), audit=None) for environ in (one, several)]


async def _collect(settings: McpSettings) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the results by protocol version, method and cursor; the instructions are left blank."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for version in (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS):
        modern = version in MODERN_PROTOCOL_VERSIONS
        meta = {"_meta": envelope(version)} if modern else {}
        async with session(settings) as ask:
            methods: dict[str, dict[str, Any]] = {}
            if not modern:
                hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
                methods["initialize"] = {"": _blank((await ask("initialize", hello))["result"])}
            for method in METHODS:
                cursor = ""
                for _ in range(_MAX_PAGES):
                    answer = await ask(method, {**meta, **({"cursor": cursor} if cursor else {})})
                    if "result" not in answer:
                        break
                    methods.setdefault(method, {})[cursor] = _blank(answer["result"])
                    if not (cursor := answer["result"].get("nextCursor") or ""):
                        break
            found[version] = methods
    return found


def _blank(result: dict[str, Any]) -> dict[str, Any]:
    return {**result, "instructions": ""} if "instructions" in result else result


@asynccontextmanager
async def session(settings: McpSettings) -> AsyncGenerator[Any]:
    """Run the server in memory; yields a function that sends a request and returns its answer."""
    to_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](1)
    outgoing, from_server = anyio.create_memory_object_stream[SessionMessage](1)
    number = 0

    async def ask(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal number
        number += 1
        request = types.JSONRPCRequest(jsonrpc="2.0", id=number, method=method, params=dict(params))
        with anyio.fail_after(ANSWER_SECONDS):
            await to_server.send(SessionMessage(request))
            while True:
                message = (await from_server.receive()).message
                if isinstance(message, (types.JSONRPCResponse, types.JSONRPCError)) and message.id == number:
                    return dict(json.loads(message.model_dump_json(by_alias=True, exclude_unset=True)))

    async with open_process(settings, {}) as opened, anyio.create_task_group() as group:
        server = create_server(settings, opened)
        group.start_soon(_run, server, incoming, outgoing)
        yield ask
        group.cancel_scope.cancel()
    for stream in (to_server, incoming, outgoing, from_server):
        stream.close()


async def _run(
    server: Any,
    incoming: MemoryObjectReceiveStream[SessionMessage | Exception],
    outgoing: MemoryObjectSendStream[SessionMessage],
) -> None:
    # Where the experimental capabilities stand; a process fills in its own.
    await server.run(incoming, outgoing, server.create_initialization_options(experimental_capabilities={}))


def render(prepared: Mapping[str, Any]) -> str:
    """Render the data as the text of the file."""
    return json.dumps(prepared, indent=1, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None, *, file: Path = PREPARED_FILE) -> int:
    """Write the file, or with `--check` say that it is out of date and return 1."""
    parser = argparse.ArgumentParser(prog="python -m molecule_runtime.mcp.prepare", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the file is out of date")
    options = parser.parse_args(argv)
    derived = render(anyio.run(derive))
    if not options.check:
        file.write_text(derived, encoding="utf-8")
        return 0
    if file.exists() and file.read_text(encoding="utf-8") == derived:
        return 0
    print(f"{file} is out of date: run python -m molecule_runtime.mcp.prepare", file=sys.stderr)  # noqa: T201 - the command's output
    return 1


if __name__ == "__main__":
    sys.exit(main())
