"""No message is lost, however often and whenever `molecule-mcp` is killed (issue 7, "Proof")."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from packages.mcp.tests.processes import Lines, lines, several
from tests.support.tenants import Member, Tenant, tenant

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

MESSAGES = 200
KILLS = 12
PATIENCE = 90.0
"""Seconds: it starts while as many others do."""

SEED = 20261126
MOMENTS = ("asked", "delivered", "popping", "popped")
"""When the server is killed: while somebody waits, before the pop, with the pop under way, and after it."""


class Agent:
    """An agent that notes what it is handed, over however many servers."""

    def __init__(self) -> None:
        self.texts: dict[str, set[str]] = {}
        self.deliveries: Counter[str] = Counter()
        self.said_again: Counter[str] = Counter()
        self.popped: set[str] = set()

    def take(self, message: dict[str, Any]) -> str:
        activity_id: str = message["activity_id"]
        self.texts.setdefault(activity_id, set()).add(f"{message['arrival_workspace_id']} {message['text']}")
        self.deliveries[activity_id] += 1
        self.said_again[activity_id] += bool(message.get("redelivered"))
        return activity_id


def said(answer: dict[str, Any]) -> dict[str, Any]:
    result = answer["result"]
    assert not result["isError"], result
    return dict(json.loads(result["content"][0]["text"]))


async def serve(process: Lines, agent: Agent, moment: str | None, after: int) -> bool:
    """Handle messages with one server until it is to be killed, after so many; False when there are none left."""
    process.patience = PATIENCE
    await process.hello()
    number = 100
    while True:
        number += 2
        if moment == "asked" and after <= 0:
            await process.call(number, "wait_for_message", timeout_secs=20)
            return True
        await process.call(number, "wait_for_message", timeout_secs=0 if len(agent.popped) == MESSAGES else 20)
        message = said(await process.answer(number))
        if message.get("timeout"):
            assert len(agent.popped) == MESSAGES, f"only {len(agent.popped)} arrived"
            return False
        activity_id = agent.take(message)
        after -= 1
        if moment == "delivered" and after <= 0:
            return True
        await process.call(number + 1, "inbox_pop", activity_id=activity_id)
        if moment == "popping" and after <= 0:
            # It may be taken out or not: when it comes again it is the same message.
            return True
        answer = said(await process.answer(number + 1))
        assert answer == {"removed": True, "activity_id": activity_id}
        agent.popped.add(activity_id)
        if moment == "popped" and after <= 0:
            return True


async def send(where: Tenant, sender: Member, to: Member, count: int) -> None:
    for number in range(count):
        await where.message(sender, to, f"message {number}")


@pytest.mark.timeout(300)
async def test_each_of_two_hundred_messages_is_handled_whenever_the_server_is_killed(tmp_path: Path) -> None:
    choice = random.Random(SEED)  # noqa: S311 - a test that can be repeated
    agent = Agent()
    moments = cycle(MOMENTS)
    killed = 0
    async with tenant(tmp_path / "acme") as acme, tenant(tmp_path / "globex") as globex:
        sides: list[tuple[Tenant, Member, Member]] = []
        for where in (acme, globex):
            lead, ours = await where.family()
            await where.register(ours)
            sides.append((where, lead, ours))
        place = several(
            tmp_path / "p",
            *({"id": ours.id, "token": ours.token, "platform_url": where.url} for where, _, ours in sides),
            MOLECULE_MCP_PUSH="off",
        )
        async with anyio.create_task_group() as group:
            for where, lead, ours in sides:
                group.start_soon(send, where, lead, ours, MESSAGES // 2)
            more = True
            while more:
                moment = next(moments) if killed < KILLS else None
                async with lines(place) as process:
                    more = await serve(process, agent, moment, choice.randint(1, MESSAGES // KILLS))
                    if more:
                        process.process.kill()
                        assert await process.end() == -9
                        killed += 1
                if not more and killed < KILLS:
                    pytest.fail(f"only {killed} kills fell between {MESSAGES} messages")
    # Each message was handled, and is one and the same under its id however often it came.
    assert all(len(texts) == 1 for texts in agent.texts.values())
    handled = Counter(text for texts in agent.texts.values() for text in texts)
    assert handled == {f"{ours.id} message {n}": 1 for _, _, ours in sides for n in range(MESSAGES // 2)}
    # What came again came because of a kill, and said so.
    again = sum(agent.deliveries.values()) - MESSAGES
    assert 1 <= again <= killed
    assert sum(agent.said_again.values()) >= again
