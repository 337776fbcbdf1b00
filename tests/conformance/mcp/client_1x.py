"""A client of the SDK's 1.x line, run by a Python that has it: reads what to do as JSON from stdin, prints what it saw as JSON.

The type checkers see the 2.x line here, so what differs is looked up at run time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import anyio

SECONDS = 60.0


async def look(session: Any, order: dict[str, Any]) -> dict[str, Any]:
    """List, call, read and follow the progress of a call."""
    hello = await session.initialize()
    listed = await session.list_tools()
    tools = list(listed.tools)
    while listed.nextCursor:
        listed = await session.list_tools(cursor=listed.nextCursor)
        tools += listed.tools
    # The SDK checks each structured result against the tool's output schema, and raises where it does not fit.
    results = {name: await session.call_tool(name, arguments) for name, arguments in order["calls"].items()}
    progress: list[str] = []

    async def follow(done: float, total: float | None, message: str | None) -> None:
        progress.append(message or "")

    name, arguments = order["follow"]
    await session.call_tool(name, arguments, progress_callback=follow)
    resources: list[str] = []
    read: list[str] = []
    if hello.capabilities.resources is not None:
        resources = [str(resource.uri) for resource in (await session.list_resources()).resources]
        read = [str(content.uri) for uri in resources for content in (await session.read_resource(uri)).contents]
    return {
        "sdk": version("mcp"),
        "protocol": hello.protocolVersion,
        "server": hello.serverInfo.name,
        "tools": [tool.name for tool in tools],
        "schemas": [tool.name for tool in tools if tool.outputSchema is not None],
        "results": {name: result.structuredContent for name, result in results.items()},
        "errors": [name for name, result in results.items() if result.isError],
        "progress": progress,
        "resources": resources,
        "read": read,
    }


async def main() -> None:
    """Open the transport that was asked for, and look."""
    order = json.loads(sys.stdin.read())
    mcp: Any = importlib.import_module("mcp")
    async with contextlib.AsyncExitStack() as stack:
        if order["transport"] == "stdio":
            stdio: Any = importlib.import_module("mcp.client.stdio")
            command, *args = order["command"]
            server = mcp.StdioServerParameters(command=command, args=args, env=order["environ"])
            streams = await stack.enter_async_context(stdio.stdio_client(server))
        else:
            http: Any = importlib.import_module("httpx")
            streamable: Any = importlib.import_module("mcp.client.streamable_http")
            opened = await stack.enter_async_context(http.AsyncClient(headers=order["headers"], trust_env=False))
            streams = await stack.enter_async_context(
                streamable.streamable_http_client(order["url"], http_client=opened)
            )
        session = mcp.ClientSession(streams[0], streams[1], read_timeout_seconds=timedelta(seconds=SECONDS))
        opened_session = await stack.enter_async_context(session)
        seen = await look(opened_session, order)
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    anyio.run(main)
