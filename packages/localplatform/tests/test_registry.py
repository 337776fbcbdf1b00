"""Registering, beating, finding peers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from molecule_runtime.core.identity import WorkspaceId
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken

from .support import Member, frame_of

if TYPE_CHECKING:
    import httpx

    from .support import FakeAgent, World

pytestmark = pytest.mark.anyio

CARD = {"name": "a card"}


async def register(world: World, body: dict[str, Any], token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await world.http.post("/registry/register", json=body, headers=headers)


async def test_the_token_is_handed_out_once(world: World) -> None:
    body = {"id": "agent-1", "agent_card": CARD, "delivery_mode": "poll"}
    first = (await register(world, body)).json()
    assert first["status"] == "registered"
    assert len(first["auth_token"]) == 43
    without = await register(world, body)
    assert (without.status_code, without.json()["error"]) == (401, "missing workspace auth token")
    wrong = await register(world, body, "x")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid workspace auth token")
    again = (await register(world, body, first["auth_token"])).json()
    assert "auth_token" not in again
    assert again["platform_inbound_secret"] == first["platform_inbound_secret"]


async def test_of_many_first_registrations_at_once_one_gets_the_token(world: World) -> None:
    answers: list[httpx.Response] = []

    async def one() -> None:
        answers.append(await register(world, {"id": "racer", "agent_card": CARD, "delivery_mode": "poll"}))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(one)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"id": None}, "invalid request body"),
        ({"id": ""}, "invalid request body"),
        ({"id": "../etc"}, "invalid workspace ID"),
        ({"id": " padded"}, "invalid workspace ID"),
        ({"agent_card": None}, "invalid request body"),
        ({"agent_card": "a string"}, "invalid request body"),
        ({"delivery_mode": "smoke"}, "delivery_mode must be 'push' or 'poll'"),
        ({"kind": "boss"}, "kind must be 'workspace' or 'platform'"),
        ({"url": ""}, "url is required for push-mode workspaces"),
        ({"url": "remote://no-inbound"}, "invalid request body"),
        ({"url": "http://169.254.169.254/latest"}, "invalid request body"),
        ({"url": "http://10.1.2.3:8000"}, "invalid request body"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "invalid request body"),
        ({"url": "http://user:secret@127.0.0.1:1/"}, "invalid request body"),
        ({"agent_card": {"name": "x", "url": "http://192.168.0.1/"}}, "workspace agent_card URL not allowed"),
    ],
)
async def test_a_registration_that_breaks_a_rule_is_a_400(world: World, change: dict[str, Any], error: str) -> None:
    body = {"id": "agent-1", "agent_card": CARD, "url": "http://127.0.0.1:9", **change}
    answer = await register(world, body)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000, b'{"id": NaN}'])
async def test_malformed_json_is_a_400(world: World, body: bytes) -> None:
    answer = await world.http.post("/registry/register", content=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid request body")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8123", "http://localhost:8123/a2a", "http://[::1]:8123"])
async def test_loopback_urls_are_admitted_in_local_mode(world: World, url: str) -> None:
    assert (await register(world, {"id": "agent-1", "agent_card": CARD, "url": url})).status_code == 200


async def test_the_card_url_serves_when_the_body_has_none(world: World) -> None:
    card = {"name": "x", "url": "http://127.0.0.1:8123"}
    await register(world, {"id": "agent-1", "agent_card": card})
    assert (await world.http.get("/workspaces/agent-1")).json()["url"] == "http://127.0.0.1:8123"


async def test_an_absent_delivery_mode_keeps_the_rows_own(world: World) -> None:
    alice = await world.create(delivery_mode="poll")
    for mode in (None, ""):
        body = {"id": alice.id, "agent_card": CARD, "delivery_mode": mode}
        assert (await register(world, body, alice.token)).json()["delivery_mode"] == "poll"


async def test_only_the_platform_makes_a_platform_agent(world: World) -> None:
    answer = await register(
        world,
        {"id": "boss", "agent_card": CARD, "delivery_mode": "poll", "kind": "platform", "mcp_server_present": True},
    )
    assert answer.status_code == 403


async def test_the_card_takes_name_and_role_of_the_row(world: World) -> None:
    alice = await world.create("alice", role="cook")
    await world.register(alice)
    card = (await world.http.get(f"/workspaces/{alice.id}")).json()["agent_card"]
    assert (card["name"], card["role"]) == ("alice", "cook")
    answer = await world.http.post(
        "/registry/update-card",
        json={"workspace_id": alice.id, "agent_card": {"name": "mallory", "x": 1}},
        headers=alice.auth,
    )
    assert answer.json() == {"status": "updated"}
    card = (await world.http.get(f"/workspaces/{alice.id}")).json()["agent_card"]
    assert card == {"name": "alice", "role": "cook", "x": 1}


async def test_an_unknown_id_that_registers_keeps_the_name_on_its_card(world: World) -> None:
    await register(world, {"id": "agent-1", "agent_card": {"name": "nice"}, "delivery_mode": "poll"})
    row = (await world.http.get("/workspaces/agent-1")).json()
    assert (row["name"], row["agent_card"]["name"], row["tier"], row["parent_id"]) == ("agent-1", "nice", 1, None)


async def test_a_heartbeat_carries_the_inbound_secret_back(world: World) -> None:
    alice = await world.create()
    registered = await world.register(alice)
    assert await world.beat(alice) == {"status": "ok", "platform_inbound_secret": registered["platform_inbound_secret"]}


async def test_a_heartbeat_without_credentials_passes_only_while_there_is_no_token_and_learns_no_secret(
    world: World,
) -> None:
    made = (await world.http.post("/workspaces", json={"name": "host"}, headers=world.admin)).json()
    early = await world.http.post("/registry/heartbeat", json={"workspace_id": made["id"]})
    assert (early.status_code, early.json()) == (200, {"status": "ok"})
    await register(world, {"id": made["id"], "agent_card": CARD, "delivery_mode": "poll"})
    late = await world.http.post("/registry/heartbeat", json={"workspace_id": made["id"]})
    assert (late.status_code, late.json()["error"]) == (401, "missing workspace auth token")


async def test_a_heartbeat_of_an_unknown_id_is_ok(world: World) -> None:
    answer = await world.http.post("/registry/heartbeat", json={"workspace_id": "nobody"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"workspace_id": ""},
        {"workspace_id": "a", "error_rate": 7},
        {"workspace_id": "a", "active_tasks": "x"},
    ],
)
async def test_a_heartbeat_that_breaks_a_rule_is_a_400(world: World, body: dict[str, Any]) -> None:
    assert (await world.http.post("/registry/heartbeat", json=body)).status_code == 400


async def test_a_silent_workspace_goes_offline_and_its_next_heartbeat_brings_it_back(world: World) -> None:
    alice, bob = await world.create("alice"), await world.create("bob")
    await world.register(alice)
    await world.register(bob)
    async with world.platform.bus.subscribe() as stream:
        world.clock.now += 89
        assert await world.platform.sweep() == []
        await world.beat(bob)
        world.clock.now += 2
        assert await world.platform.sweep() == [alice.id]
        assert (await frame_of(stream, "WORKSPACE_OFFLINE")).workspace_id == alice.id
        assert (await world.status(alice), await world.status(bob)) == ("offline", "online")
        await world.beat(alice)
        frame = await frame_of(stream, "WORKSPACE_ONLINE")
    assert (frame.workspace_id, frame.payload) == (alice.id, {"recovered_from": "offline"})
    assert await world.status(alice) == "online"


async def test_heartbeats_move_the_status_as_the_table_says(world: World) -> None:
    alice = await world.create()
    assert await world.status(alice) == "awaiting_agent"
    steps: list[tuple[dict[str, Any], str]] = [
        ({}, "online"),
        ({"error_rate": 0.49}, "online"),
        ({"error_rate": 0.5}, "degraded"),
        ({"error_rate": 0.3}, "degraded"),
        ({"error_rate": 0.05, "runtime_state": "wedged"}, "degraded"),
        ({"error_rate": 0.05}, "online"),
        ({"runtime_state": "wedged"}, "degraded"),
        ({}, "online"),
        ({"error_rate": 0.9, "runtime_metadata": {"capabilities": {"status_mgmt": True}}}, "online"),
    ]
    for beat, expected in steps:
        await world.beat(alice, **beat)
        assert (beat, await world.status(alice)) == (beat, expected)


async def test_a_heartbeat_publishes_task_and_beat(world: World) -> None:
    alice = await world.create()
    async with world.platform.bus.subscribe() as stream:
        await world.beat(alice, current_task="cooking", active_tasks=1, uptime_seconds=5)
        task = await frame_of(stream, "TASK_UPDATED")
        beat = await frame_of(stream, "WORKSPACE_HEARTBEAT")
    assert task.payload == {"current_task": "cooking", "active_tasks": 1}
    assert beat.payload == {"active_tasks": 1, "uptime_seconds": 5}


async def test_a_heartbeat_fills_a_missing_card_and_replaces_none(world: World) -> None:
    alice = await world.create()
    await world.beat(alice, agent_card={"name": "alice", "v": 1})
    await world.beat(alice, agent_card={"name": "alice", "v": 2})
    assert (await world.http.get(f"/workspaces/{alice.id}")).json()["agent_card"]["v"] == 1


async def test_peers_are_parent_siblings_and_children(world: World) -> None:
    parent, left, right = await world.family()
    grandchild = await world.create("grandchild", parent_id=left.id)
    await world.create("another root")

    async def peers(member: Member, query: str = "") -> list[str]:
        answer = await world.http.get(f"/registry/{member.id}/peers{query}", headers=member.auth)
        return [row["name"] for row in answer.json()]

    assert await peers(parent) == ["left", "right"]
    assert await peers(left) == ["grandchild", "parent", "right"]
    assert await peers(grandchild) == ["left"]
    assert await peers(left, "?q=GRAND") == ["grandchild"]
    assert (await world.http.get(f"/registry/{left.id}/peers", headers=right.auth)).status_code == 401
    assert (await world.http.get("/registry/nobody/peers")).status_code == 404


async def test_discovery_keeps_to_the_hierarchy(world: World, agent: FakeAgent) -> None:
    parent, left, right = await world.family()
    grandchild = await world.create("grandchild", parent_id=left.id)
    stranger = await world.create("stranger")
    await world.register(left, agent)
    await world.register(right)

    async def discover(caller: Member, target: Member) -> httpx.Response:
        return await world.http.get(
            f"/registry/discover/{target.id}", headers={**caller.auth, "X-Workspace-ID": caller.id}
        )

    assert (await discover(right, left)).json() == {"id": left.id, "url": agent.url, "name": "left"}
    assert (await discover(left, right)).json() == {"id": right.id, "url": "", "name": "right"}
    # An ancestor at any depth may be asked for, and has not connected yet.
    assert (await discover(grandchild, parent)).status_code == 503
    assert (await discover(right, grandchild)).status_code == 403
    assert (await discover(stranger, parent)).status_code == 403
    without = await world.http.get(f"/registry/discover/{left.id}", headers=right.auth)
    assert without.status_code == 400
    unproven = await world.http.get(f"/registry/discover/{left.id}", headers={"X-Workspace-ID": right.id})
    assert unproven.status_code == 401
    foreign = await world.http.get(
        f"/registry/discover/{left.id}", headers={**stranger.auth, "X-Workspace-ID": right.id}
    )
    assert foreign.status_code == 401


async def test_check_access_applies_the_june_rule(world: World) -> None:
    parent, left, right = await world.family()
    other = await world.create("another root")

    async def allowed(one: str, two: str) -> bool:
        answer = await world.http.post("/registry/check-access", json={"caller_id": one, "target_id": two})
        return bool(answer.json()["allowed"])

    assert await allowed(left.id, right.id)
    assert await allowed(left.id, left.id)
    assert await allowed(parent.id, right.id)
    assert not await allowed(parent.id, other.id)
    assert not await allowed(left.id, "nobody")
    assert not await allowed("nobody", "nobody")
    assert (await world.http.post("/registry/check-access", json={"caller_id": left.id})).status_code == 400


async def test_a_removed_workspace_is_gone_for_its_agent(world: World) -> None:
    alice = await world.create()
    await world.register(alice)
    deleted = await world.http.delete(f"/workspaces/{alice.id}", headers=world.admin)
    assert deleted.json() == {"status": "removed", "cascade_deleted": 0}
    card = {"id": alice.id, "agent_card": CARD, "delivery_mode": "poll"}
    assert (await register(world, card, alice.token)).status_code == 410
    beat = await world.http.post("/registry/heartbeat", json={"workspace_id": alice.id}, headers=alice.auth)
    assert beat.status_code == 410
    gone = await world.http.get(f"/workspaces/{alice.id}")
    assert (gone.status_code, gone.json()["error"], gone.json()["id"]) == (410, "workspace removed", alice.id)
    kept = await world.http.get(f"/workspaces/{alice.id}?include_removed=true")
    assert (kept.status_code, kept.json()["status"]) == (200, "removed")
    assert (await world.http.get(f"/workspaces/{alice.id}/activity", headers=alice.auth)).status_code == 401


async def test_the_platform_client_of_core_works_against_it(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    target = WorkspaceTarget(id=WorkspaceId(left.id), token=StaticToken(left.token), platform_url=world.platform.url)
    async with ConnectionPools() as pools, PlatformClient(target, pools) as client:
        registered = await client.register(wire.RegisterRequest(id=left.id, agent_card=CARD, delivery_mode="poll"))
        assert registered.platform_inbound_secret
        assert (await client.heartbeat(wire.HeartbeatRequest(workspace_id=left.id))).status == "ok"
        assert [peer.name for peer in await client.peers()] == ["parent", "right"]
        assert (await client.discover(right.id)).url == agent.url
        answer = await client.send_message(right.id, "hi")
        assert getattr(answer, "text", None) == "hello"
        assert (await client.notify("done")).status == "sent"
        assert (await client.log_activity(wire.ActivityRequest(activity_type="agent_log"))).status == "logged"
        delegated = await client.delegate(right.id, "task", idempotency_key="k")
        await world.settle()
        (ledger,) = await client.delegations()
        assert (ledger.delegation_id, ledger.status) == (delegated.delegation_id, "completed")
        assert len(await client.activity(include_peer_info=True)) == 4
        assert (await client.workspace()).name == "left"
