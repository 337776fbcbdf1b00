"""Workspace rows and their tokens (contract 14, 24.11)."""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .listening import listening
from .site import Member, refusal

if TYPE_CHECKING:
    import httpx

    from .site import Site

pytestmark = pytest.mark.anyio

PRIVATE = {"budget_limit", "monthly_spend", "current_task", "last_sample_error", "workspace_dir"}


async def create(site: Site, **fields: Any) -> httpx.Response:
    answer = await site.http.post("/workspaces", json=fields, headers=site.admin)
    if answer.status_code == 201:
        site.created.append(answer.json()["id"])
    return answer


async def patch(site: Site, member: Member, body: dict[str, Any], *, admin: bool = False) -> httpx.Response:
    headers = site.admin if admin else member.auth
    return await site.http.patch(f"/workspaces/{member.id}", json=body, headers=headers)


async def remove(site: Site, member: Member, **query: str) -> httpx.Response:
    return await site.http.delete(f"/workspaces/{member.id}", params=query, headers=site.admin)


@pytest.mark.contract("14.2", "14.5", "1.5", era="april")
async def test_an_external_workspace_is_created_with_a_token_shown_once(site: Site) -> None:
    answer = await create(site, name=f"alice {uuid.uuid4()}", runtime="external", external=True)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["external"] is True
    assert made["status"] == "awaiting_agent"
    connection = made["connection"]
    assert connection.keys() >= {
        "workspace_id", "platform_url", "auth_token", "registry_endpoint", "heartbeat_endpoint", "curl_register_template",
        "python_snippet",
    }  # fmt: skip
    assert connection["workspace_id"] == made["id"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", connection["auth_token"])
    assert connection["registry_endpoint"].endswith("/registry/register")
    assert connection["heartbeat_endpoint"].endswith("/registry/heartbeat")
    member = Member(made["id"], "", connection["auth_token"])
    assert await site.get(member, "activity") == []
    shown = json.dumps([await site.read(member), await site.full(member), await site.get(member, "tokens")])
    assert connection["auth_token"] not in shown


@pytest.mark.contract("14.5", era="april")
async def test_an_external_workspace_with_a_url_is_online_at_once_and_has_no_token_yet(site: Site) -> None:
    answer = await create(
        site, name=f"alice {uuid.uuid4()}", runtime="external", external=True, url="http://localhost:9/"
    )
    made = answer.json()
    assert (answer.status_code, made["external"], made["status"]) == (201, True, "online")
    assert "connection" not in made
    member = Member(made["id"], "", "")
    assert await site.status_of(member) == "online"


@pytest.mark.contract("24.3", "24.11", era="june")
async def test_a_workspace_may_be_created_as_one_that_polls(site: Site) -> None:
    member = await site.create(delivery_mode="poll")
    # It need not have been there yet.
    answer = await site.send(None, member, "early")
    assert (answer.status_code, answer.json()["delivery_mode"]) == (200, "poll")
    assert len(await site.inbox(member)) == 1
    body = {"id": member.id, "agent_card": {"name": member.name}}
    answer = await site.http.post("/registry/register", json=body, headers=member.auth)
    assert answer.json()["delivery_mode"] == "poll", answer.text


@pytest.mark.contract("14.5", "2.4", era="june")
async def test_an_external_workspace_waits_for_its_agent(site: Site) -> None:
    assert await site.status_of(await site.create()) == "awaiting_agent"


@pytest.mark.contract("14.2", era="april")
async def test_a_workspace_that_the_platform_runs_is_provisioned(site: Site) -> None:
    answer = await create(site, name=f"hosted {uuid.uuid4()}", workspace_access="read_only", tier=2)
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert (made["status"], made["workspace_access"]) == ("provisioning", "read_only")
    assert isinstance(made["awareness_namespace"], str)
    assert "connection" not in made


@pytest.mark.contract("24.11", era="june")
async def test_a_workspace_that_names_no_runtime_runs_claude_code(site: Site) -> None:
    answer = await create(site, name=f"hosted {uuid.uuid4()}")
    row = await site.read(Member(answer.json()["id"], "", ""))
    assert (row["runtime"], row["status"]) == ("claude-code", "provisioning")


@pytest.mark.contract("14.2", "14.1", era="april")
async def test_what_a_workspace_is_created_with_is_read_back(site: Site) -> None:
    parent = await site.create("parent")
    member = await site.create(
        "child", parent_id=parent.id, role="reads", tier=2, max_concurrent_tasks=4, canvas={"x": 3, "y": -4.5},
        budget_limit=700,
    )  # fmt: skip
    row = await site.read(member)
    assert (row["name"], row["role"], row["tier"], row["parent_id"]) == (member.name, "reads", 2, parent.id)
    assert (row["max_concurrent_tasks"], row["x"], row["y"]) == (4, 3, -4.5)
    assert (await site.full(member))["budget_limit"] == 700


@pytest.mark.contract("14.2", era="april")
async def test_what_is_not_said_at_creation_has_its_default(site: Site) -> None:
    member = await site.create()
    row = await site.read(member)
    assert (row["tier"], row["parent_id"], row["max_concurrent_tasks"], row["active_tasks"]) == (3, None, 1, 0)
    full = await site.full(member)
    assert (full["budget_limit"], full["monthly_spend"]) == (None, 0)


@pytest.mark.contract("14.2", "21", era="april")
@pytest.mark.parametrize(
    "fields",
    [{"name": "n" * 256}, {"role": "r" * 1001}, {"model": "m" * 101}, {"runtime": "r" * 101}, {"name": "a\nb"}, {"name": "a\rb"},
     {"role": "a\nb"}, {"model": "a\nb"}, {"runtime": "a\r\nb"}, *({"name": f"a{mark}b"} for mark in "{}[]|>*&!"),
     *({"role": f"a{mark}b"} for mark in "{}[]|>*&!")],
    ids=str,
)  # fmt: skip
async def test_names_that_could_break_a_configuration_are_refused_with_a_fixed_text(
    site: Site, fields: dict[str, str]
) -> None:
    answer = await create(site, **{"name": "alice", "runtime": "external", "external": True, **fields})
    refusal(answer, 400, "invalid workspace fields")


@pytest.mark.contract("14.2", "1.2", era="april")
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"name": ""}', b'{"name": 7}', b'{"name": "x", "tier": "high"}']
)
async def test_a_workspace_without_a_name_is_refused(site: Site, body: bytes) -> None:
    refusal(await site.http.post("/workspaces", content=body, headers=site.admin), 400)


