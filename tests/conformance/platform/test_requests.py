"""Requests of agents to the person and to each other (contract 24.8)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .site import refusal

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Member, Site

pytestmark = pytest.mark.anyio

ROW = {
    "id",
    "kind",
    "requester_type",
    "requester_id",
    "org_id",
    "recipient_type",
    "recipient_id",
    "title",
    "detail",
    "status",
    "responder_type",
    "responder_id",
    "priority",
    "created_at",
    "updated_at",
    "responded_at",
}
NOBODY = "00000000-0000-4000-8000-000000000000"


async def ask(site: Site, member: Member, **fields: Any) -> str:
    """Ask the person, unless the fields say otherwise."""
    body = {"kind": "task", "recipient_type": "user", "title": "water the plants", **fields}
    made = await site.post(member, "requests", body, status=201)
    assert made["status"] == "pending"
    return str(made["request_id"])


async def ask_agent(site: Site, member: Member, recipient: Member, **fields: Any) -> str:
    return await ask(site, member, recipient_type="agent", recipient_id=recipient.id, **fields)


async def respond(site: Site, member: Member, request_id: str, action: str, **fields: Any) -> httpx.Response:
    """Respond as the agent."""
    body = {"action": action, "responder_type": "agent", "responder_id": member.id, **fields}
    path = f"/workspaces/{member.id}/requests/{request_id}/respond"
    return await site.http.post(path, json=body, headers=member.auth)


async def decide(site: Site, request_id: str, action: str) -> httpx.Response:
    """Respond as the person."""
    body = {"action": action, "responder_type": "user"}
    return await site.http.post(f"/requests/{request_id}/respond", json=body, headers=site.admin)


async def say(site: Site, member: Member, request_id: str, text: str) -> str:
    body = {"body": text, "author_type": "agent", "author_id": member.id}
    made = await site.post(member, f"requests/{request_id}/messages", body, status=201)
    assert (made["status"], made["request_id"]) == ("created", request_id)
    return str(made["message_id"])


async def read(site: Site, member: Member, request_id: str) -> dict[str, Any]:
    detail = await site.get(member, f"requests/{request_id}")
    row: dict[str, Any] = detail["request"]
    return {**row, "messages": detail["messages"]}


@pytest.mark.contract("24.8", "24.3", era="june")
async def test_a_request_to_the_person_is_answered_and_the_agent_hears_of_it(site: Site) -> None:
    alice = await site.create("alice")
    await site.register(alice)
    request_id = await ask(site, alice, kind="approval", title="spend 5 EUR", detail="for seeds", priority=3)
    (row,) = await site.get(alice, "requests")
    assert row.keys() >= ROW
    expected = {
        "id": request_id,
        "kind": "approval",
        "requester_type": "agent",
        "requester_id": alice.id,
        "recipient_type": "user",
        "recipient_id": "",
        "title": "spend 5 EUR",
        "detail": "for seeds",
        "status": "pending",
        "responder_type": None,
        "responder_id": None,
        "priority": 3,
        "responded_at": None,
    }
    assert {key: row[key] for key in expected} == expected
    waiting = await site.http.get("/requests/pending", headers=site.admin)
    assert request_id in [row["id"] for row in waiting.json()]
    answer = await decide(site, request_id, "approved")
    assert (answer.status_code, answer.json()) == (200, {"status": "approved", "request_id": request_id})
    seen = await read(site, alice, request_id)
    assert (seen["status"], seen["responder_type"], seen["messages"]) == ("approved", "user", [])
    assert seen["responded_at"] is not None
    waiting = await site.http.get("/requests/pending", headers=site.admin)
    assert request_id not in [row["id"] for row in waiting.json()]
    (heard,) = await site.get(alice, "activity", type="a2a_receive")
    assert heard["method"] == "message/send"
    text = str(heard["request_body"]["params"]["message"]["parts"])
    assert request_id in text
    assert "approved" in text


@pytest.mark.contract("24.8", era="june")
async def test_an_agent_with_a_url_hears_of_the_outcome_as_a_turn(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)
    request_id = await ask(site, alice)
    assert (await decide(site, request_id, "done")).status_code == 200

    async def heard() -> bool:
        await site.beat(alice, active_tasks=0)
        return bool(agent.received)

    await site.eventually(heard)
    (turn,) = agent.received
    assert turn.body["method"] == "message/send"
    assert request_id in str(turn.message["parts"])
    assert "done" in str(turn.message["parts"])


@pytest.mark.contract("24.8", era="june")
async def test_a_request_to_another_agent_is_in_its_inbox_and_answered_by_it(site: Site) -> None:
    _, left, right = await site.family()
    await site.register(left)
    request_id = await ask_agent(site, left, right, title="count to ten")
    (row,) = await site.get(right, "requests/inbox")
    assert row.keys() >= ROW
    assert (row["id"], row["requester_id"], row["recipient_type"]) == (request_id, left.id, "agent")
    assert (row["recipient_id"], row["status"]) == (right.id, "pending")
    assert await site.get(right, "requests") == []
    assert await site.get(left, "requests/inbox") == []
    assert (await read(site, right, request_id))["title"] == "count to ten"
    answer = await respond(site, right, request_id, "done")
    assert (answer.status_code, answer.json()) == (200, {"status": "done", "request_id": request_id})
    seen = await read(site, left, request_id)
    assert (seen["status"], seen["responder_type"], seen["responder_id"]) == ("done", "agent", right.id)
    (heard,) = await site.get(left, "activity", type="a2a_receive")
    assert request_id in str(heard["request_body"])


@pytest.mark.contract("24.8", era="june")
async def test_requests_between_agents_are_not_among_those_that_wait_for_the_person(site: Site) -> None:
    _, left, right = await site.family()
    between = await ask_agent(site, left, right)
    task, approval = await ask(site, left), await ask(site, left, kind="approval")
    for query, expected in (("", {task, approval}), ("?kind=task", {task}), ("?kind=approval", {approval})):
        answer = await site.http.get(f"/requests/pending{query}", headers=site.admin)
        assert answer.status_code == 200
        assert {row["id"] for row in answer.json()} & {between, task, approval} == expected
    for row in (await site.http.get("/requests/pending", headers=site.admin)).json():
        if row["id"] in {task, approval}:
            assert (row["requester_id"], row["workspace_name"]) == (left.id, left.name)


@pytest.mark.contract("24.8", era="june")
async def test_a_question_makes_a_request_wait_until_its_requester_answers(site: Site) -> None:
    _, left, right = await site.family()
    request_id = await ask_agent(site, left, right)
    question = await say(site, right, request_id, "which plants?")
    seen = await read(site, left, request_id)
    assert seen["status"] == "info_requested"
    (message,) = seen["messages"]
    assert message.keys() >= {"id", "request_id", "author_type", "author_id", "body", "created_at"}
    assert (message["id"], message["author_type"], message["author_id"]) == (question, "agent", right.id)
    assert (message["request_id"], message["body"]) == (request_id, "which plants?")
    assert [row["id"] for row in await site.get(left, "requests", status="info_requested")] == [request_id]
    assert await site.get(left, "requests", status="pending") == []
    await say(site, left, request_id, "the ferns")
    assert [message["body"] for message in (await read(site, right, request_id))["messages"]] == [
        "which plants?",
        "the ferns",
    ]
    assert (await respond(site, right, request_id, "done")).status_code == 200


@pytest.mark.contract("24.8", era="june")
async def test_what_its_requester_adds_does_not_make_a_request_wait(site: Site) -> None:
    alice = await site.create("alice")
    request_id = await ask(site, alice)
    await say(site, alice, request_id, "it is urgent")
    assert (await read(site, alice, request_id))["status"] == "pending"


@pytest.mark.contract("24.8", era="june")
async def test_the_person_asks_back_and_still_answers(site: Site) -> None:
    alice = await site.create("alice")
    request_id = await ask(site, alice)
    body = {"body": "which ones?", "author_type": "user"}
    answer = await site.http.post(f"/requests/{request_id}/messages", json=body, headers=site.admin)
    assert answer.status_code == 201
    seen = await read(site, alice, request_id)
    assert (seen["status"], seen["messages"][0]["author_type"]) == ("info_requested", "user")
    waiting = await site.http.get("/requests/pending", headers=site.admin)
    assert request_id in [row["id"] for row in waiting.json()]
    detail = await site.http.get(f"/requests/{request_id}", headers=site.admin)
    assert [message["body"] for message in detail.json()["messages"]] == ["which ones?"]
    assert (await decide(site, request_id, "rejected")).status_code == 200
    assert (await read(site, alice, request_id))["status"] == "rejected"


@pytest.mark.contract("24.8", era="june")
async def test_a_cancelled_request_cannot_be_answered(site: Site) -> None:
    _, left, right = await site.family()
    request_id = await ask_agent(site, left, right)
    cancelled = await site.post(left, f"requests/{request_id}/cancel")
    assert cancelled == {"status": "cancelled", "request_id": request_id}
    assert (await read(site, right, request_id))["status"] == "cancelled"
    refusal(await respond(site, right, request_id, "done"), 404, "request not found or already resolved")
    again = await site.http.post(f"/workspaces/{left.id}/requests/{request_id}/cancel", headers=left.auth)
    refusal(again, 404)
    mine = await ask(site, left)
    answer = await site.http.post(f"/requests/{mine}/cancel", headers=site.admin)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    refusal(await decide(site, mine, "done"), 404, "request not found or already resolved")


@pytest.mark.contract("24.8", era="june")
@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [("task", ["approved"], ["done", "rejected"]), ("approval", ["done"], ["approved", "rejected"])],
)
async def test_each_kind_has_its_own_outcomes(site: Site, kind: str, wrong: list[str], right: list[str]) -> None:
    alice = await site.create("alice")
    for action in right:
        request_id = await ask(site, alice, kind=kind)
        for other in [*wrong, "denied", "pending", "info_requested", "cancelled", "", "DONE"]:
            refusal(await decide(site, request_id, other), 400)
        assert (await read(site, alice, request_id))["status"] == "pending"
        answer = await decide(site, request_id, action)
        assert (answer.status_code, answer.json()["status"]) == (200, action)
        refusal(await decide(site, request_id, action), 404, "request not found or already resolved")


@pytest.mark.contract("24.8", era="june")
async def test_nobody_answers_their_own_request(site: Site) -> None:
    _, left, right = await site.family()
    for request_id in (await ask(site, left), await ask_agent(site, left, right)):
        assert (await respond(site, left, request_id, "done")).status_code in {400, 403}
        assert (await read(site, left, request_id))["status"] == "pending"


@pytest.mark.contract("24.8", "ours", era="june")
async def test_who_responds_is_the_bearer_and_not_what_the_body_claims(site: Site) -> None:
    parent, left, right = await site.family()
    request_id = await ask_agent(site, left, right)
    # The requester cannot answer itself under another name, nor as the person.
    for claim in ({"responder_type": "user"}, {"responder_id": right.id}, {"responder_id": ""}):
        refusal(await respond(site, left, request_id, "done", **claim), 403)
    # Somebody who has no part in it does not even see it.
    refusal(await respond(site, parent, request_id, "done", responder_id=right.id), 404)
    assert (await respond(site, right, request_id, "done", responder_type="user")).status_code == 200
    seen = await read(site, left, request_id)
    assert (seen["responder_type"], seen["responder_id"]) == ("agent", right.id)


@pytest.mark.contract("24.8", "ours", era="june")
async def test_who_writes_a_message_is_the_bearer_too(site: Site) -> None:
    alice = await site.create("alice")
    request_id = await ask(site, alice)
    body = {"body": "yes, do it", "author_type": "user", "author_id": "the boss"}
    await site.post(alice, f"requests/{request_id}/messages", body, status=201)
    seen = await read(site, alice, request_id)
    (message,) = seen["messages"]
    assert (message["author_type"], message["author_id"], seen["status"]) == ("agent", alice.id, "pending")


@pytest.mark.contract("24.8", era="june")
async def test_others_neither_see_nor_touch_a_request(site: Site) -> None:
    parent, left, right = await site.family()
    request_id = await ask_agent(site, left, right)
    message = {"body": "hello", "author_type": "agent", "author_id": parent.id}
    base = f"/workspaces/{parent.id}/requests/{request_id}"
    refusal(await site.http.get(base, headers=parent.auth), 404)
    refusal(await site.http.post(f"{base}/messages", json=message, headers=parent.auth), 404)
    refusal(await site.http.post(f"{base}/cancel", headers=parent.auth), 404)
    refusal(await respond(site, parent, request_id, "rejected"), 404)
    assert (await read(site, left, request_id))["status"] == "pending"


@pytest.mark.contract("24.8", "ours", era="june")
async def test_only_its_requester_and_the_person_take_a_request_back(site: Site) -> None:
    _, left, right = await site.family()
    request_id = await ask_agent(site, left, right)
    answer = await site.http.post(f"/workspaces/{right.id}/requests/{request_id}/cancel", headers=right.auth)
    refusal(answer, 403)
    assert (await read(site, left, request_id))["status"] == "pending"


@pytest.mark.contract("24.8", "1.5", era="june")
async def test_requests_need_the_agents_own_token_and_the_persons_routes_the_admins(site: Site) -> None:
    _, left, right = await site.family()
    request_id = await ask_agent(site, left, right)
    for path in ("requests", "requests/inbox", f"requests/{request_id}"):
        url = f"/workspaces/{left.id}/{path}"
        refusal(await site.http.get(url), 401, "missing workspace auth token")
        refusal(await site.http.get(url, headers=right.auth), 401, "invalid workspace auth token")
    body = {"kind": "task", "recipient_type": "user", "title": "x"}
    refusal(await site.http.post(f"/workspaces/{left.id}/requests", json=body, headers=right.auth), 401)
    for path in ("/requests/pending", f"/requests/{request_id}"):
        refusal(await site.http.get(path), 401, "admin auth required")
        refusal(await site.http.get(path, headers=left.auth), 401, "invalid admin auth token")
    refusal(await site.http.post(f"/requests/{request_id}/respond", json={"action": "done"}, headers=left.auth), 401)
    refusal(await site.http.post(f"/requests/{request_id}/cancel", headers=left.auth), 401)


@pytest.mark.contract("24.8", era="june")
async def test_a_request_that_is_not_there_is_a_404(site: Site) -> None:
    alice = await site.create("alice")
    for request_id in (NOBODY, str(uuid.uuid4())):
        refusal(await site.http.get(f"/workspaces/{alice.id}/requests/{request_id}", headers=alice.auth), 404)
        refusal(await site.http.get(f"/requests/{request_id}", headers=site.admin), 404)
        refusal(await respond(site, alice, request_id, "done"), 404)
        refusal(await decide(site, request_id, "done"), 404)


@pytest.mark.contract("24.8", era="june")
@pytest.mark.parametrize(
    "change",
    [
        {"kind": "wish"},
        {"kind": None},
        {"recipient_type": "robot"},
        {"recipient_type": None},
        {"title": ""},
        {"title": None},
        {"title": 7},
        {"priority": "high"},
        {"recipient_type": "agent", "recipient_id": ""},
        {"recipient_type": "agent", "recipient_id": "../../etc"},
    ],
)
async def test_a_request_that_lacks_something_is_a_400_and_is_not_kept(site: Site, change: dict[str, Any]) -> None:
    alice = await site.create("alice")
    body = {"kind": "task", "recipient_type": "user", "title": "water the plants", **change}
    refusal(await site.http.post(f"/workspaces/{alice.id}/requests", json=body, headers=alice.auth), 400)
    assert await site.get(alice, "requests") == []


@pytest.mark.contract("24.8", "2.1", "ours", era="june")
async def test_agents_ask_only_those_whom_they_may_talk_to(site: Site) -> None:
    left = (await site.family())[1]
    stranger = await site.create("stranger")
    body = {"kind": "task", "recipient_type": "agent", "title": "x"}
    path = f"/workspaces/{left.id}/requests"
    for recipient_id, status in ((stranger.id, 403), (NOBODY, 403), (left.id, 400)):
        answer = await site.http.post(path, json={**body, "recipient_id": recipient_id}, headers=left.auth)
        refusal(answer, status)
    assert await site.get(stranger, "requests/inbox") == []


@pytest.mark.contract("24.8", era="june")
async def test_the_newest_fifty_are_listed_the_newest_first(site: Site) -> None:
    alice = await site.create("alice")
    made = [await ask(site, alice, title=f"number {number}") for number in range(52)]
    rows = await site.get(alice, "requests")
    assert [row["id"] for row in rows] == made[:1:-1]
