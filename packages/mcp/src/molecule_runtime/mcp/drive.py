"""Drive a `molecule-mcp` from another program, through the official MCP client.

    python -m molecule_runtime.mcp.drive

It starts `molecule-mcp` with its own environment, prints one JSON line when the session is up, then answers each JSON line on stdin,
`{"id": 1, "tool": "list_peers", "arguments": {}}`, with one on stdout, `{"id": 1, "text": "...", "structured": {...}, "is_error": false}`.
Calls run concurrently. It ends with stdin; when there is no session, with exit code 1 and the reason on stderr. The demo of
molecule-local plays an external agent this way.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client

from molecule_runtime.core import env


async def drive() -> None:
    """Run one session until stdin ends."""
    server = StdioServerParameters(command=sys.executable, args=["-m", "molecule_runtime.mcp"], env=dict(env.current()))
    async with Client(stdio_client(server)) as client, anyio.create_task_group() as calls:
        listed = await client.list_tools()
        _print({"ready": True, "tools": [tool.name for tool in listed.tools]})
        async for line in anyio.wrap_file(sys.stdin):
            if line.strip():
                calls.start_soon(_call, client, line)


async def _call(client: Client, line: str) -> None:
    identifier: Any = None
    try:
        request: dict[str, Any] = json.loads(line)
        identifier = request.get("id")
        result = await client.call_tool(request["tool"], request.get("arguments") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        _print({"id": identifier, "text": f"not a request: {exc!r}", "structured": {}, "is_error": True})
        return
    except MCPError as exc:
        _print({"id": identifier, "text": str(exc), "structured": {}, "is_error": True})
        return
    text = "\n".join(block.text for block in result.content if block.type == "text")
    _print({"id": identifier, "text": text, "structured": result.structured_content or {}, "is_error": result.is_error})


def _print(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the driver; returns the exit code."""
    failed = False
    try:
        anyio.run(drive)
    except* MCPError:
        failed = True
    if failed:
        # Its reason is on this stderr already, which it shares.
        print("drive: molecule-mcp ended before the session was up", file=sys.stderr)  # noqa: T201 - the only error line
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
