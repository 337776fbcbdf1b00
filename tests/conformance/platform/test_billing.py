"""Budgets, usage and figures (contract 3.2, 5.2, 5.5, 7.5, 13.1)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from .site import http_answer, refusal, says

if TYPE_CHECKING:
    from .site import Agent, Member, Received, Site

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"
MILLION = 1_000_000

_SAMPLE = re.compile(
    r"[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^}]*\})? [-+0-9.eE]+|[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^}]*\})? (NaN|[+-]Inf)"
)


async def limit(site: Site, member: Member, cents: int | None) -> dict[str, Any]:
    answer = await site.http.patch(f"/workspaces/{member.id}/budget", json={"budget_limit": cents}, headers=site.admin)
    assert answer.status_code == 200, answer.text
    return cast("dict[str, Any]", answer.json())


@pytest.mark.contract("13.1", "4.2", era="april")
async def test_a_budget_is_set_by_the_admin_and_read_by_the_workspace(site: Site) -> None:
    alice = await site.create("alice")
    none = {"budget_limit": None, "monthly_spend": 0, "budget_remaining": None}
    assert (await site.get(alice, "budget")).items() >= none.items()
    assert (await limit(site, alice, 500)).items() >= {"budget_limit": 500, "budget_remaining": 500}.items()
    await site.beat(alice, monthly_spend=120)
    spent = {"budget_limit": 500, "monthly_spend": 120, "budget_remaining": 380}
    assert (await site.get(alice, "budget")).items() >= spent.items()
    assert (await limit(site, alice, None)).items() >= {**spent, "budget_limit": None, "budget_remaining": None}.items()


@pytest.mark.contract("13.1", "5.2", "28.1", era="april")
async def test_a_workspace_that_spent_its_budget_gets_no_messages(site: Site, agent: Agent) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)
    await limit(site, alice, 100)
    for spend in (100, 150):
        await site.beat(alice, monthly_spend=spend)
        for sender in (bob, None):
            refusal(await site.send(sender, alice), 402, "workspace budget limit exceeded")
    assert agent.received == []


@pytest.mark.contract("13.1", "5.2", era="june")
async def test_a_workspace_within_its_budget_gets_messages(site: Site, agent: Agent) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)
    await limit(site, alice, 100)
    await site.beat(alice, monthly_spend=99)
    assert (await site.send(bob, alice)).status_code == 200
    await site.beat(alice, monthly_spend=100)
    refusal(await site.send(bob, alice), 402)
    await limit(site, alice, None)
    assert (await site.send(bob, alice)).status_code == 200
    # Its own spend stops nobody from talking to others.
    await limit(site, bob, 0)
    assert (await site.send(bob, alice)).status_code == 200
    assert len(agent.received) == 3


@pytest.mark.contract("13.1", era="june")
@pytest.mark.parametrize(
    "body", [{}, {"budget_limit": "5"}, {"budget_limit": -1}, {"budget_limit": 1.5}, {"budget_limit": True}, [], 5]
)
async def test_a_budget_is_a_whole_number_of_cents_or_null(site: Site, body: object) -> None:
    alice = await site.create("alice")
    await limit(site, alice, 500)
    answer = await site.http.patch(f"/workspaces/{alice.id}/budget", json=body, headers=site.admin)
    refusal(answer, 400)
    assert (await site.get(alice, "budget"))["budget_limit"] == 500


@pytest.mark.contract("13.1", "1.5", era="june")
async def test_a_workspace_does_not_set_its_own_budget(site: Site) -> None:
    _, alice, bob = await site.family()
    path, body = f"/workspaces/{alice.id}/budget", {"budget_limit": 10**6}
    refusal(await site.http.patch(path, json=body, headers=alice.auth), 401, "invalid admin auth token")
    refusal(await site.http.patch(path, json=body), 401, "admin auth required")
    refusal(await site.http.get(path, headers=bob.auth), 401, "invalid workspace auth token")
    refusal(await site.http.get(path), 401, "missing workspace auth token")
    refusal(await site.http.patch(f"/workspaces/{NOBODY}/budget", json=body, headers=site.admin), 404)
    assert (await site.get(alice, "budget"))["budget_limit"] is None


@pytest.mark.contract("4.2", "13.1", era="april")
async def test_a_heartbeat_without_spend_leaves_what_was_reported(site: Site) -> None:
    alice = await site.create("alice")
    await site.beat(alice, monthly_spend=70)
    await site.beat(alice)
    await site.beat(alice, monthly_spend=0)
    assert (await site.get(alice, "budget"))["monthly_spend"] == 70


@pytest.mark.contract("7.5", "5.5", era="april")
async def test_usage_that_an_answer_states_is_counted(site: Site, agent: Agent) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)

    async def with_usage(request: Received) -> bytes:
        text = request.message["parts"][0]["text"]
        if text == "in the result":
            return http_answer(says("one", usage={"input_tokens": 1000, "output_tokens": 200}))
        if text == "beside it":
            return http_answer({**says("two"), "usage": {"input_tokens": 500, "output_tokens": 100}})
        if text == "a great deal":
            return http_answer(says("three", usage={"input_tokens": 10**12, "output_tokens": 10**12}))
        return http_answer(says("nothing to state"))

    agent.answer = with_usage
    assert (await site.get(alice, "metrics"))["total_calls"] == 0
    for text in ("in the result", "beside it", "not at all"):
        assert (await site.send(bob, alice, text)).status_code == 200
    used = await site.get(alice, "metrics")
    assert (used["input_tokens"], used["output_tokens"]) == (1500, 300)
    assert used["estimated_cost_usd"] == "0.009000"  # 3 and 15 USD for a million
    begin, end = (datetime.fromisoformat(used[key]) for key in ("period_start", "period_end"))
    assert (end - begin, begin.hour, begin.minute) == (timedelta(days=1), 0, 0)
    assert (await site.send(bob, alice, "a great deal")).status_code == 200
    used = await site.get(alice, "metrics")
    assert (used["input_tokens"], used["output_tokens"]) == (1500 + 10 * MILLION, 300 + 10 * MILLION)
    assert (await site.get(bob, "metrics"))["input_tokens"] == 0


@pytest.mark.contract("7.5", "5.5", era="june")
@pytest.mark.parametrize(
    "usage",
    [None, 7, "many", [], {"input_tokens": -5}, {"input_tokens": "7", "output_tokens": 1.5}, {"input_tokens": True}],
)
async def test_usage_that_makes_no_sense_counts_as_nothing(site: Site, agent: Agent, usage: object) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)

    async def answer(request: Received) -> bytes:
        del request
        return http_answer(says("hello", usage=usage))

    agent.answer = answer
    assert (await site.send(bob, alice)).status_code == 200
    used = await site.get(alice, "metrics")
    assert (used["input_tokens"], used["output_tokens"], used["estimated_cost_usd"]) == (0, 0, "0.000000")


@pytest.mark.contract("7.5", "1.5", era="june")
async def test_usage_is_for_the_workspace_itself(site: Site) -> None:
    _, alice, bob = await site.family()
    path = f"/workspaces/{alice.id}/metrics"
    refusal(await site.http.get(path), 401, "missing workspace auth token")
    refusal(await site.http.get(path, headers=bob.auth), 401, "invalid workspace auth token")
    refusal(await site.http.get(f"/workspaces/{NOBODY}/metrics", headers=site.admin), 404, "workspace not found")


@pytest.mark.contract("3.2", era="april")
async def test_figures_are_given_in_the_text_format_of_prometheus(site: Site) -> None:
    alice = await site.create("alice")
    answer = await site.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.endswith("\n")
    samples = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    assert samples
    assert [line for line in samples if not _SAMPLE.fullmatch(line)] == []
    assert alice.name not in answer.text
