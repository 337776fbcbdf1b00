"""The steps of the demo, through the official MCP and A2A clients, against real processes."""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from a2a.client import ClientConfig, create_client
from a2a.helpers import get_stream_response_text, new_text_message
from a2a.types import Role, SendMessageRequest
from mcp import Client, StdioServerParameters, stdio_client
from tests.support.warm import stand_in

from molecule_runtime.core import registry, untrusted
from molecule_runtime.core.envelope import Accepted, Reply, message_send
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.localplatform.demo.scenario import Human

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import httpx
    from mcp.types import CallToolResult

    from .conftest import Team

pytestmark = pytest.mark.anyio

STEP_SECONDS = 40.0


@asynccontextmanager
async def scout(team: Team, program: str, *arguments: str) -> AsyncGenerator[Client]:
    """A session of the external agent: the official client over a real `molecule-mcp` process."""
    server = StdioServerParameters(command=program, args=list(arguments), env=team.mcp_environment())
    async with Client(stdio_client(server)) as client:
        yield client


@pytest.fixture(scope="module")
async def client(team: Team) -> AsyncGenerator[Client]:
    """The session of the tests that do not need one of their own."""
    async with scout(team, sys.executable, "-m", "molecule_runtime.mcp") as opened:
        yield opened


def text_of(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


async def ask(client: Client, tool: str, **arguments: Any) -> str:
    with anyio.fail_after(STEP_SECONDS):
        result = await client.call_tool(tool, arguments)
    assert not result.is_error, text_of(result)
    return text_of(result)


async def delegate(client: Client, workspace_id: str, task: str) -> str:
    blocks = untrusted.parse(await ask(client, "delegate_task", workspace_id=workspace_id, task=task))
    assert len(blocks) == 1
    assert blocks[0].attributes["workspace_id"] == workspace_id
    return blocks[0].content


async def test_a_message_that_was_not_popped_is_delivered_again_to_the_next_session(team: Team, tmp_path: Path) -> None:
    # Before the session that the others share begins: that would take the message.
    async with ConnectionPools() as pools, team.client_of("calc", pools) as calc:
        sent = await calc.send_message(team.id_of("scout"), "remember the milk")
    assert isinstance(sent, Accepted)
    assert sent.mode == "poll"
    warm = await anyio.to_thread.run_sync(stand_in, "molecule-mcp", tmp_path / "pid")
    async with scout(team, *warm) as client:
        first = json.loads(await ask(client, "wait_for_message", timeout_secs=20))
    async with scout(team, *warm) as client:
        again = json.loads(await ask(client, "wait_for_message", timeout_secs=20))
        assert (first["text"], again["activity_id"]) == ("remember the milk", first["activity_id"])
        await ask(client, "inbox_pop", activity_id=first["activity_id"])


async def test_the_external_agent_is_served_every_tool_of_the_registry_in_its_order(client: Client, team: Team) -> None:
    with anyio.fail_after(STEP_SECONDS):
        listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == registry.tool_names()
    assert [tool.input_schema for tool in listed.tools] == [spec.input_schema for spec in registry.TOOLS]


async def test_the_external_agent_sees_its_parent_and_its_siblings(client: Client, team: Team) -> None:
    text = await ask(client, "list_peers")
    assert {name for name in team.seats if f"- {name} (ID: {team.id_of(name)}" in text} == {"lead", "calc", "atlas"}


async def test_a_task_for_a_specialist_comes_back_as_its_answer(client: Client, team: Team) -> None:
    assert "395" in await delegate(client, team.id_of("calc"), "What is (17 * 23) + 4?")
    assert "Jupiter" in await delegate(client, team.id_of("atlas"), "Which planet has the largest mass?")


async def test_the_lead_splits_a_request_and_delegates_the_parts(client: Client, team: Team) -> None:
    answer = await delegate(client, team.id_of("lead"), "Which planet has the lowest density? What is 2 ** 10?")
    assert "Saturn" in answer
    assert "1024" in answer
    # Not only said but done: the specialists were asked by the lead.
    async with ConnectionPools() as pools, team.client_of("calc", pools) as calc:
        rows = await calc.activity(type="a2a_receive", peer_id=team.id_of("lead"))
    assert any("2 ** 10" in json.dumps(row.request_body) for row in rows)


async def test_a_peers_message_waits_for_the_external_agent_until_it_was_answered_and_popped(
    client: Client, team: Team
) -> None:
    human = Human(platform_url=team.platform.url, admin_token=team.platform.admin_token)
    asked = await human.ask(team.id_of("lead"), "Ask scout: what is the best colour?", seconds=STEP_SECONDS)
    assert "scout" in asked.text
    message = json.loads(await ask(client, "wait_for_message", timeout_secs=20))
    assert message["kind"] == "peer_agent"
    assert message["peer_id"] == team.id_of("lead")
    assert "what is the best colour?" in message["text"]
    report = await delegate(client, message["peer_id"], "Teal.")
    assert "Teal." in report
    popped = json.loads(await ask(client, "inbox_pop", activity_id=message["activity_id"]))
    assert popped["removed"] is True
    assert json.loads(await ask(client, "inbox_peek")) == []


async def test_a_message_to_the_user_is_on_the_platform_and_not_in_the_agents_own_inbox(
    client: Client, team: Team
) -> None:
    await ask(client, "send_message_to_user", message="The report is ready.")
    assert json.loads(await ask(client, "inbox_peek")) == []
    async with ConnectionPools() as pools, team.client_of("scout", pools) as client_of_scout:
        rows = await client_of_scout.activity(type="a2a_receive")
    assert [row for row in rows if row.method == "notify" and "The report is ready." in json.dumps(row.response_body)]


async def test_chat_history_shows_what_was_asked_and_answered(client: Client, team: Team) -> None:
    await delegate(client, team.id_of("calc"), "What is 6 * 7?")
    rows = json.loads(await ask(client, "chat_history", peer_id=team.id_of("calc")))
    assert any("6 * 7" in row["text"] and "42" in row.get("reply", "") for row in rows)


async def test_get_workspace_info_is_the_platforms_row(client: Client, team: Team) -> None:
    info = json.loads(await ask(client, "get_workspace_info"))
    assert (info["id"], info["name"], info["parent_id"]) == (team.id_of("scout"), "scout", team.id_of("lead"))


async def test_a_host_answers_the_official_a2a_client_in_the_1_0_protocol(team: Team) -> None:
    with anyio.fail_after(STEP_SECONDS):
        client = await create_client(team.url_of("calc"), ClientConfig(streaming=False))
        request = SendMessageRequest(message=new_text_message("What is 3 * 5?", role=Role.ROLE_USER))
        answers = [get_stream_response_text(response) async for response in client.send_message(request)]
        await client.close()
    assert any("15" in answer for answer in answers)


@pytest.mark.parametrize("key", ["kind", "type"])
async def test_a_host_answers_the_0_3_shape_that_the_platform_speaks(
    team: Team, http: httpx.AsyncClient, key: str
) -> None:
    body = message_send("What is 3 * 7?")
    body["params"]["message"]["parts"] = [{key: "text", "text": "What is 3 * 7?"}]
    response = await http.post(f"{team.url_of('calc')}/", json=body)
    assert response.status_code == 200
    result = response.json()["result"]
    assert result["kind"] == "message"
    assert result["parts"][0]["kind"] == "text"
    assert "21" in result["parts"][0]["text"]


async def test_the_platform_refuses_a_call_with_another_workspaces_token(team: Team, http: httpx.AsyncClient) -> None:
    foreign = team.seats["calc"].token_file.read_text()
    for path in ("activity", "delegations", "tokens"):
        url = f"{team.platform.url}/workspaces/{team.id_of('atlas')}/{path}"
        assert (await http.get(url, headers={"Authorization": f"Bearer {foreign}"})).status_code == 401
        assert (await http.get(url)).status_code == 401


async def test_a_host_registers_with_what_it_can_do(team: Team) -> None:
    async with ConnectionPools() as pools, team.client_of("scout", pools) as client:
        peers = {peer.name: peer for peer in await client.peers()}
        answer = await client.send_message(team.id_of("calc"), "What is 1 + 1?")
    assert isinstance(answer, Reply)
    for name in ("lead", "calc", "atlas"):
        card = peers[name].agent_card
        assert peers[name].status == "online"
        assert card is not None
        assert card["skills"]
