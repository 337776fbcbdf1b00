"""Messages that wait for a busy workspace (contract 5.6, 24.2, 24.5)."""

from __future__ import annotations

import base64
import json
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from .site import Member, answering, http_answer, refusal, says

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Site

pytestmark = pytest.mark.anyio


async def busy_pair(site: Site, agent: Agent, **fields: Any) -> tuple[Member, Member]:
    """A sender, and a sibling of it whose agent takes nothing until it is freed."""
    sender, target = await site.pair(agent, **fields)
    agent.answer = answering(None)
    return sender, target


def free(agent: Agent) -> None:
    """Let the agent answer from now on, and forget what it did not take."""
    agent.answer = None
    agent.received.clear()


async def queue(site: Site, sender: Member, target: Member, *message_ids: str) -> list[str]:
    """Send messages to a busy workspace; returns their queue ids."""
    found: list[str] = []
    for message_id in message_ids:
        answer = await site.send(sender, target, message_id=message_id)
        assert answer.status_code == 202, answer.text
        found.append(answer.json()["queue_id"])
    return found


async def arrived(site: Site, agent: Agent, *message_ids: str) -> None:
    async def probe() -> bool:
        return len(agent.received) >= len(message_ids)

    await site.eventually(probe)
    assert agent.message_ids == list(message_ids)


async def look(site: Site, who: dict[str, str], target: Member, queue_id: str) -> httpx.Response:
    return await site.http.get(f"/workspaces/{target.id}/a2a/queue/{queue_id}", headers=who)


async def ended(site: Site, sender: Member, target: Member, queue_id: str) -> dict[str, Any]:
    """Wait until a message is not waiting any more; returns its row."""

    async def probe() -> dict[str, Any] | None:
        row: dict[str, Any] = (await look(site, sender.identity, target, queue_id)).json()
        return row if row["status"] not in {"queued", "dispatched"} else None

    row: dict[str, Any] = await site.eventually(probe)
    return row