@pytest.mark.contract("14.2", "21", era="april")
async def test_the_longest_names_are_taken(site: Site) -> None:
    name = f"{uuid.uuid4()} ".ljust(255, "n")
    answer = await create(site, name=name, role="r" * 1000, model="m" * 100, runtime="external", external=True)
    assert answer.status_code == 201, answer.text
    assert (await site.read(Member(answer.json()["id"], "", "")))["name"] == name


@pytest.mark.contract("14.2", "14.3", era="april")
async def test_names_are_written_in_any_language(site: Site) -> None:
    name = f"Zoë Ōkami 狼 🐺 {uuid.uuid4()}"
    answer = await create(site, name=name, role="наблюдает", runtime="external", external=True)
    assert answer.status_code == 201, answer.text
    member = Member(answer.json()["id"], name, answer.json()["connection"]["auth_token"])
    row = await site.read(member)
    assert (row["name"], row["role"]) == (name, "наблюдает")
    assert (await patch(site, member, {"role": "يراقب"})).status_code == 200
    assert (await site.read(member))["role"] == "يراقب"


@pytest.mark.contract("14.2", era="june")
@pytest.mark.parametrize(
    "fields",
    [{"workspace_access": "all"}, {"max_concurrent_tasks": "many"}, {"max_concurrent_tasks": 0}, {"external": "perhaps"},
     {"canvas": 7}, {"secrets": ["KEY"]}, {"budget_limit": "much"}, {"budget_limit": -1}, {"delivery_mode": "pull"},
     {"initial_memories": [{"content": "x", "scope": "EVERYWHERE"}]}, {"parent_id": "Not An Id"}],
    ids=str,
)  # fmt: skip
async def test_a_workspace_is_not_created_with_what_makes_no_sense(site: Site, fields: dict[str, Any]) -> None:
    name = f"alice {uuid.uuid4()}"
    refusal(await create(site, **{"name": name, "runtime": "external", "external": True, **fields}), 400)
    listed = (await site.http.get("/workspaces", headers=site.admin)).json()
    assert name not in {row["name"] for row in listed}


