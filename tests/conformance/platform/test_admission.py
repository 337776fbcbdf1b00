"""Who may send a message, and what is checked before it is passed on (contract 5.1, 5.2)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from .site import DENIED, MIB, Member, envelope, refusal

if TYPE_CHECKING:
    from .site import Agent, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("5.1", "1.5", "28.1", era="april")
async def test_a_sender_proves_who_it_is(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    path = f"/workspaces/{target.id}/a2a"
    claimed = {"X-Workspace-ID": sender.id}
    answer = await site.http.post(path, json=envelope(), headers=claimed)
    refusal(answer, 401, "missing caller auth token")
    for token in (target.token, "no-such-token"):
        answer = await site.http.post(path, json=envelope(), headers={**claimed, "Authorization": f"Bearer {token}"})
        refusal(answer, 401, "invalid caller auth token")
    assert agent.received == []


@pytest.mark.contract("24.5", era="june")
async def test_a_message_of_nobody_is_refused(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    refusal(await site.http.post(f"/workspaces/{target.id}/a2a", json=envelope()), 401)
    answer = await site.http.post(
        f"/workspaces/{target.id}/a2a", json=envelope(), headers={"Authorization": "Bearer x"}
    )
    refusal(answer, 401)
    assert agent.received == []


@pytest.mark.contract("24.5", era="june")
async def test_the_bearer_says_who_sends_and_a_claim_that_disagrees_is_refused(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    path = f"/workspaces/{target.id}/a2a"
    assert (await site.http.post(path, json=envelope("by token"), headers=sender.auth)).status_code == 200
    assert (await site.inbox(target))[0]["source_id"] == sender.id
    for claim in (target.id, str(uuid.uuid4())):
        headers = {**sender.auth, "X-Workspace-ID": claim}
        answer = await site.http.post(path, json=envelope(), headers=headers)
        assert answer.status_code in {401, 403}, answer.text
    assert len(agent.received) == 1


@pytest.mark.contract("5.1", era="april")
@pytest.mark.parametrize("caller", ["webhook:x", "system:cron", "test:", "channel:slack"])
async def test_ids_of_the_platform_itself_cannot_be_claimed(site: Site, agent: Agent, caller: str) -> None:
    sender, target = await site.pair(agent)
    headers = {**sender.auth, "X-Workspace-ID": caller}
    answer = await site.http.post(f"/workspaces/{target.id}/a2a", json=envelope(), headers=headers)
    refusal(answer, 403, "invalid caller ID")


@pytest.mark.contract("5.2", "2.1", era="april")
async def test_strangers_are_refused(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    _, stranger, _ = await site.family()
    refusal(await site.send(stranger, target), 403, DENIED)
    assert agent.received == []


@pytest.mark.contract("2.1", "24.11", era="june")
async def test_two_roots_do_not_write_to_each_other(site: Site, agent: Agent) -> None:
    one, two = await site.create("one"), await site.create("two")
    await site.register(two, agent)
    refusal(await site.send(one, two), 403, DENIED)


@pytest.mark.contract("5.2", "13.1", "28.1", era="april")
async def test_a_workspace_that_has_spent_its_budget_takes_no_messages(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent, budget_limit=100)
    await site.beat(target, monthly_spend=99)
    assert (await site.send(sender, target)).status_code == 200
    await site.beat(target, monthly_spend=100)
    refusal(await site.send(sender, target), 402, "workspace budget limit exceeded")
    refusal(await site.send(None, target), 402, "workspace budget limit exceeded")
    assert len(agent.received) == 1


@pytest.mark.contract("24.5", era="june")
async def test_a_spent_budget_names_its_periods(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent, budget_limit=1)
    await site.beat(target, monthly_spend=2)
    assert refusal(await site.send(sender, target), 402)["exceeded_periods"]


@pytest.mark.contract("5.2", era="april")
async def test_the_checks_come_in_their_order(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent, budget_limit=1)
    await site.beat(target, monthly_spend=2)
    _, stranger, _ = await site.family()
    # Each of these is wrong in every later way, too.
    refusal(await site.post_message(stranger, target, b"{"), 403, DENIED)
    refusal(await site.post_message(sender, target, b"{"), 402)
    unknown = Member(str(uuid.uuid4()), "", "")
    refusal(await site.post_message(None, unknown, b"{"), 404, "workspace not found")


@pytest.mark.contract("5.2", "1.5", era="june")
async def test_who_asks_is_checked_before_what_is_sent(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    refusal(await site.http.post(f"/workspaces/{target.id}/a2a", content=b"{"), 401, "missing caller auth token")


@pytest.mark.contract("5.2", era="april")
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"a": }', b"{} {}"])
async def test_what_is_not_json_is_refused(site: Site, agent: Agent, body: bytes) -> None:
    sender, target = await site.pair(agent)
    refusal(await site.post_message(sender, target, body), 400, "invalid JSON")
    assert agent.received == []


@pytest.mark.contract("5.1", "5.2", era="june")
@pytest.mark.parametrize("body", [b"[]", b"7", b'"text"', b"null"])
async def test_what_is_no_object_is_refused(site: Site, agent: Agent, body: bytes) -> None:
    sender, target = await site.pair(agent)
    refusal(await site.post_message(sender, target, body), 400, "invalid JSON")
    assert agent.received == []


@pytest.mark.contract("5.2", era="april")
async def test_a_workspace_that_is_alive_but_has_no_url_takes_no_messages(site: Site) -> None:
    _, sender, target = await site.family()
    await site.beat(target)
    body = refusal(await site.send(sender, target), 503, "workspace has no URL")
    assert body["status"] == "online"


@pytest.mark.contract("5.2", "14.5", "20.2", era="april")
async def test_a_url_that_must_not_be_called_is_not_called(site: Site) -> None:
    # A URL that comes with the creation is stored as it is.
    target = await site.create(url="http://169.254.169.254/")
    refusal(await site.send(None, target), 502, "workspace URL is not publicly routable")


@pytest.mark.contract("5.2", "24.11", era="june")
async def test_a_removed_workspace_takes_no_messages(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    await site.http.delete(f"/workspaces/{target.id}", params={"confirm": "true"}, headers=site.admin)
    answer = await site.send(None, target)
    refusal(answer, answer.status_code)
    assert answer.status_code in {404, 410}
    assert agent.received == []


@pytest.mark.contract("5.1", "21", era="april")
async def test_a_message_of_almost_a_mebibyte_is_delivered(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    text = "x" * (MIB - 2048)
    assert (await site.send(sender, target, text)).status_code == 200
    assert agent.received[0].message["parts"][0]["text"] == text


@pytest.mark.contract("24.5", "21", era="june")
async def test_a_message_that_is_too_large_is_refused_with_the_limit(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    body = refusal(await site.send(sender, target, "x" * MIB), 413)
    assert (body["truncated"], body["max_bytes"]) == (True, MIB)
    assert agent.received == []
    assert (await site.send(sender, target)).status_code == 200
