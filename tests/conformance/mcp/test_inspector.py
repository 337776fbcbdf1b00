"""The MCP Inspector's command line lists the tools and calls one over stdio, and calls one over HTTP."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.mcp_over_http import MODULE, Served

from molecule_runtime.core import registry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.tenants import Member

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

SECONDS = 60.0
CALL = ["tools/call", "--tool-name", "get_runtime_identity"]


async def inspect(
    node: Path, packages: Path, environ: Mapping[str, str], method: Sequence[str], target: Sequence[str]
) -> Any:
    inspector = packages / "@modelcontextprotocol" / "inspector" / "clients" / "launcher" / "build" / "index.js"
    settings = [part for name, value in environ.items() for part in ("-e", f"{name}={value}")]
    command = [str(node), str(inspector), "--cli", *settings, "--method", *method, *target]
    with anyio.fail_after(SECONDS):
        ran = await anyio.run_process(command, check=False, env={"HOME": environ["HOME"], "PATH": environ["PATH"]})
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    return json.loads(ran.stdout)


async def test_it_lists_the_tools_and_calls_one_over_stdio(
    node: Path, packages: Path, environ: dict[str, str], ours: Member
) -> None:
    target = ["--", sys.executable, *MODULE]
    # --strict: it has no fault to find in a schema.
    listed = await inspect(node, packages, environ, ["tools/list", "--strict"], target)
    assert [tool["name"] for tool in listed["tools"]] == registry.tool_names()
    check(await inspect(node, packages, environ, CALL, target), ours)


async def test_it_calls_a_tool_over_http(
    node: Path, packages: Path, environ: dict[str, str], server: Served, ours: Member
) -> None:
    target = ["--server-url", server.url, "--header", f"Authorization: {server.bearer['Authorization']}"]
    check(await inspect(node, packages, environ, CALL, target), ours)


def check(called: Any, ours: Member) -> None:
    assert called["structuredContent"]["workspace_id"] == ours.id
    assert not called.get("isError")