@pytest.mark.contract("1.5", "24.11", "28.2", era="june")
async def test_only_the_admin_creates_lists_and_removes_workspaces(site: Site) -> None:
    member = await site.create()
    asked = [("POST", "/workspaces"), ("GET", "/workspaces"), ("DELETE", f"/workspaces/{member.id}")]
    for method, path in asked:
        body = b'{"name": "x"}' if method == "POST" else b""
        refusal(await site.http.request(method, path, content=body), 401, "admin auth required")
        answer = await site.http.request(method, path, content=body, headers=member.auth)
        refusal(answer, 401, "invalid admin auth token")
    assert await site.status_of(member) == "awaiting_agent"


@pytest.mark.contract("14.1", era="april")
async def test_the_admin_lists_workspaces(site: Site) -> None:
    kept, gone = await site.create("kept"), await site.create("gone")
    await remove(site, gone)
    answer = await site.http.get("/workspaces", headers=site.admin)
    assert answer.status_code == 200
    rows = {row["id"]: row for row in answer.json()}
    assert gone.id not in rows
    assert rows[kept.id].keys() >= PRIVATE | {"id", "name", "status", "parent_id"}


@pytest.mark.contract("14.1", era="april")
async def test_one_workspace_is_read_without_credentials_and_without_private_figures(site: Site) -> None:
    member = await site.create()
    row = await site.read(member)
    assert row.keys() >= {
        "id", "name", "role", "tier", "status", "url", "parent_id", "agent_card", "active_tasks", "max_concurrent_tasks",
        "last_error_rate", "uptime_seconds", "runtime", "x", "y", "collapsed", "last_outbound_at",
    }  # fmt: skip
    assert (row["id"], row["runtime"], row["collapsed"]) == (member.id, "external", False)
    assert not row.keys() & PRIVATE


@pytest.mark.contract("14.1", era="april")
async def test_a_workspace_that_never_was_is_a_404_and_what_is_no_id_a_400(site: Site) -> None:
    refusal(await site.http.get(f"/workspaces/{uuid.uuid4()}"), 404)
    refusal(await site.http.get("/workspaces/Not_An_Id"), 400, "invalid workspace ID")


@pytest.mark.contract("24.11", "14.1", era="june")
async def test_a_removed_workspace_is_gone_and_can_still_be_looked_at(site: Site) -> None:
    member = await site.create()
    await remove(site, member)
    body = refusal(await site.http.get(f"/workspaces/{member.id}"), 410, "workspace removed")
    assert body["id"] == member.id
    assert body["removed_at"]
    assert body["hint"]
    assert (await site.read(member, include_removed="true"))["status"] == "removed"


@pytest.mark.contract("14.3", era="april")
async def test_a_workspace_changes_its_own_name_and_role(site: Site) -> None:
    member = await site.create()
    name = f"renamed {uuid.uuid4()}"
    answer = await patch(site, member, {"name": name, "role": "writes", "x": 10, "y": 20.5, "collapsed": True})
    assert (answer.status_code, answer.json()["status"]) == (200, "updated"), answer.text
    row = await site.read(member)
    assert (row["name"], row["role"], row["x"], row["y"], row["collapsed"]) == (name, "writes", 10, 20.5, True)


