"""Heartbeats: staying online, and what the platform learns from them (contract 2.5, 4.2, 24.2)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .listening import listening
from .site import refusal

if TYPE_CHECKING:
    from .site import Agent, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("4.2", "23.5", era="april")
async def test_a_heartbeat_of_an_unknown_workspace_is_taken_and_creates_none(site: Site) -> None:
    unknown = str(uuid.uuid4())
    answer = await site.http.post("/registry/heartbeat", json={"workspace_id": unknown})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert (await site.http.get(f"/workspaces/{unknown}")).status_code == 404


@pytest.mark.contract("4.2", "1.2", era="april")
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"error_rate": 0.1}', b'{"workspace_id": ["x"]}'])
async def test_a_heartbeat_without_its_workspace_is_refused_with_a_fixed_text(site: Site, body: bytes) -> None:
    refusal(await site.http.post("/registry/heartbeat", content=body), 400, "invalid request body")


@pytest.mark.contract("4.2", era="april")
async def test_what_a_heartbeat_reports_is_stored(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    await site.beat(
        member, error_rate=0.25, sample_error="a fault", active_tasks=2, uptime_seconds=77, current_task="thinking"
    )
    row = await site.read(member)
    assert (row["last_error_rate"], row["active_tasks"], row["uptime_seconds"]) == (0.25, 2, 77)
    full = await site.full(member)
    assert (full["current_task"], full["last_sample_error"]) == ("thinking", "a fault")


@pytest.mark.contract("4.2", era="april")
async def test_spend_is_written_only_when_it_is_more_than_nothing_and_within_bounds(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    for reported, stored in ((150, 150), (0, 150), (-5, 150), (10**13, 10**12)):
        await site.beat(member, monthly_spend=reported)
        assert (await site.full(member))["monthly_spend"] == stored


@pytest.mark.contract("4.2", "24.2", era="april")
async def test_keys_that_the_platform_does_not_know_are_ignored(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    await site.beat(member, platform_mcp_diag={"x": 1}, model_facing_tools=["a"], loaded_not_model_facing=[], no_such=1)
    await site.register(member, agent, no_such_key={"x": 1})


@pytest.mark.contract("2.5", "28.1", era="april")
async def test_the_status_follows_the_error_rate_and_the_runtime_state(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    steps: tuple[tuple[dict[str, Any], str], ...] = (
        ({"error_rate": 0.49}, "online"),
        ({"error_rate": 0.5}, "degraded"),
        ({"error_rate": 0.3}, "degraded"),
        ({"error_rate": 0.1}, "degraded"),
        ({"error_rate": 0.05}, "online"),
        ({"runtime_state": "wedged"}, "degraded"),
        ({"error_rate": 0.0, "runtime_state": "wedged"}, "degraded"),
        ({"error_rate": 0.0, "runtime_state": ""}, "online"),
    )
    for fields, status in steps:
        await site.beat(member, **fields)
        assert await site.status_of(member) == status, fields


@pytest.mark.contract("4.2", "2.5", era="april")
async def test_a_runtime_that_manages_its_own_status_is_not_degraded_by_its_error_rate(
    site: Site, agent: Agent
) -> None:
    member = await site.registered(agent)
    await site.beat(member, error_rate=0.9, runtime_metadata={"capabilities": {"status_mgmt": True}})
    assert await site.status_of(member) == "online"
    # The flags count for the heartbeat that carries them.
    await site.beat(member, error_rate=0.9)
    assert await site.status_of(member) == "degraded"


@pytest.mark.contract("2.5", "24.2", era="april")
async def test_the_first_heartbeat_of_a_new_workspace_puts_it_online(site: Site) -> None:
    member = await site.create()
    assert await site.status_of(member) in {"provisioning", "awaiting_agent"}
    await site.beat(member)
    assert await site.status_of(member) == "online"


@pytest.mark.contract("2.5", "14.3", era="april")
async def test_a_paused_workspace_stays_paused_under_heartbeats_and_is_online_once_it_registers(
    site: Site, agent: Agent
) -> None:
    member = await site.registered(agent)
    assert (await site.post(member, "pause"))["status"] == "paused"
    await site.beat(member)
    assert await site.status_of(member) == "paused"
    await site.register(member, agent)
    assert await site.status_of(member) == "online"


@pytest.mark.contract("24.2", era="june")
async def test_a_heartbeat_repeats_the_inbound_secret_for_those_who_missed_it(site: Site, agent: Agent) -> None:
    made = await site.create()
    reply = await site.register(made, agent)
    assert (await site.beat(made))["platform_inbound_secret"] == reply["platform_inbound_secret"]


@pytest.mark.contract("24.2", era="june")
async def test_a_heartbeats_card_fills_an_empty_place_only(site: Site) -> None:
    member = await site.create()
    assert (await site.read(member))["agent_card"] is None
    await site.beat(member, agent_card={"name": member.name, "version": "1"})
    assert (await site.read(member))["agent_card"]["version"] == "1"
    await site.beat(member, agent_card={"name": member.name, "version": "2"})
    assert (await site.read(member))["agent_card"]["version"] == "1"


@pytest.mark.contract("24.2", era="june")
async def test_what_a_runtime_says_of_its_tools_does_not_degrade_an_ordinary_workspace(site: Site) -> None:
    member = await site.create()
    await site.register(member)
    said: tuple[dict[str, Any], ...] = (
        {"mcp_server_present": False},
        {"mcp_server_present": True},
        {"loaded_mcp_tools": []},
    )
    for fields in said:
        await site.beat(member, **fields)
        assert await site.status_of(member) == "online"


@pytest.mark.contract("1.5", "4.2", "4.3", era="april")
async def test_a_workspace_without_a_token_needs_none_in_the_registry(site: Site, agent: Agent) -> None:
    member = await site.create(url=agent.url)
    await site.beat(member, uptime_seconds=5)
    assert (await site.read(member))["uptime_seconds"] == 5
    body = {"workspace_id": member.id, "agent_card": {"name": member.name}}
    assert (await site.http.post("/registry/update-card", json=body)).status_code == 200
    assert (await site.http.get(f"/registry/{member.id}/peers")).status_code == 200
    discover = f"/registry/discover/{member.id}"
    assert (await site.http.get(discover, headers={"X-Workspace-ID": member.id})).status_code == 200
    # From its first registration on it has one.
    await site.register(member, agent)
    refusal(await site.http.post("/registry/heartbeat", json={"workspace_id": member.id}), 401)


@pytest.mark.contract("2.5", "17.5", era="april")
async def test_falling_ill_and_getting_well_are_told(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    async with listening(site.server, site.admin) as frames:
        await site.beat(member, error_rate=0.75, sample_error="a fault")
        payload = (await frames.frame("WORKSPACE_DEGRADED", member))["payload"]
        assert (payload["error_rate"], payload["sample_error"]) == (0.75, "a fault")
        await site.beat(member)
        await frames.frame("WORKSPACE_ONLINE", member, recovered_from="degraded")
        # Nothing is told of what did not change.
        await site.beat(member, current_task="the end")
        await frames.frame("TASK_UPDATED", member, current_task="the end")
    told = [event for event in frames.events(member) if event.startswith("WORKSPACE_")]
    assert [event for event in told if event != "WORKSPACE_HEARTBEAT"] == ["WORKSPACE_DEGRADED", "WORKSPACE_ONLINE"]


@pytest.mark.contract("24.1", era="june")
async def test_a_registration_that_failed_degrades_the_workspace_until_it_shows_its_card(
    site: Site, agent: Agent
) -> None:
    member = await site.registered(agent)
    body = {"id": member.id, "url": "http://169.254.169.254/", "agent_card": {"name": member.name}}
    refusal(await site.http.post("/registry/register", json=body, headers=member.auth), 400)
    await site.beat(member)
    assert await site.status_of(member) == "degraded"
    await site.beat(member, agent_card={"name": member.name})
    assert await site.status_of(member) == "online"


@pytest.mark.contract("2.5", "4.1", "4.2", "23.6", era="april")
async def test_a_removed_workspace_stays_removed_whatever_its_agent_does(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    await site.http.delete(f"/workspaces/{member.id}", params={"confirm": "true"}, headers=site.admin)
    asked = [
        ("/registry/heartbeat", {"workspace_id": member.id}),
        ("/registry/register", {"id": member.id, "url": agent.url, "agent_card": {"name": member.name}}),
        ("/registry/heartbeat", {"workspace_id": member.id}),
    ]
    for path, body in asked:
        await site.http.post(path, json=body, headers=member.auth)
        assert (await site.read(member, include_removed="true"))["status"] == "removed"


@pytest.mark.contract("23.4", "23.6", "ours", era="june")
async def test_the_agent_of_a_removed_workspace_is_told_so(site: Site, agent: Agent) -> None:
    # The README: "an agent must notice that it was deleted".
    member = await site.registered(agent)
    await site.http.delete(f"/workspaces/{member.id}", params={"confirm": "true"}, headers=site.admin)
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/registry/heartbeat", {"workspace_id": member.id}),
        ("POST", "/registry/register", {"id": member.id, "url": agent.url, "agent_card": {"name": member.name}}),
        ("POST", "/registry/update-card", {"workspace_id": member.id, "agent_card": {"name": member.name}}),
        ("GET", f"/registry/{member.id}/peers", {}),
    ]
    for headers in (member.auth, {}):
        for method, path, body in asked:
            answer = await site.http.request(method, path, json=body, headers=headers)
            assert refusal(answer, 410, "workspace removed")["id"] == member.id