@pytest.mark.contract("5.6", "28.1", era="april")
async def test_a_message_that_is_sent_again_while_it_waits_is_stored_once(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    first = (await site.send(sender, target, message_id="one")).json()
    again = (await site.send(sender, target, message_id="one")).json()
    assert (again["queue_id"], again["queue_depth"]) == (first["queue_id"], 1)
    other = (await site.send(sender, target, message_id="two")).json()
    assert other["queue_id"] != first["queue_id"]
    assert other["queue_depth"] == 2


@pytest.mark.contract("5.1", "5.6", era="april")
async def test_messages_without_an_id_are_all_stored(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    answers = [(await site.send(sender, target)).json() for _ in range(2)]
    assert [answer["queue_depth"] for answer in answers] == [1, 2]
    assert answers[0]["queue_id"] != answers[1]["queue_id"]


@pytest.mark.contract("5.6", era="april")
async def test_an_id_counts_for_one_target_only(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    sibling = await site.create("sibling", parent_id=(await site.read(sender))["parent_id"])
    await site.register(sibling, agent)
    (one,) = await queue(site, sender, target, "one")
    (two,) = await queue(site, sender, sibling, "one")
    assert one != two


@pytest.mark.contract("5.6", era="april")
async def test_an_id_may_be_used_again_once_its_message_was_delivered(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    (first,) = await queue(site, sender, target, "one")
    free(agent)
    await site.beat(target)
    await arrived(site, agent, "one")

    async def stored_anew() -> bool:
        agent.answer = answering(None)
        return (await queue(site, sender, target, "one")) != [first]

    # The agent has it a moment before the queue knows that it was delivered.
    await site.eventually(stored_anew)


@pytest.mark.contract("5.6", "5.5", era="april")
async def test_a_message_that_waited_keeps_its_sender(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    for who in (sender, None):
        answer = await site.send(who, target, message_id=str(uuid.uuid4()))
        assert answer.status_code == 202, answer.text
    free(agent)
    sources: list[str | None] = []
    for number in (1, 2):
        await site.beat(target)

        async def done(number: int = number) -> list[dict[str, Any]] | None:
            rows = await site.get(target, "activity", type="a2a_receive")
            over = [row for row in rows if row.get("response_body")]
            return over if len(over) >= number else None

        sources = [row["source_id"] for row in await site.eventually(done)]
    assert sources == [None, sender.id]


@pytest.mark.contract("5.6", "4.2", "28.1", era="april")
async def test_a_heartbeat_delivers_one_message_to_a_workspace_that_does_one_thing_at_a_time(
    site: Site, agent: Agent
) -> None:
    sender, target = await busy_pair(site, agent)
    await queue(site, sender, target, "one", "two", "three")
    free(agent)
    await site.beat(target)
    await arrived(site, agent, "one")

    # What is under way takes up the room of the next; the turn's row says when it is over.
    async def done(number: int) -> bool:
        rows = await site.get(target, "activity", type="a2a_receive")
        return len([row for row in rows if row.get("response_body")]) >= number

    await site.eventually(lambda: done(1))
    await site.beat(target)
    await site.eventually(lambda: done(2))
    await arrived(site, agent, "one", "two")


@pytest.mark.contract("5.6", "28.1", era="april")
async def test_nothing_is_delivered_while_the_workspace_says_that_it_is_busy(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    (first,) = await queue(site, sender, target, "one")
    free(agent)
    for _ in range(3):
        await site.beat(target, active_tasks=1)
    # Still waiting: the same message again is the same row.
    agent.answer = answering(None)
    assert (await queue(site, sender, target, "one")) == [first]
    free(agent)
    await site.beat(target, active_tasks=0)
    await arrived(site, agent, "one")


@pytest.mark.contract("24.2", era="june")
async def test_a_heartbeat_delivers_as_many_messages_as_the_workspace_has_room_for(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent, max_concurrent_tasks=3)
    queued = await queue(site, sender, target, "one", "two", "three")
    free(agent)
    await site.beat(target, active_tasks=1)
    for queue_id in queued[:2]:
        assert (await ended(site, sender, target, queue_id))["status"] == "completed"
    assert sorted(agent.message_ids) == ["one", "two"]
    assert (await look(site, sender.identity, target, queued[2])).json()["status"] == "queued"


@pytest.mark.contract("5.6", "24.5", era="june")
async def test_a_message_that_waited_is_answered_in_its_queue_row(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    (queue_id,) = await queue(site, sender, target, "one")
    row = (await look(site, sender.identity, target, queue_id)).json()
    assert row.keys() >= {"queue_id", "workspace_id", "status", "priority", "attempts", "enqueued_at"}
    assert (row["queue_id"], row["workspace_id"], row["status"]) == (queue_id, target.id, "queued")
    assert (row["priority"], row["attempts"]) == (50, 0)
    assert "response_body" not in row
    free(agent)
    said = http_answer(says("better late"))
    agent.answer = answering(said)
    await site.beat(target)
    row = await ended(site, sender, target, queue_id)
    assert row["status"] == "completed"
    assert said.endswith(base64.b64decode(row["response_body"], validate=True))
    assert json.loads(base64.b64decode(row["response_body"]))["result"]["parts"][0]["text"] == "better late"
    assert row["dispatched_at"]
    assert row["completed_at"]


@pytest.mark.contract("5.6", "24.5", era="june")
async def test_a_message_is_given_up_after_five_attempts(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    (queue_id,) = await queue(site, sender, target, "one")

    async def attempted(number: int) -> bool:
        row = (await look(site, sender.identity, target, queue_id)).json()
        return bool(row["attempts"] == number and row["status"] != "dispatched")

    for attempt in range(1, 6):
        await site.beat(target)
        await site.eventually(partial(attempted, attempt))
    row = await ended(site, sender, target, queue_id)
    assert (row["status"], row["attempts"]) == ("failed", 5)
    assert row["last_error"]


@pytest.mark.contract("24.5", era="june")
async def test_the_sender_and_the_target_see_a_queued_message_and_nobody_else_does(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    (queue_id,) = await queue(site, sender, target, "one")
    bystander = (await site.family())[1]
    sibling = await site.create("sibling", parent_id=(await site.read(sender))["parent_id"])
    for who in (sender, target):
        assert (await look(site, who.identity, target, queue_id)).status_code == 200
    assert (await look(site, site.admin, target, queue_id)).status_code == 200
    for other in (bystander, sibling):
        refusal(await look(site, other.identity, target, queue_id), 404)
    for no_such in (str(uuid.uuid4()), "nothing"):
        refusal(await look(site, sender.identity, target, no_such), 404)
    # It is looked up at one of its parties.
    refusal(await look(site, sender.identity, sibling, queue_id), 404)
    refusal(await look(site, {}, target, queue_id), 401)


@pytest.mark.contract("5.6", era="june")
async def test_messages_that_waited_too_long_are_dropped_by_the_admin(site: Site, agent: Agent) -> None:
    sender, target = await busy_pair(site, agent)
    (queue_id,) = await queue(site, sender, target, "one")

    async def drop(minutes: int) -> int:
        query: dict[str, Any] = {"max_age_minutes": minutes, "workspace_id": target.id}
        answer = await site.http.post("/admin/a2a-queue/drop-stale", params=query, headers=site.admin)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["dropped"])

    assert await drop(60) == 0
    assert await drop(0) == 1
    assert (await look(site, sender.identity, target, queue_id)).json()["status"] == "dropped"