@pytest.mark.contract("14.3", era="april")
async def test_the_admin_changes_everything(site: Site) -> None:
    parent, member = await site.create("parent"), await site.create()
    answer = await patch(site, member, {"tier": 2, "parent_id": parent.id}, admin=True)
    assert answer.status_code == 200, answer.text
    row = await site.read(member)
    assert (row["tier"], row["parent_id"]) == (2, parent.id)
    answer = await patch(site, member, {"parent_id": None}, admin=True)
    assert answer.status_code == 200, answer.text
    assert (await site.read(member))["parent_id"] is None


@pytest.mark.contract("14.3", era="june")
@pytest.mark.parametrize("body", [{"tier": 1}, {"runtime": "codex"}, {"workspace_dir": "/tmp/x"}, {"parent_id": None}])  # noqa: S108
async def test_a_workspace_does_not_change_where_and_how_it_runs(site: Site, body: dict[str, Any]) -> None:
    member = await site.create()
    refused = refusal(await patch(site, member, body | {"name": "changed"}), 403)
    assert refused["code"] == "WORKSPACE_INFRASTRUCTURE_AUTH_REQUIRED"
    assert (await site.read(member))["name"] == member.name


@pytest.mark.contract("14.3", era="june")
async def test_a_change_of_the_runtime_says_that_a_restart_is_needed(site: Site) -> None:
    member = await site.create()
    answer = await patch(site, member, {"runtime": "codex"}, admin=True)
    assert answer.json() == {"status": "updated", "needs_restart": True}


@pytest.mark.contract("14.3", era="april")
async def test_a_null_takes_away_what_a_workspace_need_not_have_and_is_nothing_otherwise(site: Site) -> None:
    parent = await site.create("parent")
    member = await site.create(parent_id=parent.id, role="reads", tier=2)
    answer = await patch(site, member, {"name": None, "tier": None, "collapsed": None, "parent_id": None}, admin=True)
    assert answer.status_code == 200, answer.text
    row = await site.read(member)
    assert (row["name"], row["tier"], row["collapsed"], row["parent_id"]) == (member.name, 2, False, None)


@pytest.mark.contract("14.3", "14.2", era="april")
async def test_changes_are_checked_and_say_what_is_wrong(site: Site) -> None:
    member = await site.create()
    refusal(await patch(site, member, {"name": "a>b"}), 400, "name contains invalid characters")
    refusal(await patch(site, member, {"role": "a\nb"}), 400)
    refusal(await patch(site, member, {"name": "n" * 256}), 400)
    refusal(await patch(site, member, {"role": "r" * 1001}), 400)
    answer = await site.http.patch(f"/workspaces/{member.id}", content=b"[", headers=member.auth)
    refusal(answer, 400)
    assert (await site.read(member))["name"] == member.name


@pytest.mark.contract("14.3", era="april")
async def test_a_workspace_that_is_not_there_cannot_be_changed(site: Site) -> None:
    refusal(await patch(site, Member(str(uuid.uuid4()), "", ""), {"name": "x"}, admin=True), 404)


@pytest.mark.contract("14.3", era="april")
async def test_a_parent_is_removed_only_when_confirmed(site: Site) -> None:
    parent, left, right = await site.family()
    grandchild = await site.create("grandchild", parent_id=left.id)
    answer = await remove(site, parent)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (409, "confirmation_required")
    assert "error" not in body
    assert body["message"]
    assert body["children_count"] == 2
    assert {child["id"]: child["name"] for child in body["children"]} == {left.id: left.name, right.id: right.name}
    answer = await remove(site, parent, confirm="true")
    assert (answer.status_code, answer.json()) == (200, {"status": "removed", "cascade_deleted": 3})
    rows = {row["id"] for row in (await site.http.get("/workspaces", headers=site.admin)).json()}
    assert not rows & {parent.id, left.id, right.id, grandchild.id}


@pytest.mark.contract("14.3", era="april")
async def test_a_workspace_without_children_is_removed_at_once(site: Site) -> None:
    member = await site.create()
    answer = await remove(site, member)
    assert (answer.status_code, answer.json()) == (200, {"status": "removed", "cascade_deleted": 0})


