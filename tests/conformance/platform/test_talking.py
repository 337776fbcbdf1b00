"""What agents say to everybody and to the person, and whether they may (contract 24.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .listening import listening
from .site import http_answer, refusal, says

if TYPE_CHECKING:
    from .site import Agent, Member, Received, Site

pytestmark = pytest.mark.anyio


async def allow(site: Site, member: Member, **abilities: Any) -> dict[str, Any]:
    answer = await site.http.patch(f"/workspaces/{member.id}/abilities", json=abilities, headers=site.admin)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def heard(site: Site, member: Member) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await site.get(member, "activity", type="broadcast_receive")
    return rows


@pytest.mark.contract("24.7", "24.4", era="june")
async def test_a_broadcast_reaches_whom_the_sender_may_talk_to(site: Site) -> None:
    parent, left, right = await site.family()
    below = await site.create("below", parent_id=right.id)
    stranger = await site.create("stranger")
    await allow(site, left, broadcast_enabled=True)
    async with listening(site.server, right.auth) as frames:
        sent = await site.post(left, "broadcast", {"message": "the build is green"})
        assert sent == {"status": "sent", "delivered": 2}
        payload = (await frames.frame("BROADCAST_MESSAGE", right))["payload"]
    assert payload == {"message": "the build is green", "sender_id": left.id, "sender": left.name}
    for member in (parent, right):
        (row,) = await heard(site, member)
        assert (row["method"], row["source_id"], row["workspace_id"]) == ("broadcast", left.id, member.id)
        assert "the build is green" in str(row)
    for member in (left, below, stranger):
        assert await heard(site, member) == []


@pytest.mark.contract("24.7", era="june")
async def test_a_broadcast_is_off_until_the_admin_allows_it(site: Site) -> None:
    _, left, right = await site.family()
    answer = await site.http.post(f"/workspaces/{left.id}/broadcast", json={"message": "hi"}, headers=left.auth)
    assert refusal(answer, 403, "broadcast_disabled")["hint"]
    await allow(site, left, broadcast_enabled=True)
    await site.post(left, "broadcast", {"message": "hi"})
    await allow(site, left, broadcast_enabled=False)
    await site.post(left, "broadcast", {"message": "hi again"}, status=403)
    assert len(await heard(site, right)) == 1


@pytest.mark.contract("24.7", era="june")
@pytest.mark.parametrize("body", [{}, {"message": ""}, {"message": 7}, {"message": None}, [], "hi"])
async def test_a_broadcast_says_something(site: Site, body: object) -> None:
    _, left, right = await site.family()
    await allow(site, left, broadcast_enabled=True)
    await site.post(left, "broadcast", body, status=400)
    assert await heard(site, right) == []


@pytest.mark.contract("24.7", "24.5", era="june")
async def test_abilities_decide_who_may_broadcast_notify_and_delegate(site: Site) -> None:
    _, left, right = await site.family()
    await site.register(right)
    body = await allow(site, left)
    defaults = {"broadcast_enabled": False, "talk_to_user_enabled": True, "can_delegate": True}
    assert body.items() >= defaults.items()
    body = await allow(site, left, talk_to_user_enabled=False)
    assert body.items() >= {**defaults, "talk_to_user_enabled": False}.items()
    answer = await site.http.post(f"/workspaces/{left.id}/notify", json={"message": "hi"}, headers=left.auth)
    assert refusal(answer, 403, "talk_to_user_disabled")["hint"]
    assert await site.get(left, "activity", type="a2a_receive") == []
    await allow(site, left, talk_to_user_enabled=True, can_delegate=False)
    await site.post(left, "notify", {"message": "hi"})
    refusal(await site.send(left, right), 403)
    assert await site.get(right, "activity", type="a2a_receive") == []
    body = await allow(site, left, can_delegate=True, broadcast_enabled=True)
    assert body.items() >= dict.fromkeys(defaults, True).items()
    assert (await site.send(left, right)).status_code == 200
    await site.post(left, "broadcast", {"message": "hi"})


@pytest.mark.contract("24.7", era="june")
@pytest.mark.parametrize("value", ["yes", "true", 2, [], {}])
async def test_an_ability_is_there_or_not(site: Site, value: object) -> None:
    alice = await site.create("alice")
    for name in ("broadcast_enabled", "talk_to_user_enabled", "can_delegate"):
        path = f"/workspaces/{alice.id}/abilities"
        refusal(await site.http.patch(path, json={name: value}, headers=site.admin), 400)
    assert (await allow(site, alice))["broadcast_enabled"] is False


@pytest.mark.contract("24.7", "1.5", era="june")
async def test_an_agent_does_not_set_its_own_abilities(site: Site) -> None:
    alice = await site.create("alice")
    path, body = f"/workspaces/{alice.id}/abilities", {"broadcast_enabled": True}
    refusal(await site.http.patch(path, json=body, headers=alice.auth), 401, "invalid admin auth token")
    refusal(await site.http.patch(path, json=body), 401, "admin auth required")
    await site.post(alice, "broadcast", {"message": "hi"}, status=403)
    nobody = "/workspaces/00000000-0000-4000-8000-000000000000/abilities"
    refusal(await site.http.patch(nobody, json=body, headers=site.admin), 404)


@pytest.mark.contract("24.7", "1.5", era="june")
async def test_only_the_workspace_itself_speaks_for_it(site: Site) -> None:
    _, left, right = await site.family()
    await allow(site, left, broadcast_enabled=True)
    for path, body in (("broadcast", {"message": "hi"}), ("notify", {"message": "hi"})):
        url = f"/workspaces/{left.id}/{path}"
        refusal(await site.http.post(url, json=body), 401, "missing workspace auth token")
        refusal(await site.http.post(url, json=body, headers=right.auth), 401, "invalid workspace auth token")
    assert await heard(site, right) == []


@pytest.mark.contract("24.7", "7.3", era="june")
async def test_the_chat_history_has_both_sides_in_order(site: Site, agent: Agent) -> None:
    _, alice, bob = await site.family()
    await site.register(alice, agent)

    async def echo(request: Received) -> bytes:
        return http_answer(says(f"you said: {request.message['parts'][0]['text']}"))

    agent.answer = echo
    await site.send(None, alice, "good morning")
    await site.send(bob, alice, "psst")
    file = {"uri": "workspace:/workspace/a.txt", "name": "a.txt", "mimeType": "text/plain"}
    await site.post(alice, "notify", {"message": "look at this", "attachments": [file]})
    await site.send(None, alice, "thank you")
    history = (await site.get(alice, "chat-history"))["messages"]
    assert [(message["role"], message["text"]) for message in history] == [
        ("user", "good morning"),
        ("agent", "you said: good morning"),
        ("agent", "look at this"),
        ("user", "thank you"),
        ("agent", "you said: thank you"),
    ]
    assert [file["name"] for file in history[2]["attachments"]] == ["a.txt"]
    assert len({message["id"] for message in history}) == len(history)
    newest = (await site.get(alice, "chat-history", limit=1))["messages"]
    assert [message["text"] for message in newest] == ["thank you", "you said: thank you"]
    older = (await site.get(alice, "chat-history", before_ts=history[2]["created_at"]))["messages"]
    assert [message["text"] for message in older] == ["good morning", "you said: good morning"]


@pytest.mark.contract("24.7", era="june")
async def test_the_chat_history_of_a_workspace_that_polls_has_what_was_said_so_far(site: Site) -> None:
    alice = await site.create("alice")
    await site.register(alice)
    await site.send(None, alice, "are you there?")
    await site.post(alice, "notify", {"message": "yes"})
    history = (await site.get(alice, "chat-history"))["messages"]
    assert [(message["role"], message["text"]) for message in history] == [("user", "are you there?"), ("agent", "yes")]


@pytest.mark.contract("24.7", "1.5", era="june")
async def test_the_chat_history_is_for_the_workspace_itself(site: Site) -> None:
    _, alice, bob = await site.family()
    path = f"/workspaces/{alice.id}/chat-history"
    refusal(await site.http.get(path), 401)
    refusal(await site.http.get(path, headers=bob.auth), 401)
    refusal(await site.http.get(path, params={"before_ts": "yesterday"}, headers=alice.auth), 400)
