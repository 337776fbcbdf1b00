"""The registry: going online, staying online, and finding each other (contract 4, 24.1, 24.2)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .site import Member, refusal

if TYPE_CHECKING:
    from .site import Agent, Site

pytestmark = pytest.mark.anyio

CARD = {"name": "card"}


def workspace_id() -> str:
    return str(uuid.uuid4())


@pytest.mark.contract("4.1", "14.5", era="april")
async def test_the_first_registration_carries_the_token_and_later_ones_do_not(site: Site, agent: Agent) -> None:
    made = await site.create(url=agent.url)
    assert made.token == ""
    first = await site.register(made, agent)
    assert first["status"] == "registered"
    assert len(first["auth_token"]) == 43
    member = Member(made.id, made.name, first["auth_token"])
    again = await site.register(member, agent)
    assert again["status"] == "registered"
    assert "auth_token" not in again
    assert await site.get(member, "activity") == []


@pytest.mark.contract("4.1", era="april")
async def test_an_id_that_nobody_knows_registers_as_a_new_root(site: Site, agent: Agent) -> None:
    new = Member(workspace_id(), "", "")
    site.created.append(new.id)
    assert (await site.register(new, agent))["auth_token"]
    row = await site.read(new)
    assert (row["name"], row["tier"], row["parent_id"], row["status"]) == (new.id, 1, None, "online")


@pytest.mark.contract("4.1", "1.5", "28.1", era="april")
async def test_a_workspace_with_a_token_registers_with_it_only(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    other = await site.registered(agent)
    body = {"id": member.id, "url": agent.url, "agent_card": CARD}
    refusal(await site.http.post("/registry/register", json=body), 401, "missing workspace auth token")
    answer = await site.http.post("/registry/register", json=body, headers=other.auth)
    refusal(answer, 401, "invalid workspace auth token")
    assert (await site.http.post("/registry/register", json=body, headers=member.auth)).status_code == 200


@pytest.mark.contract("4.1", "24.1", "ours", era="june")
async def test_a_token_that_came_with_the_creation_is_needed_to_register(site: Site) -> None:
    # The README: "else whoever knows an id could register in its place".
    member = await site.create()
    body = {"id": member.id, "agent_card": CARD, "delivery_mode": "poll"}
    refusal(await site.http.post("/registry/register", json=body), 401, "missing workspace auth token")
    assert "auth_token" not in await site.register(member)


@pytest.mark.contract("4.1", "14.1", "ours", era="june")
async def test_an_id_need_not_be_a_uuid(site: Site) -> None:
    # The README: "1 to 128 lowercase letters, digits and hyphens are an id".
    new = Member(f"agent-{uuid.uuid4().hex}", "", "")
    site.created.append(new.id)
    member = Member(new.id, "", (await site.register(new))["auth_token"])
    assert (await site.read(member))["id"] == member.id
    assert await site.get(member, "activity") == []
    for bad in ("Agent-1", "a_b", "a" * 129, "-../x", ""):
        body = {"id": bad, "agent_card": CARD, "delivery_mode": "poll"}
        refusal(await site.http.post("/registry/register", json=body), 400)


@pytest.mark.contract("4.1", "20.4", "ours", era="june")
async def test_a_loopback_address_is_taken_and_replaced_by_the_next_registration(site: Site, agent: Agent) -> None:
    # The README: "nothing maps ports here, and an agent restarts on another port".
    member = await site.create()
    await site.register(member, agent, url="http://127.0.0.1:9/")
    assert (await site.read(member))["url"] == "http://127.0.0.1:9/"
    await site.register(member, agent)
    assert (await site.read(member))["url"] == agent.url


@pytest.mark.contract("4.1", "2.5", era="april")
async def test_a_registration_puts_the_workspace_online_with_its_url_and_card(site: Site, agent: Agent) -> None:
    parent = await site.create("parent")
    member = await site.create("left", parent_id=parent.id, role="a role")
    await site.register(member, agent, agent_card={"skills": [{"id": "s"}], "name": member.name})
    row = await site.read(member)
    assert row["status"] == "online"
    assert row["url"] == agent.url
    assert row["agent_card"]["skills"] == [{"id": "s"}]
    assert (row["name"], row["role"], row["parent_id"]) == (member.name, "a role", parent.id)


@pytest.mark.contract("4.1", "1.2", era="april")
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"text"', b"null", b'{"url": "http://localhost:9", "agent_card": {}}',
     b'{"id": "c2c5b0c2-6d5c-4d39-8c39-6a0f4f2b0f10", "url": "http://localhost:9"}',
     b'{"id": 7, "url": "http://localhost:9", "agent_card": {}}'],
)  # fmt: skip
async def test_a_registration_without_its_keys_is_refused_with_a_fixed_text(site: Site, body: bytes) -> None:
    refusal(await site.http.post("/registry/register", content=body), 400, "invalid request body")


@pytest.mark.contract("4.1", "20.1", "28.1", era="april")
@pytest.mark.parametrize(
    "url",
    ["remote://no-inbound", "ftp://localhost/", "file:///etc/passwd", "localhost:9", "http://", "http://169.254.169.254/",
     "http://192.0.2.1/", "http://198.51.100.7/", "http://203.0.113.9/", "http://100.64.0.1/", "http://224.0.0.1/", "http://[fe80::1]/",
     "http://[2001:db8::1]/", "http://[fc00::1]/", "http://no-such-host.invalid/"],
)  # fmt: skip
async def test_urls_that_must_not_be_called_are_refused(site: Site, agent: Agent, url: str) -> None:
    member = await site.registered(agent)
    body = {"id": member.id, "url": url, "agent_card": CARD}
    refusal(await site.http.post("/registry/register", json=body, headers=member.auth), 400)
    assert (await site.read(member))["url"] == agent.url


@pytest.mark.contract("24.1", "24.3", era="june")
async def test_a_polling_workspace_needs_no_url(site: Site) -> None:
    member = await site.create()
    body = {"id": member.id, "agent_card": CARD, "delivery_mode": "poll"}
    for url in ({}, {"url": ""}, {"url": "remote://no-inbound"}):
        answer = await site.http.post("/registry/register", json={**body, **url}, headers=member.auth)
        assert answer.status_code == 200, answer.text
        assert answer.json()["delivery_mode"] == "poll"


@pytest.mark.contract("24.1", era="june")
async def test_the_inbound_secret_comes_with_every_registration_and_is_the_same(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    secrets = {(await site.register(member, agent))["platform_inbound_secret"] for _ in range(2)}
    assert len(secrets) == 1
    assert secrets != {""}


@pytest.mark.contract("24.1", era="june")
async def test_a_registration_that_names_no_delivery_mode_keeps_the_one_there_is(site: Site, agent: Agent) -> None:
    member = await site.create()
    await site.register(member, delivery_mode="poll")
    for mode in ({}, {"delivery_mode": ""}):
        body = {"id": member.id, "agent_card": CARD, **mode}
        answer = await site.http.post("/registry/register", json=body, headers=member.auth)
        assert answer.json()["delivery_mode"] == "poll", answer.text
    assert (await site.register(member, agent, delivery_mode="push"))["delivery_mode"] == "push"
    assert (await site.register(member, agent))["delivery_mode"] == "push"


@pytest.mark.contract("24.1", era="june")
@pytest.mark.parametrize(
    ("fields", "error"),
    [({"delivery_mode": "pull"}, "delivery_mode must be 'push' or 'poll'"), ({"delivery_mode": ["poll"]}, None), ({"kind": {}}, None),
     ({}, "url is required for push-mode workspaces"),
     ({"url": ""}, "url is required for push-mode workspaces"),
     ({"agent_card": {"name": "x", "url": "http://169.254.169.254/"}}, "workspace agent_card URL not allowed"),
     ({"agent_card": "text"}, "invalid request body"), ({"kind": "gateway"}, None)],
)  # fmt: skip
async def test_what_is_wrong_with_a_registration_is_said(site: Site, fields: dict[str, Any], error: str | None) -> None:
    member = await site.create()
    body = {"id": member.id, "agent_card": CARD, **fields}
    refusal(await site.http.post("/registry/register", json=body, headers=member.auth), 400, error)


@pytest.mark.contract("24.1", era="june")
async def test_the_url_of_the_card_serves_where_the_body_has_none(site: Site, agent: Agent) -> None:
    member = await site.create()
    body = {"id": member.id, "agent_card": {**CARD, "url": agent.url}}
    answer = await site.http.post("/registry/register", json=body, headers=member.auth)
    assert answer.status_code == 200, answer.text
    assert (await site.read(member))["url"] == agent.url


@pytest.mark.contract("24.1", era="june")
async def test_a_workspace_cannot_make_itself_the_platform_agent(site: Site, agent: Agent) -> None:
    member = await site.registered(agent)
    body = {"id": member.id, "agent_card": CARD, "url": agent.url, "kind": "platform", "mcp_server_present": True}
    refusal(await site.http.post("/registry/register", json=body, headers=member.auth), 403)


@pytest.mark.contract("24.1", era="june")
async def test_the_platforms_name_wins_over_a_card_that_has_only_the_id(site: Site, agent: Agent) -> None:
    member = await site.create(role="reads")
    await site.register(member, agent, agent_card={"name": member.id})
    card = (await site.read(member))["agent_card"]
    assert (card["name"], card["role"]) == (member.name, "reads")


@pytest.mark.contract("4.2", "1.5", "28.1", era="april")
async def test_a_heartbeat_is_taken_with_the_token_and_refused_without(site: Site, agent: Agent) -> None:
    member, other = await site.registered(agent), await site.registered(agent)
    assert (await site.beat(member))["status"] == "ok"
    body = {"workspace_id": member.id}
    refusal(await site.http.post("/registry/heartbeat", json=body), 401, "missing workspace auth token")
    answer = await site.http.post("/registry/heartbeat", json=body, headers=other.auth)
    refusal(answer, 401, "invalid workspace auth token")


@pytest.mark.contract("4.3", era="april")
async def test_a_card_is_replaced(site: Site, agent: Agent) -> None:
    member, other = await site.registered(agent), await site.registered(agent)
    body = {"workspace_id": member.id, "agent_card": {"name": member.name, "version": "2"}}
    answer = await site.http.post("/registry/update-card", json=body, headers=member.auth)
    assert (answer.status_code, answer.json()) == (200, {"status": "updated"})
    assert (await site.read(member))["agent_card"]["version"] == "2"
    refusal(await site.http.post("/registry/update-card", json=body), 401, "missing workspace auth token")
    answer = await site.http.post("/registry/update-card", json=body, headers=other.auth)
    refusal(answer, 401, "invalid workspace auth token")
    for key in body:
        part = {name: value for name, value in body.items() if name != key}
        refusal(await site.http.post("/registry/update-card", json=part, headers=member.auth), 400)


@pytest.mark.contract("4.4", "2.1", era="april")
async def test_discover_answers_those_who_may_talk(site: Site, agent: Agent) -> None:
    _, left, right = await site.family()
    _, stranger, _ = await site.family()
    await site.register(right, agent)
    path = f"/registry/discover/{right.id}"
    answer = await site.http.get(path, headers=left.identity)
    assert (answer.status_code, answer.json()) == (200, {"id": right.id, "name": right.name, "url": agent.url})
    refusal(await site.http.get(path, headers=left.auth), 400, "X-Workspace-ID header is required")
    answer = await site.http.get(path, headers=stranger.identity)
    refusal(answer, 403, "not authorized to discover this workspace")
    # The bearer is that of the caller, not that of the target.
    answer = await site.http.get(path, headers={**right.auth, "X-Workspace-ID": left.id})
    refusal(answer, 401, "invalid workspace auth token")


@pytest.mark.contract("4.4", "1.5", era="june")
async def test_discover_needs_the_callers_bearer(site: Site) -> None:
    _, left, right = await site.family()
    answer = await site.http.get(f"/registry/discover/{right.id}", headers={"X-Workspace-ID": left.id})
    refusal(answer, 401, "missing workspace auth token")


@pytest.mark.contract("4.4", era="april")
async def test_discover_says_when_a_workspace_cannot_be_reached(site: Site) -> None:
    _, left, right = await site.family()
    refusal(await site.http.get(f"/registry/discover/{right.id}", headers=left.identity), 503)


@pytest.mark.contract("4.4", "14.5", "20.2", era="april")
async def test_discover_gives_no_url_that_must_not_be_called(site: Site) -> None:
    parent = await site.create("parent")
    caller = await site.create("caller", parent_id=parent.id)
    # A URL that comes with the creation is stored as it is.
    target = await site.create("target", parent_id=parent.id, url="http://169.254.169.254/")
    answer = await site.http.get(f"/registry/discover/{target.id}", headers=caller.identity)
    refusal(answer, 503, "workspace URL failed safety check")


@pytest.mark.contract("4.4", "24.13", era="june")
async def test_discover_knows_no_workspace_that_is_not_there(site: Site) -> None:
    member = await site.create()
    headers = {**site.admin, "X-Workspace-ID": member.id}
    refusal(await site.http.get(f"/registry/discover/{workspace_id()}", headers=headers), 404, "workspace not found")


@pytest.mark.contract("4.5", "2.2", era="april")
async def test_peers_are_the_parent_the_siblings_and_the_children(site: Site, agent: Agent) -> None:
    parent, left, right = await site.family()
    child = await site.create("child", parent_id=left.id, role="a child")
    grandchild = await site.create("grandchild", parent_id=child.id)
    nephew = await site.create("nephew", parent_id=right.id)
    gone = await site.create("gone", parent_id=left.id)
    await site.http.delete(f"/workspaces/{gone.id}", params={"confirm": "true"}, headers=site.admin)
    await site.register(child, agent)

    async def ids(member: Member) -> set[str]:
        answer = await site.http.get(f"/registry/{member.id}/peers", headers=member.auth)
        assert answer.status_code == 200, answer.text
        return {row["id"] for row in answer.json()}

    assert await ids(left) == {parent.id, right.id, child.id}
    assert await ids(parent) >= {left.id, right.id}
    assert await ids(grandchild) == {child.id}
    assert await ids(nephew) == {right.id}
    answer = await site.http.get(f"/registry/{left.id}/peers", headers=left.auth)
    (row,) = (row for row in answer.json() if row["id"] == child.id)
    assert row.keys() >= {
        "id", "name", "role", "tier", "status", "agent_card", "url", "parent_id", "active_tasks",
    }  # fmt: skip
    assert (row["name"], row["role"], row["status"], row["parent_id"]) == (child.name, "a child", "online", left.id)
    assert row["agent_card"]["name"] == child.name


@pytest.mark.contract("4.5", era="april")
async def test_peers_are_filtered_by_name_or_role_in_any_case(site: Site) -> None:
    parent = await site.create("parent", role="leads")
    left = await site.create("left", parent_id=parent.id, role="reads")
    right = await site.create("right", parent_id=parent.id, role="WRITES poems")

    async def ids(text: str) -> set[str]:
        answer = await site.http.get(f"/registry/{left.id}/peers", params={"q": text}, headers=left.auth)
        return {row["id"] for row in answer.json()}

    assert await ids("Right") == {right.id}
    assert await ids("writes POEMS") == {right.id}
    assert await ids("parent") == {parent.id}
    assert await ids("nobody has this") == set()


@pytest.mark.contract("4.5", "1.5", era="april")
async def test_peers_are_listed_with_the_token_of_the_workspace_in_the_path(site: Site) -> None:
    _, left, right = await site.family()
    answer = await site.http.get(f"/registry/{left.id}/peers", headers=right.identity)
    refusal(answer, 401, "invalid workspace auth token")
    refusal(await site.http.get(f"/registry/{workspace_id()}/peers"), 404, "workspace not found")


@pytest.mark.contract("4.5", "1.5", era="june")
async def test_peers_need_a_bearer_once_there_is_a_token(site: Site) -> None:
    member = await site.create()
    refusal(await site.http.get(f"/registry/{member.id}/peers"), 401, "missing workspace auth token")
    # An id that is claimed is no credential.
    answer = await site.http.get(f"/registry/{member.id}/peers", headers={"X-Workspace-ID": member.id})
    refusal(answer, 401, "missing workspace auth token")


async def allowed(site: Site, caller: str, target: str) -> bool:
    answer = await site.http.post("/registry/check-access", json={"caller_id": caller, "target_id": target})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == {"allowed"}
    return bool(body["allowed"])


@pytest.mark.contract("4.6", "2.1", era="april")
async def test_access_follows_the_hierarchy(site: Site) -> None:
    parent, left, right = await site.family()
    child = await site.create("child", parent_id=left.id)
    grandchild = await site.create("grandchild", parent_id=child.id)
    nephew = await site.create("nephew", parent_id=right.id)
    _, stranger, _ = await site.family()
    may = [(left, left), (left, right), (parent, left), (left, parent), (parent, grandchild), (grandchild, parent)]
    may_not = [(child, nephew), (child, right), (grandchild, right), (left, stranger), (stranger, parent)]
    for caller, target in may:
        assert await allowed(site, caller.id, target.id), (caller.name, target.name)
    for caller, target in may_not:
        assert not await allowed(site, caller.id, target.id), (caller.name, target.name)


@pytest.mark.contract("2.1", "2.2", "14.3", era="april")
async def test_a_workspace_that_moves_talks_to_its_new_neighbours(site: Site) -> None:
    _, left, right = await site.family()
    parent, other, _ = await site.family()
    assert not await allowed(site, left.id, other.id)
    answer = await site.http.patch(f"/workspaces/{left.id}", json={"parent_id": parent.id}, headers=site.admin)
    assert answer.status_code == 200, answer.text
    assert await allowed(site, left.id, other.id)
    assert not await allowed(site, left.id, right.id)
    answer = await site.http.get(f"/registry/{left.id}/peers", headers=left.auth)
    assert {row["id"] for row in answer.json()} >= {parent.id, other.id}
    assert right.id not in {row["id"] for row in answer.json()}


@pytest.mark.contract("4.6", "2.1", era="april")
async def test_nobody_may_talk_to_a_workspace_that_is_not_there(site: Site) -> None:
    member = await site.create()
    assert not await allowed(site, member.id, workspace_id())
    assert not await allowed(site, workspace_id(), member.id)


@pytest.mark.contract("2.1", "24.11", era="june")
async def test_two_roots_may_not_talk_to_each_other(site: Site) -> None:
    one, two = await site.create("one"), await site.create("two")
    assert not await allowed(site, one.id, two.id)


@pytest.mark.contract("4.6", era="april")
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"caller_id": "x"}', b'{"caller_id": 1, "target_id": 2}'])
async def test_access_is_asked_with_two_ids(site: Site, body: bytes) -> None:
    refusal(await site.http.post("/registry/check-access", content=body), 400)
