"""Messages to agents: passed through, refused, queued for busy ones, left for polling ones."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from molecule_runtime.core.platform.client import MAX_A2A_REQUEST_BYTES
from molecule_runtime.localplatform import LocalSettings, serve

from .support import WAIT_SECONDS, Member, Received, World, fake_agent, frame_of, http_answer, message, said

if TYPE_CHECKING:
    from .support import Clock, FakeAgent

pytestmark = pytest.mark.anyio


async def connected(world: World, agent: FakeAgent) -> tuple[Member, Member]:
    """A sender, and a sibling that the agent serves."""
    _, left, right = await world.family()
    await world.register(right, agent)
    return left, right


def always(reply: bytes | None) -> Any:
    async def answer(request: Received) -> bytes | None:
        del request
        return reply

    return answer


async def test_a_message_reaches_exactly_the_registered_url_and_the_answer_comes_back_unchanged(
    world: World, agent: FakeAgent
) -> None:
    left, right = await connected(world, agent)
    registered = await world.register(right, agent)
    raw = b'{"jsonrpc": "2.0",  "id": 7, "result": {"kind":"message","parts":[{"kind":"text","text":"gr\xc3\xbc\xc3\x9f"}]}}'
    agent.answer = always(http_answer(raw))
    answer = await world.send(left, right, "hi", message_id="m-9")
    assert (answer.status_code, answer.content) == (200, raw)
    (request,) = agent.received
    assert (request.method, request.path) == ("POST", "/")
    assert request.headers["authorization"] == f"Bearer {registered['platform_inbound_secret']}"
    assert request.body == message("hi", "m-9")


async def test_a_bare_message_is_wrapped_and_gets_a_message_id(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    bare = {key: value for key, value in message().items() if key in {"method", "params"}}
    assert (await world.http.post(f"/workspaces/{right.id}/a2a", json=bare, headers=left.auth)).status_code == 200
    (request,) = agent.received
    assert request.body["jsonrpc"] == "2.0"
    assert request.body["id"]
    assert request.body["params"]["message"]["messageId"]


async def test_a_forward_leaves_one_row_on_the_target(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    trace = [{"tool": "x"}]
    reply = said("hello")
    reply["result"]["metadata"] = {"tool_trace": trace}
    agent.answer = always(http_answer(reply))
    await world.send(left, right, "hi", message_id="m-9")
    (row,) = await world.activity(right)
    assert (row["activity_type"], row["method"], row["status"]) == ("a2a_receive", "message/send", "ok")
    assert (row["source_id"], row["target_id"], row["summary"]) == (left.id, right.id, "hi")
    assert row["request_body"] == message("hi", "m-9")
    assert (row["response_body"], row["tool_trace"]) == (reply, trace)
    assert row["duration_ms"] >= 0
    assert await world.activity(left) == []
    assert (await world.http.get(f"/workspaces/{left.id}")).json()["last_outbound_at"] is not None


async def test_the_bus_hears_of_a_message_before_and_after_the_answer(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    async with world.platform.bus.subscribe() as stream:
        await world.send(left, right, "hi")
        sent = await frame_of(stream, "A2A_SENT")
        answered = await frame_of(stream, "A2A_ANSWERED")
        logged = await frame_of(stream, "ACTIVITY_LOGGED")
    expected = {"source_id": left.id, "target_id": right.id, "method": "message/send", "text": "hi"}
    assert (sent.workspace_id, sent.payload) == (right.id, expected)
    assert (answered.payload["text"], answered.payload["status"]) == ("hello", "ok")
    assert (logged.payload["summary"], logged.payload["source_id"]) == ("hi", left.id)


async def test_a_person_gets_the_answer_and_the_page_an_event(world: World, agent: FakeAgent) -> None:
    _, right = await connected(world, agent)
    async with world.platform.bus.subscribe() as stream:
        answer = await world.http.post(f"/workspaces/{right.id}/a2a", json=message(), headers=world.admin)
        event = await frame_of(stream, "A2A_RESPONSE")
    assert answer.json() == event.payload["response_body"] == said("hello")


@pytest.mark.parametrize(
    ("reply", "status", "body"),
    [
        (http_answer({"error": "boom"}, 500), 500, {"error": "boom"}),
        (http_answer({"error": {"code": 1, "message": "deep"}}, 422), 422, {"error": "deep"}),
        (http_answer(b"<html>", 503), 503, {"error": "Service Unavailable"}),
        (http_answer(b"", 302, headers="Location: http://169.254.169.254/\r\n"), 302, {"error": "Found"}),
        (http_answer(b""), 502, {"error": "workspace agent returned empty response", "delivery_confirmed": True}),
        (
            http_answer(b"plain"),
            502,
            {"error": "workspace agent returned something that is not JSON", "delivery_confirmed": True},
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
            502,
            {"error": "failed to read agent response", "delivery_confirmed": True},
        ),
        (
            b"HTTP/1.1 500 OK\r\nContent-Length: 100\r\n\r\n{",
            502,
            {"error": "failed to read agent response", "delivery_confirmed": False},
        ),
    ],
)
async def test_an_agents_error_becomes_an_error_of_the_proxy(
    world: World, agent: FakeAgent, reply: bytes, status: int, body: dict[str, Any]
) -> None:
    left, right = await connected(world, agent)
    agent.answer = always(reply)
    answer = await world.send(left, right)
    assert (answer.status_code, answer.json()) == (status, body)
    (row,) = await world.activity(right)
    assert (row["status"], row["error_detail"]) == ("error", body["error"])


async def test_a_json_rpc_error_passes_through_as_a_200(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    error = {"jsonrpc": "2.0", "id": "7", "error": {"code": -32000, "message": "no"}}
    agent.answer = always(http_answer(error))
    answer = await world.send(left, right)
    assert (answer.status_code, answer.json()) == (200, error)


async def test_an_answer_over_the_cap_is_a_502(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    agent.answer = always(http_answer(b'"' + b"x" * (10 * 1024 * 1024) + b'"'))
    answer = await world.send(left, right)
    assert (answer.status_code, answer.json()["truncated"], answer.json()["delivery_confirmed"]) == (502, True, True)


async def test_an_agent_that_does_not_listen_is_unreachable(world: World) -> None:
    _, left, right = await world.family()
    async with fake_agent() as gone:
        await world.register(right, gone)
    answer = await world.send(left, right)
    assert (answer.status_code, answer.json()["error"]) == (502, "failed to reach workspace agent")


async def test_the_checks_come_in_the_order_of_the_contract(world: World) -> None:
    parent, left, right = await world.family()
    stranger = await world.create("stranger")
    denied = await world.send(stranger, right)
    assert denied.status_code == 403
    assert denied.json()["error"] == "access denied: workspaces cannot communicate per hierarchy rules"
    assert (await world.http.post("/workspaces/nobody/a2a", json={}, headers=left.auth)).status_code == 403
    unknown = await world.http.post("/workspaces/nobody/a2a", json={}, headers=world.admin)
    assert (unknown.status_code, unknown.json()["error"]) == (404, "workspace not found")
    poor = await world.create("poor", parent_id=parent.id, budget_limit=100)
    await world.beat(poor, monthly_spend=150)
    assert (await world.send(left, poor)).status_code == 402
    # The target counts before the message does.
    bad = await world.http.post(f"/workspaces/{poor.id}/a2a", content=b"{", headers=left.auth)
    assert bad.status_code == 402
    bad = await world.http.post(f"/workspaces/{right.id}/a2a", content=b"{", headers=left.auth)
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid JSON")
    bad = await world.http.post(f"/workspaces/{right.id}/a2a", content=b"[]", headers=left.auth)
    assert bad.json()["error"] == "invalid JSON"


async def test_a_workspace_that_went_offline_without_a_url_is_a_503(world: World) -> None:
    _, left, right = await world.family()
    await world.beat(right)
    world.clock.now += 1000
    await world.platform.sweep()
    answer = await world.send(left, right)
    assert (answer.status_code, answer.json()) == (503, {"error": "workspace has no URL", "status": "offline"})


async def test_a_message_over_one_mebibyte_is_a_413(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    for size in (MAX_A2A_REQUEST_BYTES, 3 * MAX_A2A_REQUEST_BYTES):
        answer = await world.send(left, right, "x" * size)
        assert answer.status_code == 413
        assert (answer.json()["truncated"], answer.json()["max_bytes"]) == (True, MAX_A2A_REQUEST_BYTES)
    assert agent.received == []
    assert (await world.send(left, right, "x" * (MAX_A2A_REQUEST_BYTES - 200))).status_code == 200


async def test_half_surrogate_pairs_arrive_as_replacement_characters(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    raw = (
        b'{"method":"message/send","params":{"message":{"parts":[{"kind":"text","text":"a\\ud800b \\ud83d\\ude00"}]}}}'
    )
    answer = await world.http.post(f"/workspaces/{right.id}/a2a", content=raw, headers=left.auth)
    assert answer.status_code == 200
    assert agent.texts == ["a\ufffdb \U0001f600"]


async def test_a_polling_target_finds_the_message_in_its_inbox(world: World) -> None:
    _, left, right = await world.family()
    await world.register(right)
    answer = await world.send(left, right, "hi", message_id="m-1")
    assert answer.status_code == 200
    assert answer.json() == {"status": "queued", "delivery_mode": "poll", "method": "message/send"}
    (row,) = await world.activity(right, type="a2a_receive")
    assert (row["source_id"], row["request_body"]) == (left.id, message("hi", "m-1"))
    assert "response_body" not in row


async def test_a_busy_agents_message_waits_and_comes_with_a_heartbeat(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    agent.answer = always(None)
    first = await world.send(left, right, "one", message_id="m-1")
    repeated = await world.send(left, right, "one", message_id="m-1")
    second = await world.send(left, right, "two", message_id="m-2")
    assert [answer.status_code for answer in (first, repeated, second)] == [202, 202, 202]
    assert first.json()["queued"] is True
    assert first.json()["queue_id"] == repeated.json()["queue_id"]
    assert [answer.json()["queue_depth"] for answer in (first, repeated, second)] == [1, 1, 2]
    assert await world.activity(right) == []

    agent.received.clear()
    agent.answer = None
    await world.beat(right, active_tasks=1)
    await world.settle()
    assert agent.received == []
    await world.beat(right)
    await world.settle()
    assert agent.texts == ["one"]
    await world.beat(right)
    await world.settle()
    assert agent.texts == ["one", "two"]

    url = f"/workspaces/{right.id}/a2a/queue/{first.json()['queue_id']}"
    row = (await world.http.get(url, headers=left.auth)).json()
    assert (row["status"], row["attempts"]) == ("completed", 1)
    assert b"hello" in base64.b64decode(row["response_body"])
    assert (await world.http.get(url, headers=right.auth)).status_code == 200
    assert (await world.http.get(url, headers=world.admin)).status_code == 200
    stranger = await world.create("stranger")
    assert (await world.http.get(url, headers=stranger.auth)).status_code == 404


async def test_a_queued_message_is_given_up_after_five_attempts(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    agent.answer = always(None)
    queued = (await world.send(left, right)).json()
    for _ in range(6):
        await world.beat(right)
        await world.settle()
    row = (await world.http.get(f"/workspaces/{right.id}/a2a/queue/{queued['queue_id']}", headers=left.auth)).json()
    assert (row["status"], row["attempts"]) == ("failed", 5)
    assert len(agent.received) == 6


async def test_a_message_for_an_agent_that_has_not_connected_waits_for_it(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    assert (await world.send(left, right, "early")).status_code == 202
    await world.register(right, agent)
    await world.beat(right)
    await world.settle()
    assert agent.texts == ["early"]


async def test_an_agent_that_keeps_its_own_sessions_is_busy_instead_of_queued(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    await world.beat(right, runtime_metadata={"capabilities": {"session": True}})
    agent.answer = always(None)
    answer = await world.send(left, right)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert (answer.json()["busy"], answer.json()["native_session"], answer.json()["retry_after"]) == (True, True, 30)


async def test_a_silent_turn_is_busy_after_the_idle_time_and_events_extend_it(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    settings = replace(settings, a2a_idle_timeout=1.0)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        left, right = await connected(world, agent)

        async def beats_until_done(request: Received) -> bytes:
            # Longer than the idle time, with a sign of life at every step.
            end = anyio.current_time() + 1.5
            while anyio.current_time() < end:
                await world.beat(right, active_tasks=1)
            return http_answer(said(request.body["params"]["message"]["parts"][0]["text"]))

        agent.answer = beats_until_done
        assert (await world.send(left, right)).status_code == 200
        never = asyncio.Event()

        async def silent(request: Received) -> None:
            del request
            await never.wait()

        agent.answer = silent
        assert (await world.send(left, right)).status_code == 202


async def test_a_sender_that_hangs_up_does_not_end_the_turn(world: World, agent: FakeAgent) -> None:
    left, right = await connected(world, agent)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Received) -> bytes:
        del request
        arrived.set()
        await go_on.wait()
        return http_answer(said("late"))

    agent.answer = slow
    async with world.platform.bus.subscribe() as stream:
        async with httpx.AsyncClient(trust_env=False) as impatient, anyio.create_task_group() as group:

            async def ask() -> None:
                url = f"{world.platform.url}/workspaces/{right.id}/a2a"
                await impatient.post(url, json=message(), headers=left.auth, timeout=WAIT_SECONDS)

            group.start_soon(ask)
            with anyio.fail_after(WAIT_SECONDS):
                await arrived.wait()
            group.cancel_scope.cancel()
        go_on.set()
        answered = await frame_of(stream, "A2A_ANSWERED")
    assert (answered.payload["text"], answered.payload["status"]) == ("late", "ok")
    await world.settle()
    (row,) = await world.activity(right)
    assert row["status"] == "ok"


async def test_a_person_is_not_kept_waiting_for_a_long_turn(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    settings = replace(settings, human_wait=0.05)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        _, right = await connected(world, agent)
        go_on = asyncio.Event()

        async def slow(request: Received) -> bytes:
            del request
            await go_on.wait()
            return http_answer(said("late"))

        agent.answer = slow
        async with platform.bus.subscribe() as stream:
            answer = await http.post(f"/workspaces/{right.id}/a2a", json=message(), headers=world.admin)
            assert answer.json() == {"status": "queued", "delivery_mode": "push-async", "method": "message/send"}
            go_on.set()
            assert (await frame_of(stream, "A2A_RESPONSE")).payload["response_body"] == said("late")


async def test_a_workspace_may_write_to_itself(world: World, agent: FakeAgent) -> None:
    _, right = await connected(world, agent)
    assert (await world.send(right, right, "nudge")).json() == said("hello")


async def test_a_url_that_the_strict_rule_forbids_is_not_called(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        left, right = await connected(world, agent)
    settings = replace(settings, url_rule="strict")
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        answer = await world.send(left, right)
    assert (answer.status_code, answer.json()["error"]) == (502, "workspace URL is not publicly routable")
    assert agent.received == []
