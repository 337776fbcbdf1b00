"""Clients of both lines of the official SDK, over both transports: they list, call with structured results, follow progress and read."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from tests.conformance.mcp import install
from tests.support import warm
from tests.support.mcp_over_http import MODULE, Served, connected

from molecule_runtime.core import registry

if TYPE_CHECKING:
    from tests.support.tenants import Member

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SECONDS = 90.0
COMMAND = [sys.executable, *MODULE]
SCRIPT = Path(__file__).with_name("client_1x.py")
CALLS: dict[str, dict[str, Any]] = {
    "get_runtime_identity": {},
    "list_peers": {},
    "get_workspace_info": {},
    "inbox_peek": {},
    "wait_for_message": {"timeout_secs": 0},
    "recall_memory": {"query": ""},
    "check_task_status": {"task_id": ""},
}
FOLLOW: tuple[str, dict[str, Any]] = ("install_plugin", {"source": "local://of-the-clients"})


def check(seen: dict[str, Any], ours: Member) -> None:
    """What every client must have seen."""
    assert seen["server"] == "molecule"
    assert seen["tools"] == registry.tool_names()
    # It was not told whose task, and says so as an error of the call.
    assert seen["errors"] == ["check_task_status"]
    results = seen["results"]
    assert results["get_runtime_identity"]["workspace_id"] == ours.id
    assert results["wait_for_message"]["timeout"] is True
    assert None not in results.values()
    assert seen["progress"][0] == "installing local://of-the-clients"
    assert seen["read"] == seen["resources"]


async def by_line_1(order: dict[str, Any]) -> dict[str, Any]:
    python = install.sdk_python()
    if not python.is_file():
        pytest.skip("the SDK's 1.x line is missing: uv run python tests/conformance/mcp/install.py")
    with anyio.fail_after(SECONDS):
        ran = await anyio.run_process(
            [str(python), "-I", str(SCRIPT)],
            input=json.dumps({**order, "calls": CALLS, "follow": FOLLOW}).encode(),
            check=False,
        )
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    return dict(json.loads(ran.stdout))


async def by_line_2(client: Client) -> dict[str, Any]:
    tools: list[Any] = []
    cursor: str | None = None
    while True:
        listed = await client.list_tools(cursor=cursor)
        tools += listed.tools
        if (cursor := listed.next_cursor) is None:
            break
    told: list[str] = []

    async def follow(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    results = {name: await client.call_tool(name, arguments) for name, arguments in CALLS.items()}
    await client.call_tool(*FOLLOW, progress_callback=follow)
    resources: list[str] = []
    read: list[str] = []
    if client.server_capabilities.resources is not None:
        resources = [str(resource.uri) for resource in (await client.list_resources()).resources]
        read = [str(content.uri) for uri in resources for content in (await client.read_resource(uri)).contents]
    assert client.server_info is not None
    return {
        "server": client.server_info.name,
        "tools": [tool.name for tool in tools],
        "results": {name: result.structured_content for name, result in results.items()},
        "errors": [name for name, result in results.items() if result.is_error],
        "progress": told,
        "resources": resources,
        "read": read,
    }


async def test_the_1_line_over_stdio(environ: dict[str, str], ours: Member) -> None:
    seen = await by_line_1({"transport": "stdio", "command": COMMAND, "environ": environ})
    assert (seen["sdk"].partition(".")[0], seen["protocol"]) == ("1", "2025-11-25")
    check(seen, ours)


async def test_the_1_line_over_http(server: Served, ours: Member) -> None:
    seen = await by_line_1({"transport": "http", "url": server.url, "headers": server.bearer})
    assert (seen["sdk"].partition(".")[0], seen["protocol"]) == ("1", "2025-11-25")
    check(seen, ours)


async def test_the_2_line_over_stdio(environ: dict[str, str], ours: Member, tmp_path: Path) -> None:
    assert version("mcp").startswith("2.")
    program, *arguments = await anyio.to_thread.run_sync(warm.stand_in, "molecule-mcp", tmp_path / "pid")
    process = StdioServerParameters(command=program, args=arguments, env=environ)
    with anyio.fail_after(SECONDS), (tmp_path / "stderr").open("w", encoding="utf-8") as log:
        async with Client(stdio_client(process, errlog=log)) as client:
            check(await by_line_2(client), ours)


async def test_the_2_line_over_http(server: Served, ours: Member) -> None:
    async with connected(server) as client:
        check(await by_line_2(client), ours)
