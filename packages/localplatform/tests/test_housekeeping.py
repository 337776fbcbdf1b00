"""What ends with time: history, files, approvals, refused registrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from molecule_runtime.localplatform import serve

from .support import WAIT_SECONDS

if TYPE_CHECKING:
    from molecule_runtime.localplatform import LocalSettings

    from .support import Clock, FakeAgent, Member, World

pytestmark = pytest.mark.anyio

DAY = 86_400


async def ids(world: World, member: Member) -> list[str]:
    return [row["id"] for row in await world.activity(member, type="a2a_receive")]


async def test_activity_ends_after_a_week_and_its_cursor_with_it(world: World, clock: Clock) -> None:
    _, left, right = await world.family()
    await world.register(right)
    await world.send(left, right, "old")
    (old,) = await ids(world, right)
    clock.now += 8 * DAY
    await world.send(left, right, "new")
    await world.platform.sweep()
    rows = await world.activity(right, type="a2a_receive")
    assert [row["summary"] for row in rows] == ["new"]
    gone = await world.http.get(f"/workspaces/{right.id}/activity", params={"since_id": old}, headers=right.auth)
    assert (gone.status_code, "cursor" in gone.json()["error"]) == (410, True)


async def test_an_inbox_that_acknowledges_keeps_what_it_has_not_read_for_a_month(world: World, clock: Clock) -> None:
    _, left, right = await world.family()
    await world.register(right)
    await world.send(left, right, "read")
    seq = (await world.activity(right))[0]["seq"]
    await world.send(left, right, "unread")
    await world.http.post(f"/workspaces/{right.id}/activity/ack", json={"acked_seq": seq}, headers=right.auth)
    clock.now += 8 * DAY
    await world.platform.sweep()
    assert [row["summary"] for row in await world.activity(right, type="a2a_receive")] == ["unread"]
    clock.now += 30 * DAY
    await world.platform.sweep()
    assert await world.activity(right) == []


async def test_a_delegation_and_its_key_end_after_a_week(world: World, agent: FakeAgent, clock: Clock) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    body = {"target_id": right.id, "task": "add", "idempotency_key": "k"}
    first = await world.http.post(f"/workspaces/{left.id}/delegate", json=body, headers=left.auth)
    await world.settle()
    clock.now += 8 * DAY
    await world.platform.sweep()
    assert (await world.http.get(f"/workspaces/{left.id}/delegations", headers=left.auth)).json() == []
    again = await world.http.post(f"/workspaces/{left.id}/delegate", json=body, headers=left.auth)
    assert again.status_code == 202
    assert again.json()["delegation_id"] != first.json()["delegation_id"]
    await world.settle()


async def test_a_file_that_nobody_fetched_ends(world: World, clock: Clock) -> None:
    alice = await world.create(delivery_mode="poll")
    files = [("files", ("a.txt", b"hello"))]
    sent = await world.http.post(f"/workspaces/{alice.id}/chat/uploads", files=files, headers=world.admin)
    file_id = sent.json()["files"][0]["uri"].rpartition("/")[2]
    path = f"/workspaces/{alice.id}/pending-uploads/{file_id}/content"
    assert (await world.http.get(path, headers=alice.auth)).content == b"hello"
    clock.now += 8 * DAY
    assert (await world.http.get(path, headers=alice.auth)).status_code == 404
    await world.platform.sweep()

    def left(connection: Any) -> int:
        return int(connection.execute("SELECT count(*) FROM upload_chunks").fetchone()[0])

    assert await world.platform.store.read(left) == 0


async def test_an_approval_that_nobody_decided_is_denied_when_somebody_looks(world: World, clock: Clock) -> None:
    alice = await world.create()
    await world.http.post(f"/workspaces/{alice.id}/approvals", json={"action": "deploy"}, headers=alice.auth)
    clock.now += 599
    assert len((await world.http.get("/approvals/pending", headers=world.admin)).json()) == 1
    clock.now += 2
    assert (await world.http.get("/approvals/pending", headers=world.admin)).json() == []
    (row,) = (await world.http.get(f"/workspaces/{alice.id}/approvals", headers=alice.auth)).json()
    assert (row["status"], row["decided_by"]) == ("denied", "auto-expired")


async def test_a_registration_that_was_refused_degrades_for_five_minutes_or_until_a_card_comes(
    world: World, agent: FakeAgent, clock: Clock
) -> None:
    alice = await world.create()
    await world.register(alice, agent)
    bad = {"id": alice.id, "agent_card": {"name": "a"}, "url": "http://169.254.169.254/", "delivery_mode": "push"}
    refused = await world.http.post("/registry/register", json=bad, headers=alice.auth)
    assert refused.status_code == 400
    await world.beat(alice)
    assert await world.status(alice) == "degraded"
    await world.beat(alice, agent_card={"name": "a"})
    assert await world.status(alice) == "online"
    await world.http.post("/registry/register", json=bad, headers=alice.auth)
    await world.beat(alice)
    assert await world.status(alice) == "degraded"
    clock.now += 301
    await world.beat(alice)
    assert await world.status(alice) == "online"


async def test_a_platform_workspace_must_show_its_management_tools(world: World, clock: Clock) -> None:
    boss = await world.create("boss", kind="platform")
    await world.register(boss)
    await world.beat(boss)
    assert await world.status(boss) == "failed"
    await world.beat(boss, mcp_server_present=True)
    assert await world.status(boss) == "online"
    clock.now += 121
    await world.beat(boss, mcp_server_present=True, loaded_mcp_tools=["mcp__other__tool"])
    assert await world.status(boss) == "degraded"
    await world.beat(boss, mcp_server_present=True, loaded_mcp_tools=["mcp__molecule-platform__create_workspace"])
    assert await world.status(boss) == "online"
    other = await world.http.post("/workspaces", json={"name": "second", "kind": "platform"}, headers=world.admin)
    assert other.status_code == 409


async def test_events_and_org_tokens_are_there_after_a_restart(settings: LocalSettings, clock: Clock) -> None:
    import httpx

    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        admin = {"Authorization": f"Bearer {platform.admin_token}"}
        token = (await http.post("/org/tokens", json={"name": "ops"}, headers=admin)).json()["auth_token"]
        await http.post("/workspaces", json={"name": "alice", "external": True}, headers=admin)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        org = {"Authorization": f"Bearer {token}"}
        events = (await http.get("/events", headers=org)).json()
        assert [row["event_type"] for row in events] == ["WORKSPACE_AWAITING_AGENT"]


async def test_results_of_delegations_are_left_in_the_inbox_where_the_platform_is_told_to(
    settings: LocalSettings, agent: FakeAgent, clock: Clock
) -> None:
    from dataclasses import replace

    import httpx

    from .support import World

    async with (
        serve(replace(settings, delegation_results_in_inbox=True)) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        world = World(platform, http, clock)
        _, left, right = await world.family()
        await world.register(right, agent)
        body = {"target_id": right.id, "task": "add"}
        made = await http.post(f"/workspaces/{left.id}/delegate", json=body, headers=left.auth)
        with anyio.fail_after(WAIT_SECONDS):
            await world.settle()
        (row,) = await world.activity(left, type="a2a_receive")
        assert (row["method"], row["source_id"], row["status"]) == ("delegate_result", right.id, "ok")
        assert row["response_body"] == {"text": "hello", "delegation_id": made.json()["delegation_id"]}