@pytest.mark.contract("14.2", "14.3", "14.5", "17.5", era="april")
async def test_the_beginning_and_the_end_of_a_workspace_are_told(site: Site) -> None:
    async with listening(site.server, site.admin) as frames:
        member = await site.create()
        await frames.frame("WORKSPACE_AWAITING_AGENT", member)
        answer = await create(site, name=f"hosted {uuid.uuid4()}", tier=2)
        hosted = Member(answer.json()["id"], "", "")
        await frames.frame("WORKSPACE_PROVISIONING", hosted, tier=2)
        await remove(site, member)
        await frames.frame("WORKSPACE_REMOVED", member)


@pytest.mark.contract("14.3", era="april")
async def test_a_workspace_is_purged_with_its_history(site: Site) -> None:
    member = await site.create()
    answer = await remove(site, member, confirm="true", purge="true")
    assert (answer.status_code, answer.json()) == (200, {"status": "purged", "cascade_deleted": 0})
    refusal(await site.http.get(f"/workspaces/{member.id}", params={"include_removed": "true"}), 404)


@pytest.mark.contract("14.3", "1.5", "26.5", era="april")
async def test_the_tokens_of_a_removed_workspace_are_dead(site: Site) -> None:
    parent, left, _ = await site.family()
    await remove(site, parent, confirm="true")
    for member in (parent, left):
        answer = await site.http.get(f"/workspaces/{member.id}/activity", headers=member.auth)
        refusal(answer, 401, "invalid workspace auth token")


@pytest.mark.contract("14.4", "1.5", era="april")
async def test_tokens_are_minted_listed_and_revoked(site: Site) -> None:
    member = await site.create()
    minted = await site.post(member, "tokens", status=201)
    assert minted.keys() >= {"auth_token", "workspace_id", "message"}
    assert minted["workspace_id"] == member.id
    new = Member(member.id, member.name, minted["auth_token"])
    assert await site.get(new, "activity") == []
    listed = await site.get(member, "tokens")
    assert listed["count"] == len(listed["tokens"]) == 2
    assert all(token.keys() >= {"id", "prefix", "created_at", "last_used_at"} for token in listed["tokens"])
    assert new.token not in json.dumps(listed)
    (row,) = (token for token in listed["tokens"] if token["prefix"] == new.token[:8])
    assert row["last_used_at"]
    path = f"/workspaces/{member.id}/tokens/{row['id']}"
    answer = await site.http.delete(path, headers=member.auth)
    assert (answer.status_code, answer.json()) == (200, {"status": "revoked"})
    answer = await site.http.get(f"/workspaces/{member.id}/activity", headers=new.auth)
    refusal(answer, 401, "invalid workspace auth token")
    refusal(await site.http.delete(path, headers=member.auth), 404)
    assert (await site.get(member, "tokens"))["count"] == 1


@pytest.mark.contract("14.4", era="april")
async def test_a_token_of_another_workspace_is_not_revoked(site: Site) -> None:
    one, two = await site.create("one"), await site.create("two")
    (row,) = (await site.get(two, "tokens"))["tokens"]
    refusal(await site.http.delete(f"/workspaces/{one.id}/tokens/{row['id']}", headers=one.auth), 404)
    assert (await site.get(two, "tokens"))["count"] == 1


@pytest.mark.contract("14.4", "1.3", era="april")
async def test_a_workspace_has_at_most_fifty_live_tokens(site: Site) -> None:
    member = await site.create()
    for _ in range(49):
        await site.post(member, "tokens", status=201)
    refusal(await site.http.post(f"/workspaces/{member.id}/tokens", headers=member.auth), 429)
    listed = (await site.get(member, "tokens"))["tokens"]
    assert len(listed) == 50
    (spare, *_) = (row["id"] for row in listed if row["prefix"] != member.token[:8])
    await site.http.delete(f"/workspaces/{member.id}/tokens/{spare}", headers=member.auth)
    await site.post(member, "tokens", status=201)
