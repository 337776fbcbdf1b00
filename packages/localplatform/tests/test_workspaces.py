"""Creating, changing and removing workspaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .support import frame_of

if TYPE_CHECKING:
    from .support import World

pytestmark = pytest.mark.anyio


async def test_an_external_workspace_comes_with_what_it_needs_to_connect(world: World) -> None:
    body = {"name": "alice", "runtime": "external", "role": "cook", "delivery_mode": "poll"}
    answer = await world.http.post("/workspaces", json=body, headers=world.admin)
    made = answer.json()
    connection = made["connection"]
    assert (answer.status_code, made["external"], made["status"]) == (201, True, "awaiting_agent")
    assert connection["workspace_id"] == made["id"] == made["id"].lower()
    assert connection["platform_url"] == world.platform.url
    assert connection["registry_endpoint"] == f"{world.platform.url}/registry/register"
    assert connection["auth_token"] not in connection["curl_register_template"]
    row = (await world.http.get(f"/workspaces/{made['id']}")).json()
    assert (row["name"], row["role"], row["runtime"], row["delivery_mode"]) == ("alice", "cook", "external", "poll")


async def test_an_external_workspace_with_a_url_is_online_and_has_no_token_yet(world: World) -> None:
    body = {"name": "alice", "external": True, "url": "http://127.0.0.1:9"}
    made = (await world.http.post("/workspaces", json=body, headers=world.admin)).json()
    assert (made["status"], "connection" in made) == ("online", False)
    registered = await world.http.post(
        "/registry/register", json={"id": made["id"], "agent_card": {}, "url": "http://127.0.0.1:9"}
    )
    assert registered.json()["auth_token"]


async def test_a_hosted_workspace_waits_for_its_host_which_gets_the_token(world: World) -> None:
    made = (await world.http.post("/workspaces", json={"name": "host"}, headers=world.admin)).json()
    assert made["status"] == "provisioning"
    registered = await world.http.post(
        "/registry/register", json={"id": made["id"], "agent_card": {}, "url": "http://127.0.0.1:9"}
    )
    assert registered.json()["auth_token"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "a\nb"},
        {"name": "a{b"},
        {"name": "x" * 256},
        {"name": "a", "role": "x" * 1001},
        {"name": "a", "role": "a|b"},
        {"name": "a", "model": "a\rb"},
        {"name": "a", "tier": 9},
        {"name": "a", "budget_limit": "x"},
        {"name": "a", "max_concurrent_tasks": 0},
        {"name": "a", "delivery_mode": "x"},
    ],
)
async def test_wrong_fields_are_a_400(world: World, body: dict[str, Any]) -> None:
    answer = await world.http.post("/workspaces", json=body, headers=world.admin)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid workspace fields")


async def test_a_parent_must_exist(world: World) -> None:
    for parent in ("nobody", "NOT OK"):
        answer = await world.http.post("/workspaces", json={"name": "a", "parent_id": parent}, headers=world.admin)
        assert answer.status_code == 400


async def test_the_open_read_hides_what_concerns_only_the_operator(world: World) -> None:
    alice = await world.create("alice", budget_limit=5)
    await world.beat(alice, current_task="secret plan", sample_error="trace")
    row = (await world.http.get(f"/workspaces/{alice.id}")).json()
    assert not {"budget_limit", "monthly_spend", "current_task", "last_sample_error"} & set(row)
    (full,) = (await world.http.get("/workspaces", headers=world.admin)).json()
    assert (full["budget_limit"], full["current_task"], full["last_sample_error"]) == (5, "secret plan", "trace")
    assert "inbound" not in str(full)


async def test_a_workspace_renames_itself_and_the_admin_does_the_rest(world: World) -> None:
    parent, left, right = await world.family()
    url = f"/workspaces/{left.id}"
    assert (await world.http.patch(url, json={"name": "new", "x": 3}, headers=left.auth)).json() == {
        "status": "updated"
    }
    refused = await world.http.patch(url, json={"parent_id": None}, headers=left.auth)
    assert (refused.status_code, refused.json()["code"]) == (403, "WORKSPACE_INFRASTRUCTURE_AUTH_REQUIRED")
    moved = await world.http.patch(url, json={"parent_id": right.id, "role": "cook", "tier": 1}, headers=world.admin)
    assert moved.status_code == 200
    row = (await world.http.get(url)).json()
    assert (row["name"], row["parent_id"], row["role"], row["tier"]) == ("new", right.id, "cook", 1)
    for body in (
        {"name": ""},
        {"name": "a>b"},
        {"tier": 8},
        {"role": 5},
        {"parent_id": left.id},
        {"parent_id": "nobody"},
    ):
        assert (await world.http.patch(url, json=body, headers=world.admin)).status_code == 400
    circle = await world.http.patch(f"/workspaces/{right.id}", json={"parent_id": left.id}, headers=world.admin)
    assert circle.status_code == 400
    assert (await world.http.patch("/workspaces/nobody", json={"name": "x"}, headers=world.admin)).status_code == 404
    assert parent.id


async def test_removing_a_parent_asks_first_and_then_takes_everything_below(world: World) -> None:
    parent, left, right = await world.family()
    asked = await world.http.delete(f"/workspaces/{parent.id}", headers=world.admin)
    assert (asked.status_code, asked.json()["status"]) == (409, "confirmation_required")
    assert (asked.json()["children_count"], "error" in asked.json()) == (2, False)
    async with world.platform.bus.subscribe() as stream:
        done = await world.http.delete(f"/workspaces/{parent.id}?confirm=true", headers=world.admin)
        assert done.json() == {"status": "removed", "cascade_deleted": 2}
        removed = {(await frame_of(stream, "WORKSPACE_REMOVED")).workspace_id for _ in range(3)}
    assert removed == {parent.id, left.id, right.id}
    assert (await world.http.get("/workspaces", headers=world.admin)).json() == []
    assert (await world.http.get(f"/workspaces/{left.id}/tokens", headers=left.auth)).status_code == 401
    assert (await world.http.post(f"/workspaces/{left.id}/tokens", headers=world.admin)).status_code == 404
    assert (await world.http.delete(f"/workspaces/{left.id}", headers=world.admin)).status_code == 404
    purged = await world.http.delete(f"/workspaces/{parent.id}?confirm=true&purge=true", headers=world.admin)
    assert purged.json()["status"] == "purged"
    assert (await world.http.get(f"/workspaces/{left.id}")).status_code == 404
