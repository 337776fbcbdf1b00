"""Delegations: tasks that the platform sends and keeps account of (contract 6, 24.6)."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from .site import DENIED, Member, answering, http_answer, refusal, says

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Answer, Site

pytestmark = pytest.mark.anyio

ENDED = {"completed", "failed"}


async def delegate(site: Site, caller: Member, target: Member, task: str = "work", **fields: Any) -> httpx.Response:
    body = {"target_id": target.id, "task": task, **fields}
    return await site.http.post(f"/workspaces/{caller.id}/delegate", json=body, headers=caller.auth)


async def rows_of(site: Site, caller: Member, delegation_id: str) -> list[dict[str, Any]]:
    """The rows of one delegation: one of the ledger, or (April) one of the sending and one of the result."""
    listed: list[dict[str, Any]] = await site.get(caller, "delegations")
    return [row for row in listed if row.get("delegation_id") == delegation_id]


async def ended(site: Site, caller: Member, delegation_id: str) -> dict[str, Any]:
    async def probe() -> dict[str, Any] | None:
        over = [row for row in await rows_of(site, caller, delegation_id) if row["status"] in ENDED]
        # A row with the answer's text is the one to prefer (6.2).
        return max(over, key=lambda row: bool(row.get("response_preview")), default=None)

    row: dict[str, Any] = await site.eventually(probe)
    return row


async def has_status(site: Site, caller: Member, delegation_id: str, status: str) -> bool:
    return any(row["status"] == status for row in await rows_of(site, caller, delegation_id))


def saying(text: str) -> Answer:
    return answering(http_answer(says(text)))


@pytest.mark.contract("6.1", "6.2", era="april")
async def test_a_delegation_is_accepted_and_completes_with_the_answer(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    agent.answer = saying("42")
    answer = await delegate(site, caller, target, "six times seven")
    accepted = answer.json()
    assert (answer.status_code, accepted["status"], accepted["target_id"]) == (202, "delegated", target.id)
    delegation_id = accepted["delegation_id"]
    assert str(uuid.UUID(delegation_id)) == delegation_id
    row = await ended(site, caller, delegation_id)
    assert (row["status"], row["response_preview"]) == ("completed", "42")
    assert (row["source_id"], row["target_id"]) == (caller.id, target.id)
    assert row["created_at"]
    assert not row.get("error")


@pytest.mark.contract("6.1", era="april")
async def test_the_agent_gets_the_task_as_a_message_that_names_the_delegation(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    delegation_id = (await delegate(site, caller, target, "six times seven")).json()["delegation_id"]
    await ended(site, caller, delegation_id)
    message = agent.received[0].message
    assert (message["role"], message["messageId"]) == ("user", delegation_id)
    assert message["metadata"]["delegation_id"] == delegation_id
    assert [part["text"] for part in message["parts"]] == ["six times seven"]
    assert len(agent.received) == 1


@pytest.mark.contract("6.2", "7.1", era="april")
async def test_the_whole_answer_is_in_the_activity(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    text = "a long answer " * 100
    agent.answer = saying(text)
    delegation_id = (await delegate(site, caller, target)).json()["delegation_id"]
    row = await ended(site, caller, delegation_id)
    assert len(row["response_preview"].encode()) <= 303
    assert row["response_preview"].endswith("...")
    rows = await site.get(caller, "activity", type="delegation")
    (full,) = (row for row in rows if (row.get("response_body") or {}).get("text"))
    assert full["response_body"]["text"] == text


@pytest.mark.contract("6.1", "1.2", era="april")
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"task": "x"}', b'{"target_id": 7, "task": "x"}'])
async def test_a_delegation_without_its_keys_is_refused_with_a_fixed_text(site: Site, body: bytes) -> None:
    caller = await site.create()
    answer = await site.http.post(f"/workspaces/{caller.id}/delegate", content=body, headers=caller.auth)
    refusal(answer, 400, "invalid delegation request")
    assert await site.get(caller, "delegations") == []


@pytest.mark.contract("6.1", era="april")
async def test_the_target_is_named_by_its_id(site: Site) -> None:
    caller = await site.create()
    answer = await delegate(site, caller, Member("The Helper", "", ""))
    refusal(answer, 400, "target_id must be a valid UUID")


@pytest.mark.contract("6.1", "23.15", era="april")
async def test_nobody_delegates_to_itself(site: Site) -> None:
    caller = await site.create()
    refusal(await delegate(site, caller, caller), 400, "self-delegation not permitted")
    assert await site.get(caller, "delegations") == []


@pytest.mark.contract("24.6", era="june")
async def test_a_delegation_to_oneself_is_refused_with_a_reason_that_ends_retries(site: Site) -> None:
    caller = await site.create()
    body = refusal(await delegate(site, caller, caller), 400)
    assert body["reason"]
    assert body["hint"]


@pytest.mark.contract("6.1", "28.1", era="april")
async def test_a_target_that_may_not_be_asked_shows_up_as_a_failure_later(site: Site, agent: Agent) -> None:
    caller, _ = await site.pair(agent)
    _, stranger, _ = await site.family()
    answer = await delegate(site, caller, stranger)
    assert answer.status_code == 202, answer.text
    row = await ended(site, caller, answer.json()["delegation_id"])
    assert row["status"] == "failed"
    assert row["error"] == DENIED


@pytest.mark.contract("6.1", era="april")
async def test_a_target_that_is_not_there_shows_up_as_a_failure_later(site: Site) -> None:
    caller = await site.create()
    answer = await delegate(site, caller, Member(str(uuid.uuid4()), "", ""))
    assert answer.status_code == 202, answer.text
    assert (await ended(site, caller, answer.json()["delegation_id"]))["status"] == "failed"


@pytest.mark.contract("6.1", era="april")
async def test_an_agents_refusal_fails_the_delegation(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    agent.answer = answering(http_answer({"error": "out of ideas"}, 500))
    delegation_id = (await delegate(site, caller, target)).json()["delegation_id"]
    row = await ended(site, caller, delegation_id)
    assert row["status"] == "failed"
    assert "out of ideas" in row["error"]


@pytest.mark.contract("24.6", era="june")
async def test_an_answer_without_a_body_fails_the_delegation(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    agent.answer = answering(http_answer(b""))
    delegation_id = (await delegate(site, caller, target)).json()["delegation_id"]
    row = await ended(site, caller, delegation_id)
    assert (row["status"], row["error"]) == ("failed", "workspace agent returned empty response")


@pytest.mark.contract("6.1", "28.1", era="april")
async def test_an_agent_that_nobody_reaches_is_tried_once_more(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://{site.server.agent_host}:{unused.getsockname()[1]}/"
        await site.register(target, agent, url=url)
        delegation_id = (await delegate(site, caller, target)).json()["delegation_id"]
        # 8 s between the two attempts.
        with anyio.fail_after(60):
            row = await ended(site, caller, delegation_id)
    assert (row["status"], row["error"]) == ("failed", "failed to reach workspace agent")


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


@pytest.mark.contract("5.6", "6.1", "26.4", era="april")
async def test_a_busy_peer_answers_a_delegation_with_its_next_heartbeat(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    agent.answer = answering(None)
    delegation_id = (await delegate(site, caller, target)).json()["delegation_id"]
    await site.eventually(lambda: has_status(site, caller, delegation_id, "queued"))
    agent.answer = saying("at last")
    await site.beat(target)
    row = await ended(site, caller, delegation_id)
    assert (row["status"], row["response_preview"]) == ("completed", "at last")


@pytest.mark.contract("24.3", "24.6", era="june")
async def test_a_delegation_to_a_polling_workspace_waits_in_its_inbox(site: Site) -> None:
    _, caller, target = await site.family()
    await site.register(target)
    delegation_id = (await delegate(site, caller, target, "look it up")).json()["delegation_id"]
    await site.eventually(lambda: has_status(site, caller, delegation_id, "queued"))
    (row,) = await site.get(target, "activity", type="a2a_receive")
    assert row["request_body"]["params"]["message"]["metadata"]["delegation_id"] == delegation_id


@pytest.mark.contract("6.3", era="april")
async def test_an_agent_records_and_closes_a_delegation_of_its_own(site: Site) -> None:
    _, caller, target = await site.family()
    delegation_id = str(uuid.uuid4())
    body = {"target_id": target.id, "task": "by myself", "delegation_id": delegation_id}
    recorded = await site.post(caller, "delegations/record", body, status=202)
    assert recorded == {"delegation_id": delegation_id, "status": "recorded"}
    (row,) = await rows_of(site, caller, delegation_id)
    assert (row["status"], row["target_id"]) == ("dispatched", target.id)
    path = f"delegations/{delegation_id}/update"
    closed = await site.post(caller, path, {"status": "completed", "response_preview": "done"})
    assert (closed["status"], closed["delegation_id"]) == ("completed", delegation_id)
    assert await has_status(site, caller, delegation_id, "completed")


@pytest.mark.contract("6.3", era="april")
async def test_an_agent_reports_that_its_delegation_failed(site: Site) -> None:
    _, caller, target = await site.family()
    delegation_id = str(uuid.uuid4())
    body = {"target_id": target.id, "task": "by myself", "delegation_id": delegation_id}
    await site.post(caller, "delegations/record", body, status=202)
    await site.post(caller, f"delegations/{delegation_id}/update", {"status": "failed", "error": "no luck"})
    assert await has_status(site, caller, delegation_id, "failed")


@pytest.mark.contract("6.3", era="april")
@pytest.mark.parametrize("status", ["queued", "in_progress", "dispatched", "", "Completed"])
async def test_only_an_end_is_reported(site: Site, status: str) -> None:
    caller = await site.create()
    path = f"/workspaces/{caller.id}/delegations/{uuid.uuid4()}/update"
    answer = await site.http.post(path, json={"status": status}, headers=caller.auth)
    refusal(answer, 400, "status must be 'completed' or 'failed'")


@pytest.mark.contract("6.3", era="april")
async def test_the_end_of_a_delegation_that_nobody_knows_is_taken_and_changes_nothing(site: Site) -> None:
    caller = await site.create()
    await site.post(caller, f"delegations/{uuid.uuid4()}/update", {"status": "completed"})
    assert [row for row in await site.get(caller, "delegations") if row["status"] != "completed"] == []


@pytest.mark.contract("6.3", "6.1", era="april")
async def test_what_is_recorded_names_its_target_and_its_task(site: Site) -> None:
    caller = await site.create()
    path = f"/workspaces/{caller.id}/delegations/record"
    for body in (
        {},
        {"task": "x", "delegation_id": "y"},
        {"target_id": "The Helper", "task": "x", "delegation_id": "y"},
    ):
        refusal(await site.http.post(path, json=body, headers=caller.auth), 400)


@pytest.mark.contract("6.2", era="april")
async def test_the_newest_fifty_delegations_are_listed(site: Site) -> None:
    _, caller, target = await site.family()
    ids = [str(uuid.uuid4()) for _ in range(52)]
    for delegation_id in ids:
        body = {"target_id": target.id, "task": "t", "delegation_id": delegation_id}
        await site.post(caller, "delegations/record", body, status=202)
    listed = [row["delegation_id"] for row in await site.get(caller, "delegations")]
    assert listed == ids[: -len(listed) - 1 : -1]
    assert len(listed) == 50


@pytest.mark.contract("24.6", era="june")
async def test_the_ledger_has_one_row_for_each_delegation(site: Site, agent: Agent) -> None:
    caller, target = await site.pair(agent)
    delegation_id = (await delegate(site, caller, target, "t" * 500)).json()["delegation_id"]
    await ended(site, caller, delegation_id)
    (row,) = await rows_of(site, caller, delegation_id)
    assert row.keys() >= {
        "delegation_id", "source_id", "target_id", "summary", "status", "created_at", "updated_at", "_ledger",
    }  # fmt: skip
    assert row["_ledger"] is True
    assert len(row["summary"]) <= 200
    assert not row.keys() & {"id", "type"}
