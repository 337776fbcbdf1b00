"""Idempotency keys of delegations (contract 6.1)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest

from .delegating import ENDED, delegate, ended
from .site import WAIT_SECONDS, http_answer, says

if TYPE_CHECKING:
    from .site import Agent, Received, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("6.1", era="april")
async def test_the_same_key_is_the_same_delegation(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    first = (await delegate(site, caller, target, idempotency_key="k")).json()["delegation_id"]
    await ended(site, caller, first)
    answer = await delegate(site, caller, target, idempotency_key="k")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["delegation_id"], body["status"], body["target_id"]) == (first, "completed", target.id)
    assert body["idempotent_hit"] is True
    assert len(agent.received) == 1
    other = await delegate(site, caller, target, idempotency_key="another")
    assert (other.status_code, other.json()["delegation_id"] != first) == (202, True)


@pytest.mark.contract("6.1", era="april")
async def test_a_delegation_is_accepted_at_once_and_found_by_its_key_while_it_is_under_way(
    site: Site, agent: Agent
) -> None:
    caller, target = await site.pair(agent)
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Received) -> bytes:
        arrived.set()
        await release.wait()
        return http_answer(says("finished"))

    agent.answer = slow
    first = await delegate(site, caller, target, idempotency_key="k")
    assert first.status_code == 202, first.text
    with anyio.fail_after(WAIT_SECONDS):
        await arrived.wait()
    again = await delegate(site, caller, target, idempotency_key="k")
    assert again.status_code == 200, again.text
    body = again.json()
    assert (body["delegation_id"], body["idempotent_hit"]) == (first.json()["delegation_id"], True)
    assert body["status"] not in ENDED
    release.set()
    assert (await ended(site, caller, body["delegation_id"]))["response_preview"] == "finished"
    assert len(agent.received) == 1


@pytest.mark.contract("6.1", era="april")
async def test_a_key_stands_for_what_was_first_delegated_with_it(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    first = (await delegate(site, caller, target, "this", idempotency_key="k")).json()["delegation_id"]
    await ended(site, caller, first)
    again = await delegate(site, caller, target, "something else", idempotency_key="k")
    assert (again.status_code, again.json()["delegation_id"]) == (200, first)
    assert len(agent.received) == 1


@pytest.mark.contract("6.1", era="april")
async def test_a_key_counts_for_one_workspace(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    sibling = await site.create("sibling", parent_id=(await site.read(caller))["parent_id"])
    one = await delegate(site, caller, target, idempotency_key="k")
    two = await delegate(site, sibling, target, idempotency_key="k")
    assert (one.status_code, two.status_code) == (202, 202)
    assert one.json()["delegation_id"] != two.json()["delegation_id"]


@pytest.mark.contract("6.1", "28.1", era="april")
async def test_the_key_of_a_failed_delegation_may_be_used_again(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    _, stranger, _ = await site.family()
    first = (await delegate(site, caller, stranger, idempotency_key="k")).json()["delegation_id"]
    assert (await ended(site, caller, first))["status"] == "failed"
    answer = await delegate(site, caller, target, idempotency_key="k")
    second = answer.json()["delegation_id"]
    assert (answer.status_code, second != first) == (202, True)
    assert (await ended(site, caller, second))["status"] == "completed"


@pytest.mark.contract("6.1", era="april")
async def test_without_a_key_every_call_is_a_delegation_of_its_own(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    ids = {(await delegate(site, caller, target)).json()["delegation_id"] for _ in range(2)}
    assert len(ids) == 2
