"""A `molecule-mcp` that a host's turn has started: what it hands on says where the task came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import Received, Tenant, http_server

from .processes import SECONDS, one, session, text_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_a_task_is_not_handed_back_to_whom_the_turn_works_for(acme: Tenant, tmp_path: Path) -> None:
    lead, ours = await acme.family()
    boss = await acme.create("boss")
    where = one(tmp_path / "p", acme.url, ours, MOLECULE_DELEGATION_CHAIN=boss.id)
    again = one(tmp_path / "q", acme.url, ours, MOLECULE_DELEGATION_CHAIN=f"{boss.id},{lead.id}")

    async def answer(request: Received) -> tuple[int, Any]:
        message = {"kind": "message", "role": "agent", "messageId": "m", "parts": [{"kind": "text", "text": "done"}]}
        return 200, {"jsonrpc": "2.0", "id": request.body["id"], "result": message}

    with anyio.fail_after(SECONDS):
        async with http_server() as agent, session(where) as mcp:
            agent.answer = answer
            await acme.register(lead, agent)
            await mcp.text("delegate_task", workspace_id=lead.id, task="t")
        (request,) = agent.received
        assert request.body["params"]["message"]["metadata"]["delegation_chain"] == [boss.id, ours.id]
        async with session(again) as mcp:
            for tool in ("delegate_task", "delegate_task_async"):
                refused = await mcp.call(tool, workspace_id=lead.id, task="t")
                assert refused.is_error
                assert f"came from workspace {lead.id}" in text_of(refused)
