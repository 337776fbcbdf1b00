"""What a server tells as it happens: the WebSocket, the SSE stream, the log of events, the activity of everybody (contract 17)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .listening import listening, websocket_url
from .site import WAIT_SECONDS, refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from websockets.asyncio.client import ClientConnection

    from .site import Agent, Member, Site

pytestmark = pytest.mark.anyio


async def refused_with(site: Site, headers: dict[str, str], *subprotocols: str) -> int:
    """Return the status with which the server refuses to open a WebSocket."""
    with pytest.raises(InvalidStatus) as caught:
        async with listening(site.server, headers, *subprotocols):
            pass
    return caught.value.response.status_code


def protocol_of(token: str) -> str:
    return f"molecule-auth.{token.encode().hex()}"


async def log_of(site: Site, member: Member) -> list[dict[str, Any]]:
    answer = await site.http.get(f"/events/{member.id}", headers=site.admin)
    assert answer.status_code == 200, answer.text
    return cast("list[dict[str, Any]]", answer.json())


@pytest.mark.contract("17.1", "17.2", "4.2", era="april")
async def test_a_frame_names_the_event_the_workspace_the_time_and_the_payload(site: Site) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as frames:
        await site.beat(alice, active_tasks=2, uptime_seconds=40)
        frame = await frames.frame("WORKSPACE_HEARTBEAT", alice)
    assert frame.keys() == {"event", "workspace_id", "timestamp", "payload"}
    assert frame["payload"] == {"active_tasks": 2, "uptime_seconds": 40}
    moment = datetime.fromisoformat(frame["timestamp"])
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


@pytest.mark.contract("4.2", "28.1", "17.5", era="april")
async def test_a_new_task_is_told_before_the_heartbeat_that_brought_it(site: Site) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as frames:
        for task in ("digging", "digging", "planting"):
            await site.beat(alice, current_task=task, active_tasks=1)
        changed = await frames.frame("TASK_UPDATED", alice, current_task="planting")
        await frames.frame("WORKSPACE_HEARTBEAT", alice)
    assert changed["payload"] == {"current_task": "planting", "active_tasks": 1}
    told = [event for event in frames.events(alice) if event in {"TASK_UPDATED", "WORKSPACE_HEARTBEAT"}]
    assert told == ["TASK_UPDATED", *["WORKSPACE_HEARTBEAT"] * 2, "TASK_UPDATED", "WORKSPACE_HEARTBEAT"]


@pytest.mark.contract("17.5", "4.1", "4.3", era="april")
async def test_going_online_and_a_new_card_are_told(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as frames:
        await site.register(alice, agent)
        payload = (await frames.frame("WORKSPACE_ONLINE", alice))["payload"]
        assert (payload["url"], payload["agent_card"]["name"]) == (agent.url, alice.name)
        body = {"workspace_id": alice.id, "agent_card": {"name": alice.name, "skills": [{"id": "s"}]}}
        assert (await site.http.post("/registry/update-card", json=body, headers=alice.auth)).status_code == 200
        payload = (await frames.frame("AGENT_CARD_UPDATED", alice))["payload"]
        assert payload["agent_card"]["skills"] == [{"id": "s"}]


@pytest.mark.contract("24.1", era="june")
async def test_going_online_says_how_messages_are_delivered(site: Site) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as frames:
        await site.register(alice)
        assert (await frames.frame("WORKSPACE_ONLINE", alice))["payload"]["delivery_mode"] == "poll"


@pytest.mark.contract("17.5", "7.2", "7.3", era="april")
async def test_reports_and_words_to_the_person_are_told(site: Site) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as frames:
        await site.post(alice, "activity", {"activity_type": "agent_log", "summary": "it rains", "duration_ms": 7})
        payload = (await frames.frame("ACTIVITY_LOGGED", alice))["payload"]
        expected = {"activity_type": "agent_log", "summary": "it rains", "status": "ok", "duration_ms": 7}
        assert payload.items() >= expected.items()
        assert payload.keys() >= {"method", "source_id", "target_id"}
        file = {"uri": "workspace:/workspace/a.txt", "name": "a.txt", "size": 3}
        await site.post(alice, "notify", {"message": "done", "attachments": [file]})
        payload = (await frames.frame("AGENT_MESSAGE", alice))["payload"]
        assert (payload["message"], payload["workspace_id"], payload["name"]) == ("done", alice.id, alice.name)
        assert payload["attachments"][0].items() >= file.items()


@pytest.mark.contract("5.5", "17.5", era="april")
async def test_the_answer_to_the_person_is_told(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)
    async with listening(site.server, site.admin) as frames:
        answer = await site.send(None, alice)
        payload = (await frames.frame("A2A_RESPONSE", alice))["payload"]
    assert payload["response_body"] == answer.json()
    assert payload["method"] == "message/send"
    assert payload["duration_ms"] >= 0


@pytest.mark.contract("24.8", "17.1", era="june")
async def test_requests_are_told(site: Site) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as frames:
        body = {"kind": "task", "recipient_type": "user", "title": "water"}
        made = await site.post(alice, "requests", body, status=201)
        request_id = made["request_id"]
        await frames.frame("REQUEST_CREATED", alice, request_id=request_id)
        message = {"body": "please", "author_type": "agent", "author_id": alice.id}
        await site.post(alice, f"requests/{request_id}/messages", message, status=201)
        await frames.frame("REQUEST_MESSAGE", alice, request_id=request_id)
        path = f"/requests/{request_id}/respond"
        assert (await site.http.post(path, json={"action": "done"}, headers=site.admin)).status_code == 200
        await frames.frame("REQUEST_RESPONDED", alice, request_id=request_id)


@pytest.mark.contract("17.2", "2.1", era="june")
async def test_a_workspace_hears_only_of_those_whom_it_may_talk_to(site: Site) -> None:
    parent, left, right = await site.family()
    stranger = await site.create("stranger")
    async with listening(site.server, left.identity) as frames:
        for member in (stranger, parent, right, left):
            await site.beat(member)
        await frames.frame("WORKSPACE_HEARTBEAT", left)
    assert {frame["workspace_id"] for frame in frames.seen} == {parent.id, right.id, left.id}


@pytest.mark.contract("17.2", "24.11", era="june")
async def test_the_bearer_alone_says_whose_view_it_is(site: Site) -> None:
    _, left, right = await site.family()
    stranger = await site.create("stranger")
    async with listening(site.server, left.auth) as frames:
        await site.beat(stranger)
        await site.beat(right)
        await frames.frame("WORKSPACE_HEARTBEAT", right)
    assert frames.events(stranger) == []


@pytest.mark.contract("17.2", "24.11", "28.1", era="june")
async def test_nobody_listens_without_a_token_of_their_own(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    assert await refused_with(site, {}) == 401
    assert await refused_with(site, {"X-Workspace-ID": alice.id}) == 401
    assert await refused_with(site, {"Authorization": "Bearer nonsense"}) == 401
    assert await refused_with(site, {**bob.auth, "X-Workspace-ID": alice.id}) == 401
    assert await refused_with(site, {}, "molecule-ws") == 401


@pytest.mark.contract("24.11", "17.2", era="june")
async def test_a_browser_brings_its_token_as_a_subprotocol(site: Site) -> None:
    alice = await site.create("alice")
    stranger = await site.create("stranger")
    async with listening(site.server, {}, protocol_of(alice.token), "molecule-ws") as frames:
        # A browser closes a connection whose server chose none of what it offered; the token must not come back.
        assert frames.connection.subprotocol == "molecule-ws"
        await site.beat(stranger)
        await site.beat(alice)
        await frames.frame("WORKSPACE_HEARTBEAT", alice)
    assert frames.events(stranger) == []
    async with listening(site.server, {}, "molecule-ws", protocol_of(site.server.admin_token)) as frames:
        await site.beat(stranger)
        await frames.frame("WORKSPACE_HEARTBEAT", stranger)


@pytest.mark.contract("24.11", "17.2", era="june")
@pytest.mark.parametrize("offered", ["molecule-auth.", "molecule-auth.xyz", "molecule-auth.abc", "molecule-auth.ff00"])
async def test_a_subprotocol_that_is_no_token_is_a_401(site: Site, offered: str) -> None:
    assert await refused_with(site, {}, offered, "molecule-ws") == 401


@pytest.mark.contract("17.2", era="april")
async def test_what_happened_before_is_not_told_again(site: Site) -> None:
    alice = await site.create("alice")
    await site.beat(alice, current_task="before")
    async with listening(site.server, site.admin) as frames:
        await site.beat(alice, current_task="after")
        await frames.frame("WORKSPACE_HEARTBEAT", alice)
    assert [frame["payload"]["current_task"] for frame in frames.seen if frame["event"] == "TASK_UPDATED"] == ["after"]


@pytest.mark.contract("17.2", era="april")
async def test_a_reader_that_goes_away_takes_nothing_from_the_others(site: Site) -> None:
    alice = await site.create("alice")
    async with listening(site.server, site.admin) as stays:
        async with listening(site.server, site.admin) as leaves:
            await site.beat(alice)
            await leaves.frame("WORKSPACE_HEARTBEAT", alice)
            leaves.connection.transport.abort()
        await site.beat(alice, active_tasks=3)
        await stays.frame("WORKSPACE_HEARTBEAT", alice, active_tasks=3)


@pytest.mark.contract("17.2", era="june")
async def test_an_oversized_message_ends_only_the_connection_that_sent_it(site: Site) -> None:
    async with (
        listening(site.server, site.admin) as good,
        connect(websocket_url(site.server), additional_headers=site.admin, proxy=None) as bad,
    ):
        with pytest.raises(ConnectionClosed):
            await send_and_wait_for_the_end(bad, "x" * 4_000_000)
        alice = await site.create("alice")
        await site.beat(alice)
        await good.frame("WORKSPACE_HEARTBEAT", alice)


async def send_and_wait_for_the_end(connection: ClientConnection, text: str) -> None:
    with anyio.fail_after(WAIT_SECONDS):
        await connection.send(text)
        while True:
            await connection.recv()


@pytest.mark.contract("17.2", "1.2", era="june")
async def test_there_are_no_other_sockets(site: Site) -> None:
    alice = await site.create("alice")
    for path in ("/", "/ws/", "/workspaces", f"/workspaces/{alice.id}/activity", "/../ws", "/%2e%2e/ws"):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(websocket_url(site.server, path), additional_headers=site.admin, proxy=None):
                pass
        assert caught.value.response.status_code in {400, 404, 405}


async def comments_and_data(answer: httpx.Response) -> AsyncIterator[str | dict[str, Any]]:
    """Yield the comments (as text) and the data (as JSON) of an SSE stream."""
    async for line in answer.aiter_lines():
        if line.startswith("data:"):
            yield cast("dict[str, Any]", json.loads(line.removeprefix("data:")))
        elif line.startswith(":"):
            yield line


@pytest.mark.contract("17.3", era="april")
async def test_the_sse_stream_begins_with_a_ping_and_carries_the_workspaces_events(site: Site) -> None:
    _, alice, bob = await site.family()
    stream = site.http.stream("GET", f"/workspaces/{alice.id}/events/stream", headers=alice.auth)
    with anyio.fail_after(WAIT_SECONDS):
        async with stream as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            came = comments_and_data(answer)
            assert await anext(came) == ": ping"
            await site.beat(bob)
            await site.beat(alice, active_tasks=1)
            told: list[dict[str, Any]] = []
            while not told or told[-1]["type"] != "WORKSPACE_HEARTBEAT":
                if isinstance(item := await anext(came), dict):
                    told.append(item)
    assert all(item.keys() == {"type", "timestamp", "data"} for item in told)
    # Of the two heartbeats, only its own.
    (beat,) = [item for item in told if item["type"] == "WORKSPACE_HEARTBEAT"]
    assert beat["data"]["active_tasks"] == 1
    moment = datetime.fromtimestamp(beat["timestamp"] / 1000, UTC)
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


@pytest.mark.contract("17.3", "1.5", era="june")
async def test_the_sse_stream_is_for_the_workspace_itself(site: Site) -> None:
    _, alice, bob = await site.family()
    path = f"/workspaces/{alice.id}/events/stream"
    refusal(await site.http.get(path), 401, "missing workspace auth token")
    refusal(await site.http.get(path, headers=bob.auth), 401, "invalid workspace auth token")


@pytest.mark.contract("17.4", "17.5", era="april")
async def test_persisted_events_are_listed_for_the_admin(site: Site, agent: Agent) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    await site.register(alice, agent)
    await site.post(alice, "approvals", {"action": "deploy"}, status=201)
    await site.register(bob, agent)

    async def logged() -> bool:
        events = [row["event_type"] for row in await log_of(site, alice)]
        return "APPROVAL_REQUESTED" in events and bool(await log_of(site, bob))

    await site.eventually(logged)
    rows = await log_of(site, alice)
    assert {row["workspace_id"] for row in rows} == {alice.id}
    assert all(row.keys() == {"id", "event_type", "workspace_id", "payload", "created_at"} for row in rows)
    events = [row["event_type"] for row in rows]
    assert events.index("APPROVAL_REQUESTED") < events.index("WORKSPACE_ONLINE")  # the newest first
    online = rows[events.index("WORKSPACE_ONLINE")]
    assert online["payload"]["url"] == agent.url
    everything = (await site.http.get("/events", headers=site.admin)).json()
    assert len(everything) <= 100
    assert {alice.id, bob.id} <= {row["workspace_id"] for row in everything}


@pytest.mark.contract("17.4", "17.5", era="april")
async def test_what_is_only_broadcast_is_not_in_the_log(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.beat(alice, current_task="digging")
    await site.post(alice, "activity", {"activity_type": "agent_log", "summary": "x"})
    await site.post(alice, "notify", {"message": "done"})
    await site.register(alice, agent)

    async def logged() -> bool:
        return "WORKSPACE_ONLINE" in [row["event_type"] for row in await log_of(site, alice)]

    await site.eventually(logged)
    events = {row["event_type"] for row in await log_of(site, alice)}
    assert not events & {"WORKSPACE_HEARTBEAT", "TASK_UPDATED", "ACTIVITY_LOGGED", "AGENT_MESSAGE"}


@pytest.mark.contract("17.4", "1.5", era="june")
async def test_the_log_is_for_the_admin(site: Site) -> None:
    alice = await site.create("alice")
    for path in ("/events", f"/events/{alice.id}"):
        refusal(await site.http.get(path), 401, "admin auth required")
        refusal(await site.http.get(path, headers=alice.auth), 401, "invalid admin auth token")


@pytest.mark.contract("ours", era="june")
async def test_the_admin_reads_the_activity_of_everybody_in_order(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    for member, summary in ((alice, "one"), (bob, "two"), (alice, "three")):
        await site.post(member, "activity", {"activity_type": "agent_log", "summary": summary})

    async def rows(**query: Any) -> list[dict[str, Any]]:
        answer = await site.http.get("/admin/activity", params=query, headers=site.admin)
        assert answer.status_code == 200, answer.text
        return cast("list[dict[str, Any]]", answer.json())

    (first, third) = await rows(workspace_id=alice.id)
    assert (first["summary"], third["summary"]) == ("one", "three")
    ours = {alice.id, bob.id}
    later = [row for row in await rows(since_seq=first["seq"]) if row["workspace_id"] in ours]
    assert [row["summary"] for row in later] == ["two", "three"]
    assert [row["seq"] for row in later] == sorted(row["seq"] for row in later)
    assert [row["summary"] for row in await rows(since_seq=first["seq"], workspace_id=alice.id)] == ["three"]
    assert await rows(since_seq=third["seq"], workspace_id=alice.id) == []
    for query in ({"since_seq": "x"}, {"since_seq": "-1"}, {"workspace_id": "../x"}):
        refusal(await site.http.get("/admin/activity", params=query, headers=site.admin), 400)
    refusal(await site.http.get("/admin/activity", headers=alice.auth), 401, "invalid admin auth token")
    refusal(await site.http.get("/admin/activity"), 401, "admin auth required")
