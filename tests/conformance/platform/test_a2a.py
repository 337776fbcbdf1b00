"""Messages through the proxy: what the agent gets, and what is left of it (contract 5, 24.5)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from .listening import listening
from .site import DENIED, MIB, Member, answering, envelope, http_answer, refusal, says

if TYPE_CHECKING:
    from .site import Agent, Received, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("5.1", "5.3", "5.4", "26.2", era="april")
async def test_a_peer_answers_through_the_proxy(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    said = says("good morning")
    agent.answer = answering(http_answer(said))
    sent = envelope("hello", str(uuid.uuid4()))
    answer = await site.post_message(sender, target, sent)
    assert (answer.status_code, answer.json()) == (200, said)
    assert answer.headers["content-type"].startswith("application/json")
    (request,) = agent.received
    assert (request.method, request.path, request.body) == ("POST", "/", sent)
    assert request.headers["content-type"] == "application/json"


@pytest.mark.contract("5.3", era="april")
async def test_a_message_goes_to_exactly_the_registered_url(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    for path, expected in (("", "/"), ("a2a", "/a2a"), ("deep/er?x=1", "/deep/er?x=1")):
        url = agent.url.rstrip("/") if not path else agent.url + path
        await site.register(target, agent, url=url)
        await site.send(sender, target)
        assert agent.received[-1].path == expected


@pytest.mark.contract("5.1", era="april")
async def test_a_bare_message_is_wrapped_and_gets_its_ids(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    parts = [{"kind": "text", "text": "hi"}]
    params = {"message": {"role": "user", "parts": parts, "extra": [1]}, "configuration": {"blocking": True}}
    assert (await site.post_message(sender, target, {"method": "message/send", "params": params})).status_code == 200
    body = agent.received[0].body
    assert (body["jsonrpc"], body["method"]) == ("2.0", "message/send")
    assert body["id"]
    message = body["params"]["message"]
    assert str(uuid.UUID(message["messageId"])) == message["messageId"]
    assert body["params"]["configuration"] == {"blocking": True}
    assert {key: message[key] for key in ("role", "parts", "extra")} == params["message"]


@pytest.mark.contract("5.1", era="april")
async def test_any_method_and_any_content_are_passed_on_as_they_are(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    sent = {"jsonrpc": "2.0", "id": 7, "method": "tasks/get", "params": {"id": "naïve \u2603", "nested": [{"a": None}]}}
    await site.post_message(sender, target, sent)
    assert agent.received[0].body == sent


@pytest.mark.contract("5.3", "24.5", era="april")
async def test_the_senders_token_never_reaches_the_agent(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    await site.send(sender, target)
    await site.send(None, target)
    for request in agent.received:
        sent = json.dumps(request.headers) + request.raw.decode()
        assert sender.token not in sent
        assert not site.server.admin_token or site.server.admin_token not in sent
        # Who called, the agent learns from the metadata of a message only.
        assert "x-workspace-id" not in request.headers


@pytest.mark.contract("24.5", era="june")
async def test_the_agent_recognises_the_platform_by_the_inbound_secret(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    secret = (await site.register(target, agent))["platform_inbound_secret"]
    await site.send(sender, target)
    assert agent.received[0].headers["authorization"] == f"Bearer {secret}"


@pytest.mark.contract("5.1", "5.3", "23.20", era="april")
@pytest.mark.parametrize(
    "header", [("Content-Type", "text/plain"), ("X-Timeout", "0"), ("X-Timeout", "soon"), ("X-Timeout", "30")]
)
async def test_headers_of_the_request_change_nothing(site: Site, agent: Agent, header: tuple[str, str]) -> None:
    sender, target = await site.pair(agent)
    headers = {**sender.identity, **dict([header])}
    content = json.dumps(envelope("hello")).encode()
    answer = await site.http.post(f"/workspaces/{target.id}/a2a", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert agent.received[0].headers["content-type"] == "application/json"


@pytest.mark.contract("5.1", "23.15", era="april")
async def test_a_workspace_may_send_to_itself(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    assert (await site.send(target, target)).status_code == 200
    assert len(agent.received) == 1


@pytest.mark.contract("5.1", "2.1", era="april")
async def test_ancestors_and_descendants_of_any_depth_may_write_to_each_other(site: Site, agent: Agent) -> None:
    parent, left, _ = await site.family()
    grandchild = await site.create("grandchild", parent_id=left.id)
    for member in (parent, grandchild):
        await site.register(member, agent)
    assert (await site.send(parent, grandchild)).status_code == 200
    assert (await site.send(grandchild, parent)).status_code == 200


@pytest.mark.contract("5.5", era="april")
async def test_a_message_twice_is_delivered_twice(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    for _ in range(2):
        assert (await site.send(sender, target, message_id="the same")).status_code == 200
    assert agent.message_ids == ["the same", "the same"]


@pytest.mark.contract("5.5", "7.1", era="april")
async def test_a_turn_is_in_the_activity_of_its_target(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    said = says("done", metadata={"tool_trace": [{"tool": "calc"}]})
    agent.answer = answering(http_answer(said))
    sent = envelope("work", str(uuid.uuid4()))
    await site.post_message(sender, target, sent)
    (row,) = await site.inbox(target)
    assert (row["workspace_id"], row["source_id"], row["target_id"]) == (target.id, sender.id, target.id)
    assert (row["method"], row["status"], row["error_detail"]) == ("message/send", "ok", None)
    assert row["request_body"] == sent
    assert row["response_body"] == said
    assert row["tool_trace"] == [{"tool": "calc"}]
    assert row["duration_ms"] >= 0


@pytest.mark.contract("5.5", era="april")
async def test_a_turn_that_failed_is_in_the_activity_with_its_error(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    agent.answer = answering(http_answer({"error": "boom"}, 500))
    await site.send(sender, target)
    (row,) = await site.inbox(target)
    assert row["status"] == "error"
    assert "boom" in row["error_detail"]


@pytest.mark.contract("5.5", "14.1", era="april")
async def test_who_sends_is_seen_to_have_sent(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    assert (await site.read(sender))["last_outbound_at"] is None
    await site.send(sender, target)

    async def stamped() -> object:
        return (await site.read(sender))["last_outbound_at"]

    assert await site.eventually(stamped)


@pytest.mark.contract("5.1", "5.5", era="april")
async def test_the_person_may_write_to_every_workspace_and_is_no_workspace(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    assert (await site.send(None, target)).status_code == 200
    (row,) = await site.inbox(target)
    assert row["source_id"] is None


@pytest.mark.contract("5.3", era="april")
async def test_a_turn_goes_on_when_its_sender_hangs_up(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Received) -> bytes:
        arrived.set()
        await release.wait()
        return http_answer(says("finished"))

    agent.answer = slow
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:

            async def send() -> None:
                with contextlib.suppress(httpx.HTTPError):
                    await site.send(sender, target)

            group.start_soon(send)
            await arrived.wait()
            group.cancel_scope.cancel()
    release.set()
    (row,) = await site.inbox(target)
    assert row["response_body"]["result"]["parts"][0]["text"] == "finished"


@pytest.mark.contract("24.5", era="june")
async def test_a_workspace_that_has_not_connected_yet_finds_its_messages_when_it_does(site: Site, agent: Agent) -> None:
    parent = await site.create("parent")
    sender, target = [await site.create(name, parent_id=parent.id) for name in ("sender", "target")]
    answer = await site.send(sender, target, message_id="early")
    assert (answer.status_code, answer.json()["queued"]) == (202, True)
    await site.register(target, agent)
    await site.beat(target)

    async def arrived() -> bool:
        return agent.message_ids == ["early"]

    await site.eventually(arrived)


@pytest.mark.contract("24.3", era="june")
async def test_a_message_to_a_polling_workspace_waits_in_its_inbox(site: Site) -> None:
    parent = await site.create("parent")
    sender, target = [await site.create(name, parent_id=parent.id) for name in ("sender", "target")]
    await site.register(target)
    sent = envelope("when you can", str(uuid.uuid4()))
    for who in (sender, None):
        answer = await site.post_message(who, target, sent)
        assert (answer.status_code, answer.json()) == (
            200, {"status": "queued", "delivery_mode": "poll", "method": "message/send"},
        )  # fmt: skip
        sent = envelope("from the person", str(uuid.uuid4()))
    human, peer = await site.inbox(target, 2)
    assert (peer["source_id"], peer["method"]) == (sender.id, "message/send")
    assert peer["request_body"]["params"]["message"]["parts"][0]["text"] == "when you can"
    assert human["source_id"] is None


@pytest.mark.contract("5.5", "24.3", "ours", era="june")
async def test_a_message_that_is_sent_again_is_in_an_inbox_once(site: Site) -> None:
    # The README: "a retry is not a second message"; that of another sender is.
    parent, sender, target = await site.family()
    await site.register(target)
    for who in (sender, sender, parent, sender):
        answer = await site.send(who, target, message_id="the same")
        assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert [row["source_id"] for row in await site.inbox(target, 2)] == [parent.id, sender.id]


@pytest.mark.contract("24.3", "5.1", "5.2", era="june")
async def test_a_message_for_an_inbox_is_checked_like_any_other(site: Site) -> None:
    _, sender, target = await site.family()
    _, stranger, _ = await site.family()
    await site.register(target)
    refusal(await site.send(stranger, target), 403, DENIED)
    refusal(await site.post_message(sender, target, b"{"), 400, "invalid JSON")
    refusal(await site.send(sender, target, "x" * MIB), 413)
    answer = await site.post_message(sender, target, {"method": "tasks/cancel", "params": {"id": "t"}})
    assert answer.json() == {"status": "queued", "delivery_mode": "poll", "method": "tasks/cancel"}
    (row,) = await site.inbox(target)
    assert (row["method"], row["status"]) == ("tasks/cancel", "ok")
    assert row["request_body"]["params"] == {"id": "t"}
    assert (await site.read(sender))["last_outbound_at"]


@pytest.mark.contract("24.5", "24.9", era="june")
async def test_the_inbound_route_takes_the_targets_inbound_secret_only(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    secret = (await site.register(target, agent))["platform_inbound_secret"]
    other = (await site.register(sender, agent))["platform_inbound_secret"]
    path = f"/workspaces/{target.id}/a2a/inbound"
    refusal(await site.http.post(path, json=envelope()), 401)
    for wrong in (other, target.token, "x"):
        answer = await site.http.post(path, json=envelope(), headers={"Authorization": f"Bearer {wrong}"})
        refusal(answer, 403)
    assert agent.received == []
    answer = await site.http.post(path, json=envelope("in"), headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200, answer.text
    assert agent.received[0].message["parts"][0]["text"] == "in"


@pytest.mark.contract("24.3", "24.5", era="june")
async def test_what_comes_in_for_a_polling_workspace_is_left_in_its_inbox(site: Site) -> None:
    member = await site.create()
    secret = (await site.register(member))["platform_inbound_secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    answer = await site.http.post(f"/workspaces/{member.id}/a2a/inbound", json=envelope("in"), headers=headers)
    assert (answer.status_code, answer.json()["delivery_mode"]) == (200, "poll")
    (row,) = await site.inbox(member)
    assert row["source_id"] is None
    assert row["request_body"]["params"]["message"]["parts"][0]["text"] == "in"


@pytest.mark.contract("24.5", "17.5", era="june")
async def test_a_new_session_of_a_chat_is_told(site: Site) -> None:
    member = await site.create()
    async with listening(site.server, site.admin) as frames:
        await site.post(member, "chat-session/new")
        await frames.frame("SESSION_RESET", member)


@pytest.mark.contract("24.5", era="june")
async def test_a_persons_messages_share_a_context_until_the_session_is_reset(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)

    async def context_of(who: Member | None) -> str | None:
        assert (await site.send(who, target)).status_code == 200
        context: str | None = agent.received[-1].message.get("contextId")
        return context

    first = await context_of(None)
    assert first
    assert await context_of(None) == first
    assert await context_of(sender) != first
    await site.post(target, "chat-session/new")
    second = await context_of(None)
    assert second
    assert second != first
    given = envelope()
    given["params"]["message"]["contextId"] = "mine"
    await site.post_message(None, target, given)
    assert agent.received[-1].message["contextId"] == "mine"
