"""How long one call of `molecule-mcp` is held, and how it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import Received, Tenant, http_server

from molecule_runtime.core import untrusted
from molecule_runtime.mcp.settings import MAX_WAIT, load_settings

from .processes import SECONDS, one, session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_call_is_held_for_the_time_that_is_set_and_says_how_to_go_on(acme: Tenant, tmp_path: Path) -> None:
    lead, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours, MOLECULE_MCP_MAX_WAIT_SECS="0.3")
    may_answer = anyio.Event()

    async def answer(request: Received) -> tuple[int, Any] | None:
        message = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": "done"}]}
        await may_answer.wait()
        return 200, {"jsonrpc": "2.0", "id": request.body["id"], "result": message}

    with anyio.fail_after(SECONDS):
        async with http_server() as agent, session(where) as mcp:
            agent.answer = answer
            await acme.register(lead, agent)
            waited = await mcp.json("wait_for_message", timeout_secs=300)
            assert waited["timeout"] is True
            assert waited["timeout_secs"] == 0.3
            assert "call wait_for_message again" in waited["note"]
            # Less than what one call may take is the caller's own choice, and nothing is left to go on with.
            assert await mcp.json("wait_for_message", timeout_secs=0) == {"timeout": True, "timeout_secs": 0}

            handle = (await mcp.call("delegate_task", workspace_id=lead.id, task="t")).structured_content
            assert handle is not None
            assert handle["status"] == "working"
            going_on = handle["continue_with"]
            may_answer.set()
            while True:
                status = await mcp.json(going_on["tool"], **going_on["arguments"])
                if status["status"] == "completed":
                    break
            assert untrusted.parse(status["response_preview"])[0].content == "done"
            assert len(agent.received) == 1


@pytest.mark.parametrize(("value", "seconds"), [(None, MAX_WAIT), ("0", None), ("12.5", 12.5), ("often", MAX_WAIT)])
def test_the_limit_is_read_from_the_environment(tmp_path: Path, value: str | None, seconds: float | None) -> None:
    environ = {
        "WORKSPACE_ID": "ws-1",
        "PLATFORM_URL": "http://127.0.0.1:9",
        "MOLECULE_WORKSPACE_TOKEN": "token-of-one-0001",
        "CONFIGS_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    if value is not None:
        environ["MOLECULE_MCP_MAX_WAIT_SECS"] = value
    assert load_settings(environ).max_wait == seconds
