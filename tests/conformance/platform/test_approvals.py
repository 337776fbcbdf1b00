"""Approvals (contract 9), the older form of asking the person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .listening import listening
from .site import refusal

if TYPE_CHECKING:
    import httpx

    from .site import Member, Site

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"


async def ask(site: Site, member: Member, action: str = "deploy", **fields: Any) -> str:
    made = await site.post(member, "approvals", {"action": action, **fields}, status=201)
    assert made["status"] == "pending"
    return str(made["approval_id"])


async def decide(site: Site, member: Member, approval_id: str, decision: object, **fields: Any) -> httpx.Response:
    path = f"/workspaces/{member.id}/approvals/{approval_id}/decide"
    return await site.http.post(path, json={"decision": decision, **fields}, headers=site.admin)


async def pending(site: Site) -> list[str]:
    answer = await site.http.get("/approvals/pending", headers=site.admin)
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()]


@pytest.mark.contract("9.1", "9.2", "9.3", "9.4", era="april")
@pytest.mark.parametrize("decision", ["approved", "denied"])
async def test_an_approval_is_decided_by_the_person_and_seen_by_its_requester(site: Site, decision: str) -> None:
    alice = await site.create("alice")
    approval_id = await ask(site, alice, reason="it is Friday", context={"host": "a"})
    (row,) = await site.get(alice, "approvals")
    expected = {
        "id": approval_id,
        "task_id": "",
        "action": "deploy",
        "reason": "it is Friday",
        "status": "pending",
        "decided_by": None,
        "decided_at": None,
    }
    assert {key: row[key] for key in expected} == expected
    assert row["created_at"]
    assert approval_id in await pending(site)
    answer = await decide(site, alice, approval_id, decision, decided_by="ada")
    assert (answer.status_code, answer.json()) == (200, {"status": decision, "approval_id": approval_id})
    assert approval_id not in await pending(site)
    (row,) = await site.get(alice, "approvals")
    assert (row["status"], row["decided_by"]) == (decision, "ada")
    assert row["decided_at"] is not None


@pytest.mark.contract("9.3", era="april")
async def test_whoever_decides_is_a_human_if_nothing_else_is_said(site: Site) -> None:
    alice = await site.create("alice")
    assert (await decide(site, alice, await ask(site, alice), "approved")).status_code == 200
    assert [row["decided_by"] for row in await site.get(alice, "approvals")] == ["human"]


@pytest.mark.contract("9.3", era="april")
async def test_an_approval_is_decided_once(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    approval_id = await ask(site, alice)
    assert (await decide(site, alice, approval_id, "denied")).status_code == 200
    gone = "approval not found or already decided"
    refusal(await decide(site, alice, approval_id, "approved"), 404, gone)
    refusal(await decide(site, alice, NOBODY, "approved"), 404, gone)
    refusal(await decide(site, bob, await ask(site, alice), "approved"), 404, gone)
    assert sorted(row["status"] for row in await site.get(alice, "approvals")) == ["denied", "pending"]


@pytest.mark.contract("9.3", era="april")
@pytest.mark.parametrize("decision", ["rejected", "Approved", "", None, 1, ["approved"]])
async def test_a_decision_is_approved_or_denied_and_nothing_else(site: Site, decision: object) -> None:
    alice = await site.create("alice")
    answer = await decide(site, alice, await ask(site, alice), decision)
    refusal(answer, 400, "decision must be 'approved' or 'denied'" if isinstance(decision, str) else None)
    assert [row["status"] for row in await site.get(alice, "approvals")] == ["pending"]


@pytest.mark.contract("9.1", era="april")
@pytest.mark.parametrize("body", [{}, {"action": ""}, {"action": 7}, {"action": "x", "context": "y"}, [], "x"])
async def test_an_approval_without_an_action_is_a_400(site: Site, body: object) -> None:
    alice = await site.create("alice")
    await site.post(alice, "approvals", body, status=400)
    assert await site.get(alice, "approvals") == []


@pytest.mark.contract("9.1", "9.2", era="april")
async def test_a_task_id_comes_back_and_the_newest_approval_is_first(site: Site) -> None:
    alice = await site.create("alice")
    for number in range(3):
        await ask(site, alice, f"step {number}", task_id=f"task-{number}")
    rows = await site.get(alice, "approvals")
    assert [row["action"] for row in rows] == ["step 2", "step 1", "step 0"]
    assert [row["task_id"] for row in rows] == ["task-2", "task-1", "task-0"]


@pytest.mark.contract("24.8", era="june")
async def test_a_withdrawn_approval_cannot_be_decided(site: Site) -> None:
    alice = await site.create("alice")
    approval_id = await ask(site, alice)
    withdrawn = await site.post(alice, f"approvals/{approval_id}/withdraw")
    assert withdrawn == {"status": "withdrawn", "approval_id": approval_id}
    assert [row["status"] for row in await site.get(alice, "approvals")] == ["withdrawn"]
    assert approval_id not in await pending(site)
    refusal(await decide(site, alice, approval_id, "approved"), 404, "approval not found or already decided")
    await site.post(alice, f"approvals/{approval_id}/withdraw", status=404)


@pytest.mark.contract("9.1", "9.2", "9.3", "9.4", "1.5", era="june")
async def test_approvals_need_the_agents_own_token_and_the_list_of_all_the_admins(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    approval_id = await ask(site, alice)
    base = f"/workspaces/{alice.id}/approvals"
    for method, path in (("GET", base), ("POST", base), ("POST", f"{base}/{approval_id}/decide")):
        refusal(await site.http.request(method, path, json={}), 401, "missing workspace auth token")
        refusal(await site.http.request(method, path, json={}, headers=bob.auth), 401, "invalid workspace auth token")
    refusal(await site.http.get("/approvals/pending"), 401, "admin auth required")
    refusal(await site.http.get("/approvals/pending", headers=alice.auth), 401, "invalid admin auth token")
    assert [row["status"] for row in await site.get(alice, "approvals")] == ["pending"]


@pytest.mark.contract("9.3", "ours", era="june")
async def test_an_agent_does_not_decide_what_it_asked_for(site: Site) -> None:
    alice = await site.create("alice")
    approval_id = await ask(site, alice)
    path = f"/workspaces/{alice.id}/approvals/{approval_id}/decide"
    refusal(await site.http.post(path, json={"decision": "approved"}, headers=alice.auth), 403)
    assert [row["status"] for row in await site.get(alice, "approvals")] == ["pending"]


@pytest.mark.contract("9.1", "9.3", "17.5", era="april")
@pytest.mark.parametrize(("decision", "event"), [("approved", "APPROVAL_APPROVED"), ("denied", "APPROVAL_DENIED")])
async def test_approvals_are_told_to_those_who_listen_and_to_the_parent(site: Site, decision: str, event: str) -> None:
    parent, child, _ = await site.family()
    async with listening(site.server, site.admin) as frames:
        approval_id = await ask(site, child, reason="why not", task_id="t")
        told = (await frames.frame("APPROVAL_REQUESTED", child))["payload"]
        assert told == {"approval_id": approval_id, "action": "deploy", "reason": "why not", "task_id": "t"}
        told = (await frames.frame("APPROVAL_ESCALATED", parent))["payload"]
        assert told.items() >= {"approval_id": approval_id, "from_workspace_id": child.id, "action": "deploy"}.items()
        assert (await decide(site, child, approval_id, decision)).status_code == 200
        told = (await frames.frame(event, child))["payload"]
        assert told == {"approval_id": approval_id, "decision": decision, "decided_by": "human"}
