"""The life of a workspace: its state, pausing, hibernating, starting again (contract 14.1, 14.3, 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .listening import listening
from .site import refusal

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Member, Site

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"


async def state(site: Site, member: Member, headers: dict[str, str] | None = None) -> httpx.Response:
    return await site.http.get(f"/workspaces/{member.id}/state", headers=member.auth if headers is None else headers)


@pytest.mark.contract("14.1", "1.5", "28.2", era="june")
async def test_a_workspace_reads_its_state_with_its_own_token_only(site: Site) -> None:
    _, alice, bob = await site.family()
    await site.register(alice)
    answer = await state(site, alice)
    expected = {"workspace_id": alice.id, "status": "online", "paused": False, "deleted": False}
    assert (answer.status_code, answer.json()) == (200, expected)
    refusal(await state(site, alice, {}), 401, "missing workspace auth token")
    refusal(await state(site, alice, bob.auth), 401, "invalid workspace auth token")
    # The second check (1.5): not even the admin's, as long as it has a live token of its own.
    refusal(await state(site, alice, site.admin), 401, "invalid workspace auth token")


@pytest.mark.contract("14.1", era="june")
async def test_the_state_of_a_workspace_that_is_gone_is_a_404_that_says_so(site: Site) -> None:
    alice = await site.create("alice")
    path = f"/workspaces/{alice.id}"
    assert (await site.http.delete(path, params={"confirm": "true"}, headers=site.admin)).status_code == 200
    answer = await state(site, alice, site.admin)
    assert answer.status_code == 404
    assert answer.json().items() >= {"workspace_id": alice.id, "deleted": True, "status": "removed"}.items()
    refusal(await state(site, alice), 401, "invalid workspace auth token")
    answer = await site.http.get(f"/workspaces/{NOBODY}/state", headers=site.admin)
    assert answer.status_code == 404
    assert answer.json().items() >= {"workspace_id": NOBODY, "deleted": True}.items()


@pytest.mark.contract("14.3", "ours", era="june")
async def test_a_paused_workspace_takes_no_messages_until_it_is_resumed(site: Site, agent: Agent) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)
    paused = await site.post(alice, "pause")
    assert (paused["status"], paused["paused_count"]) == ("paused", 1)
    assert await site.status_of(alice) == "paused"
    body = refusal(await site.send(bob, alice, "hello?"), 503)
    assert body["status"] == "paused"
    refusal(await site.send(None, alice, "hello?"), 503)
    assert agent.received == []
    resumed = await site.post(alice, "resume")
    assert (resumed["status"], resumed["resumed_count"]) == ("provisioning", 1)
    await site.beat(alice)
    assert await site.status_of(alice) == "online"
    assert (await site.send(bob, alice, "hello!")).status_code == 200
    assert [request.message["parts"][0]["text"] for request in agent.received] == ["hello!"]


@pytest.mark.contract("14.1", "14.3", "2.5", era="june")
async def test_a_paused_workspace_learns_of_it_and_heartbeats_do_not_lift_it(site: Site) -> None:
    alice = await site.create("alice")
    await site.register(alice)
    await site.post(alice, "pause")
    await site.beat(alice)
    assert await site.status_of(alice) == "paused"
    body = (await state(site, alice)).json()
    assert (body["paused"], body["status"], body["deleted"]) == (True, "paused", False)
    await site.register(alice)
    assert await site.status_of(alice) == "online"
    assert (await state(site, alice)).json()["paused"] is False


@pytest.mark.contract("5.2", "14.3", "2.5", era="june")
async def test_a_message_to_a_hibernated_workspace_says_that_it_wakes(site: Site, agent: Agent) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)
    assert (await site.post(alice, "hibernate"))["status"] == "hibernated"
    assert await site.status_of(alice) == "hibernated"
    answer = await site.send(bob, alice)
    body = refusal(answer, 503)
    assert (body["waking"], body["retry_after"], answer.headers["Retry-After"]) == (True, 15, "15")
    assert agent.received == []
    await site.beat(alice)
    assert await site.status_of(alice) == "hibernated"
    await site.register(alice, agent)
    assert (await site.send(bob, alice)).status_code == 200
    assert len(agent.received) == 1


@pytest.mark.contract("14.3", "17.5", era="june")
async def test_pausing_hibernating_and_resuming_are_told(site: Site) -> None:
    alice = await site.create("alice")
    await site.register(alice)
    async with listening(site.server, site.admin) as frames:
        await site.post(alice, "pause")
        await frames.frame("WORKSPACE_PAUSED", alice)
        await site.post(alice, "resume")
        await frames.frame("WORKSPACE_PROVISIONING", alice)
        await site.post(alice, "hibernate")
        await frames.frame("WORKSPACE_HIBERNATED", alice)


@pytest.mark.contract("14.3", "ours", era="june")
async def test_restart_is_refused_where_nobody_runs_the_workspace(site: Site) -> None:
    alice = await site.create("alice")
    await site.register(alice)
    for verb in ("restart", "resume"):
        answer = await site.http.post(f"/workspaces/{alice.id}/{verb}", headers=alice.auth)
        assert refusal(answer, 503)["hint"]
    assert await site.status_of(alice) == "online"


@pytest.mark.contract("14.3", "1.5", era="june")
async def test_only_the_workspace_itself_and_the_admin_stop_and_start_it(site: Site) -> None:
    _, alice, bob = await site.family()
    await site.register(alice)
    for verb in ("pause", "resume", "hibernate", "restart"):
        path = f"/workspaces/{alice.id}/{verb}"
        refusal(await site.http.post(path), 401, "missing workspace auth token")
        refusal(await site.http.post(path, headers=bob.auth), 401, "invalid workspace auth token")
        refusal(await site.http.post(f"/workspaces/{NOBODY}/{verb}", headers=site.admin), 404, "workspace not found")
    assert await site.status_of(alice) == "online"
    assert (await site.http.post(f"/workspaces/{alice.id}/pause", headers=site.admin)).status_code == 200
    assert await site.status_of(alice) == "paused"
