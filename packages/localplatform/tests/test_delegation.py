"""Delegations: sent in the background, accounted for, each key once."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import pytest

from molecule_runtime.localplatform import LocalSettings, serve
from molecule_runtime.localplatform.delegation import INTERRUPTED, MAX_METADATA_CHARS
from molecule_runtime.localplatform.store import delegations

from .support import WAIT_SECONDS, Member, Received, World, fake_agent, frame_of, http_answer, message, said

if TYPE_CHECKING:
    from .support import Clock, FakeAgent

pytestmark = pytest.mark.anyio


async def delegate(world: World, source: Member, target_id: str, task: str = "cook", **fields: Any) -> httpx.Response:
    body = {"target_id": target_id, "task": task, **fields}
    return await world.http.post(f"/workspaces/{source.id}/delegate", json=body, headers=source.auth)


async def ledger(world: World, source: Member) -> list[dict[str, Any]]:
    answer = await world.http.get(f"/workspaces/{source.id}/delegations", headers=source.auth)
    return cast("list[dict[str, Any]]", answer.json())


async def test_a_delegation_completes_with_the_agents_answer(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    async with world.platform.bus.subscribe() as stream:
        answer = await delegate(world, left, right.id)
        sent = await frame_of(stream, "DELEGATION_SENT")
        status = await frame_of(stream, "DELEGATION_STATUS")
        complete = await frame_of(stream, "DELEGATION_COMPLETE")
    started = answer.json()
    assert answer.status_code == 202
    assert (started["status"], started["target_id"]) == ("delegated", right.id)
    assert sent.payload["task_preview"] == "cook"
    assert status.payload["status"] == "dispatched"
    assert (complete.workspace_id, complete.payload["response_preview"]) == (left.id, "hello")
    await world.settle()
    (row,) = await ledger(world, left)
    assert row["_ledger"] is True
    assert (row["delegation_id"], row["status"], row["response_preview"]) == (
        started["delegation_id"],
        "completed",
        "hello",
    )
    assert (row["source_id"], row["target_id"], row["summary"]) == (left.id, right.id, "cook")
    (request,) = agent.received
    sent_message = request.body["params"]["message"]
    assert sent_message["messageId"] == started["delegation_id"]
    assert sent_message["metadata"] == {"delegation_id": started["delegation_id"], "source_workspace_id": left.id}
    result, send = await world.activity(left, type="delegation")
    assert result["response_body"] == {"text": "hello", "delegation_id": started["delegation_id"]}
    assert (result["method"], send["method"]) == ("delegate_result", "delegate")


async def test_an_unreachable_agent_is_tried_twice_and_then_failed(world: World) -> None:
    _, left, right = await world.family()
    async with fake_agent() as gone:
        await world.register(right, gone)
    await delegate(world, left, right.id)
    await world.settle()
    (row,) = await ledger(world, left)
    assert (row["status"], row["error"]) == ("failed", "failed to reach workspace agent")
    assert len(await world.activity(right)) == 2


async def test_an_agent_that_answered_with_an_error_is_not_asked_again(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    for reply, error in (
        (http_answer({"error": "boom"}, 500), "boom"),
        (http_answer({"error": {"code": -1, "message": "rpc"}}), "rpc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "failed to read agent response"),
    ):

        async def answer(request: Received, reply: bytes = reply) -> bytes:
            del request
            return reply

        agent.received.clear()
        agent.answer = answer
        await delegate(world, left, right.id)
        await world.settle()
        row = (await ledger(world, left))[0]
        assert (row["status"], row["error"], len(agent.received)) == ("failed", error, 1)


async def test_a_target_outside_the_hierarchy_is_accepted_and_then_failed(world: World) -> None:
    alice, stranger = await world.create("alice"), await world.create("stranger")
    for target in (stranger.id, "nobody"):
        assert (await delegate(world, alice, target)).status_code == 202
        await world.settle()
        row = (await ledger(world, alice))[0]
        assert (row["status"], row["error"]) == (
            "failed",
            "access denied: workspaces cannot communicate per hierarchy rules",
        )


async def test_the_same_key_is_the_same_delegation_until_it_failed(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    first = (await delegate(world, left, right.id, idempotency_key="k")).json()
    await world.settle()
    again = await delegate(world, left, right.id, idempotency_key="k")
    assert again.status_code == 200
    assert again.json() == {
        "delegation_id": first["delegation_id"],
        "status": "completed",
        "target_id": right.id,
        "idempotent_hit": True,
    }
    assert len(agent.received) == 1
    other = (await delegate(world, right, left.id, idempotency_key="k")).json()
    assert other["delegation_id"] != first["delegation_id"]

    failed = (await delegate(world, left, "nobody", idempotency_key="f")).json()
    await world.settle()
    retried = await delegate(world, left, right.id, idempotency_key="f")
    assert retried.status_code == 202
    assert retried.json()["delegation_id"] != failed["delegation_id"]
    await world.settle()


async def test_a_busy_target_leaves_it_queued_and_the_drained_answer_completes_it(
    world: World, agent: FakeAgent
) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)

    async def hang_up(request: Received) -> None:
        del request

    agent.answer = hang_up
    await delegate(world, left, right.id)
    await world.settle()
    assert (await ledger(world, left))[0]["status"] == "queued"
    agent.answer = None
    async with world.platform.bus.subscribe() as stream:
        await world.beat(right)
        complete = await frame_of(stream, "DELEGATION_COMPLETE")
    assert complete.payload["via"] == "queue_drain"
    await world.settle()
    row = (await ledger(world, left))[0]
    assert (row["status"], row["response_preview"]) == ("completed", "hello")


async def test_a_polling_target_leaves_it_queued(world: World) -> None:
    _, left, right = await world.family()
    await world.register(right)
    await delegate(world, left, right.id)
    await world.settle()
    assert (await ledger(world, left))[0]["status"] == "queued"
    assert len(await world.activity(right, type="a2a_receive")) == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "invalid delegation request"),
        ({"target_id": "b"}, "invalid delegation request"),
        ({"target_id": "b", "task": ""}, "invalid delegation request"),
        ({"target_id": "NOT OK", "task": "x"}, "target_id must be a valid UUID"),
    ],
)
async def test_a_delegation_that_breaks_a_rule_is_a_400(world: World, body: dict[str, Any], error: str) -> None:
    alice = await world.create()
    answer = await world.http.post(f"/workspaces/{alice.id}/delegate", json=body, headers=alice.auth)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_delegating_to_oneself_is_refused_with_a_hint(world: World) -> None:
    alice = await world.create()
    answer = await delegate(world, alice, alice.id)
    assert (answer.status_code, answer.json()["error"]) == (400, "self-delegation not permitted")
    assert answer.json()["hint"]


async def test_an_agent_keeps_its_own_sendings_on_the_books(world: World) -> None:
    _, left, right = await world.family()
    base = f"/workspaces/{left.id}/delegations"
    body = {"target_id": right.id, "task": "cook", "delegation_id": "own-1"}
    recorded = await world.http.post(f"{base}/record", json=body, headers=left.auth)
    assert (recorded.status_code, recorded.json()) == (202, {"delegation_id": "own-1", "status": "recorded"})
    assert (await ledger(world, left))[0]["status"] == "dispatched"

    async def update(delegation_id: str, **fields: Any) -> httpx.Response:
        return await world.http.post(f"{base}/{delegation_id}/update", json=fields, headers=left.auth)

    assert (await update("own-1", status="queued")).json()["error"] == "status must be 'completed' or 'failed'"
    done = await update("own-1", status="completed", response_preview="soup")
    assert done.json() == {"status": "completed", "delegation_id": "own-1"}
    assert (await update("own-1", status="failed", error="late")).status_code == 200
    assert (await update("unknown", status="failed")).status_code == 200
    (row,) = await ledger(world, left)
    assert (row["status"], row["response_preview"]) == ("completed", "soup")


async def test_a_message_cannot_settle_somebody_elses_delegation(world: World, agent: FakeAgent) -> None:
    parent, left, _ = await world.family()
    right = await world.create("wide", parent_id=parent.id, max_concurrent_tasks=2)
    await world.register(right, agent)
    free = False

    async def answer_the_forged_one(request: Received) -> bytes | None:
        forged = request.body["params"]["message"]["messageId"] == "forged"
        return http_answer(said("forged")) if free and forged else None

    agent.answer = answer_the_forged_one
    delegation_id = (await delegate(world, left, right.id)).json()["delegation_id"]
    await world.settle()
    body = message("x", "forged", delegation_id=delegation_id)
    queued = await world.http.post(f"/workspaces/{right.id}/a2a", json=body, headers=parent.auth)
    free = True
    await world.beat(right)
    await world.settle()
    url = f"/workspaces/{right.id}/a2a/queue/{queued.json()['queue_id']}"
    assert (await world.http.get(url, headers=parent.auth)).json()["status"] == "completed"
    assert (await ledger(world, left))[0]["status"] == "queued"


async def test_what_the_caller_adds_to_the_message_is_in_it_but_for_the_platforms_own_words(
    world: World, agent: FakeAgent
) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    added = {"delegation_chain": ["ws-1", left.id], "source_workspace_id": "forged", "delegation_id": "forged"}
    started = (await delegate(world, left, right.id, metadata=added)).json()
    await world.settle()
    (request,) = agent.received
    assert request.body["params"]["message"]["metadata"] == {
        "delegation_chain": ["ws-1", left.id],
        "source_workspace_id": left.id,
        "delegation_id": started["delegation_id"],
    }
    refused = await delegate(world, left, right.id, metadata={"much": "x" * MAX_METADATA_CHARS})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("metadata: ")


async def test_what_the_caller_adds_to_the_message_outlives_a_restart(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    settings = replace(settings, stop_grace=0, delegation_retry_after=600)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        _, left, right = await world.family()
        async with fake_agent() as gone:
            await world.register(right, gone)
        await delegate(world, left, right.id, metadata={"delegation_chain": [left.id]})
        with anyio.fail_after(WAIT_SECONDS):
            # Tried once: it waits for its second time, and certainly did not arrive.
            while True:
                (row,) = await platform.store.read(delegations.interrupted)
                if row.retry_count:
                    break
                await anyio.sleep(0.01)
        path = platform.store.path
    with closing(sqlite3.connect(path)) as database, database:
        # As if the agent was back before the platform was.
        database.execute("UPDATE workspaces SET url = ? WHERE id = ?", (agent.url, right.id))
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        await World(platform, http, clock).settle()
    (request,) = agent.received
    assert request.body["params"]["message"]["metadata"]["delegation_chain"] == [left.id]


async def test_a_stop_ends_what_was_under_way_and_says_so_after_the_next_start(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    settings = replace(settings, stop_grace=0)
    arrived, never = asyncio.Event(), asyncio.Event()

    async def silent(request: Received) -> None:
        del request
        arrived.set()
        await never.wait()

    agent.answer = silent
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        _, left, right = await world.family()
        await world.register(right, agent)
        await delegate(world, left, right.id)
        with anyio.fail_after(WAIT_SECONDS):
            await arrived.wait()
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        (row,) = await ledger(World(platform, http, clock), left)
    assert (row["status"], row["error"]) == ("failed", INTERRUPTED)
    assert len(agent.received) == 1


async def test_a_stop_lets_a_turn_finish_within_the_grace_time(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Received) -> bytes:
        del request
        arrived.set()
        await go_on.wait()
        return http_answer(said("in time"))

    agent.answer = slow
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        _, left, right = await world.family()
        await world.register(right, agent)
        await delegate(world, left, right.id)
        with anyio.fail_after(WAIT_SECONDS):
            await arrived.wait()
        asyncio.get_running_loop().call_later(0.2, go_on.set)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        (row,) = await ledger(World(platform, http, clock), left)
    assert (row["status"], row["response_preview"]) == ("completed", "in time")
