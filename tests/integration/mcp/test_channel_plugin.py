"""The demands of a channel plugin that starts the predecessor's module and speaks to it line by line (contract `consumers.md` 4.1)."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import pytest
from packages.mcp.tests.processes import Lines, lines, one
from tests.support.tenants import tenant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.anyio

LIMIT = 64 * 1024
"""What an asyncio stream reader takes as one line; a longer one kills the plugin's reader."""

OLD_NAME = "molecule_runtime.a2a_mcp_server"


def by_path() -> list[str]:
    spec = importlib.util.find_spec(OLD_NAME)
    assert spec is not None
    assert spec.origin is not None
    return [spec.origin]


def decoded(answer: dict[str, Any]) -> Any:
    """As the plugin does it: the text of the first item, JSON where it is some."""
    text = answer["result"]["content"][0]["text"]
    try:
        return json.loads(text)
    except ValueError:
        return text


async def next_answer(process: Lines) -> dict[str, Any]:
    while "id" not in (answer := await process.read()):
        pass
    return answer


@pytest.mark.parametrize("command", [["-m", OLD_NAME], by_path()], ids=["module", "path"])
async def test_a_channel_plugin_finds_what_it_needs_behind_the_old_name(command: Sequence[str], tmp_path: Path) -> None:
    async with tenant(tmp_path / "acme") as acme:
        lead, ours = await acme.family()
        await acme.register(ours)
        async with lines(one(tmp_path / "p", acme.url, ours), command) as process:
            hello = await process.hello()
            assert hello["protocolVersion"] == "2024-11-05"
            # While one call waits others are answered.
            await process.call(10, "wait_for_message", timeout_secs=20)
            await process.call(11, "list_peers")
            other = await next_answer(process)
            assert other["id"] == 11
            assert lead.id in other["result"]["content"][0]["text"]
            # A long message is a line that the plugin can read.
            await acme.message(lead, ours, '"\n' * LIMIT)
            message = decoded(await process.answer(10))
            assert (message["kind"], message["peer_id"], message["method"]) == ("peer_agent", lead.id, "message/send")
            assert {"activity_id", "text", "created_at"} <= set(message)
            # A broken line, and a request that is none, end nothing; each request with an id has an answer.
            await process.send(b"{not JSON", b"7", {"jsonrpc": "2.0", "id": 12, "method": "tools/call", "params": None})
            assert "error" in await process.answer(12)
            await process.call(13, "inbox_pop", activity_id=message["activity_id"])
            assert decoded(await process.answer(13)) == {"removed": True, "activity_id": message["activity_id"]}
            await process.call(14, "wait_for_message", timeout_secs=0)
            assert decoded(await process.answer(14))["timeout"] is True
            assert max(len(line) for line in bytes(process.received).splitlines()) < LIMIT
            await process.stdin.aclose()
            assert await process.end() == 0
