"""Schedules (contract 12). That they are sent in time is for tests that can move the server's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from .site import refusal

if TYPE_CHECKING:
    from .site import Member, Site

pytestmark = pytest.mark.anyio

YEARLY = "0 9 1 1 *"
ROW = {
    "id",
    "workspace_id",
    "name",
    "cron_expr",
    "timezone",
    "prompt",
    "enabled",
    "last_run_at",
    "next_run_at",
    "run_count",
    "last_status",
    "last_error",
    "source",
    "created_at",
    "updated_at",
}
HEALTH = {"id", "name", "enabled", "last_run_at", "next_run_at", "run_count", "last_status", "last_error"}


async def add(site: Site, member: Member, **fields: Any) -> str:
    body = {"cron_expr": YEARLY, "prompt": "cook", **fields}
    made = await site.post(member, "schedules", body, status=201)
    assert made["status"] == "created"
    return str(made["id"])


def is_ahead(moment: str) -> bool:
    return datetime.fromisoformat(moment) > datetime.now(UTC) - timedelta(minutes=1)


@pytest.mark.contract("12.1", "12.2", "12.3", era="april")
async def test_a_schedule_is_created_listed_changed_and_deleted(site: Site) -> None:
    alice = await site.create("alice")
    body = {"name": "soup", "cron_expr": YEARLY, "prompt": "cook", "timezone": "Europe/Berlin"}
    made = await site.post(alice, "schedules", body, status=201)
    assert is_ahead(made["next_run_at"])
    (row,) = await site.get(alice, "schedules")
    assert row.keys() >= ROW
    assert {key: row[key] for key in body} == body
    assert (row["id"], row["workspace_id"], row["enabled"], row["source"]) == (made["id"], alice.id, True, "runtime")
    assert (row["run_count"], row["last_run_at"]) == (0, None)
    moment = datetime.fromisoformat(row["next_run_at"]).astimezone(UTC)
    assert (moment.month, moment.day, moment.hour, moment.minute) == (1, 1, 8, 0)
    path = f"/workspaces/{alice.id}/schedules/{made['id']}"
    changed = await site.http.patch(path, json={"cron_expr": "0 9 2 1 *", "timezone": "UTC"}, headers=alice.auth)
    assert (changed.status_code, changed.json()["status"]) == (200, "updated")
    (row,) = await site.get(alice, "schedules")
    moment = datetime.fromisoformat(row["next_run_at"]).astimezone(UTC)
    assert (moment.month, moment.day, moment.hour, row["prompt"]) == (1, 2, 9, "cook")
    deleted = await site.http.delete(path, headers=alice.auth)
    assert (deleted.status_code, deleted.json()["status"]) == (200, "deleted")
    assert await site.get(alice, "schedules") == []


@pytest.mark.contract("12.3", era="april")
async def test_a_schedule_that_is_not_there_is_a_404(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    for schedule_id in ("00000000-0000-4000-8000-000000000000", await add(site, bob)):
        path = f"/workspaces/{alice.id}/schedules/{schedule_id}"
        refusal(await site.http.patch(path, json={"prompt": "mine"}, headers=alice.auth), 404, "schedule not found")
        refusal(await site.http.delete(path, headers=alice.auth), 404, "schedule not found")
        refusal(await site.http.post(f"{path}/run", headers=alice.auth), 404)
    (row,) = await site.get(bob, "schedules")
    assert row["prompt"] == "cook"


@pytest.mark.contract("12.2", era="april")
@pytest.mark.parametrize(
    "change",
    [
        {"cron_expr": ""},
        {"cron_expr": "every day"},
        {"cron_expr": "61 * * * *"},
        {"cron_expr": "0 0 31 2 *"},
        {"timezone": "Atlantis/Capital"},
        {"prompt": ""},
    ],
)
async def test_a_schedule_that_cannot_be_kept_is_a_400(site: Site, change: dict[str, str]) -> None:
    alice = await site.create("alice")
    await site.post(alice, "schedules", {"cron_expr": YEARLY, "prompt": "cook", **change}, status=400)
    assert await site.get(alice, "schedules") == []


@pytest.mark.contract("12.2", "12.3", era="june")
@pytest.mark.parametrize(
    "change",
    [
        {"cron_expr": "* * * * * *"},
        {"cron_expr": "*/99999999999999999999-1 * * * *"},
        {"cron_expr": "* " * 500},
        {"cron_expr": 5},
        {"timezone": "../../etc/passwd"},
        {"timezone": "Europe"},
        {"timezone": "a\0b"},
        {"prompt": "\r\n"},
        {"prompt": "x" * 1_000_000},
        {"name": "x" * 10_000},
        {"enabled": "perhaps"},
    ],
)
async def test_odd_input_is_refused_and_changes_nothing(site: Site, change: dict[str, Any]) -> None:
    alice = await site.create("alice")
    await site.post(alice, "schedules", {"cron_expr": YEARLY, "prompt": "cook", **change}, status=400)
    schedule_id = await add(site, alice)
    (before,) = await site.get(alice, "schedules")
    answer = await site.http.patch(f"/workspaces/{alice.id}/schedules/{schedule_id}", json=change, headers=alice.auth)
    refusal(answer, 400)
    assert await site.get(alice, "schedules") == [before]


@pytest.mark.contract("12.2", era="april")
async def test_a_name_is_taken_once_in_a_workspace(site: Site) -> None:
    """April answers 500; a server that says what is wrong answers 409."""
    alice, bob = await site.create("alice"), await site.create("bob")
    for name in ("soup", ""):
        await add(site, alice, name=name)
        body = {"cron_expr": YEARLY, "prompt": "bake", "name": name}
        answer = await site.http.post(f"/workspaces/{alice.id}/schedules", json=body, headers=alice.auth)
        assert answer.status_code in {409, 500}
        await add(site, bob, name=name)
    assert [row["prompt"] for row in await site.get(alice, "schedules")] == ["cook", "cook"]


@pytest.mark.contract("12.2", "12.4", era="april")
async def test_running_by_hand_returns_the_prompt(site: Site) -> None:
    alice = await site.create("alice")
    schedule_id = await add(site, alice, prompt="cook\r\nsoup")
    fired = await site.post(alice, f"schedules/{schedule_id}/run")
    assert (fired["status"], fired["workspace_id"]) == ("fired", alice.id)
    assert fired["prompt"] in {"cook\nsoup", "cooksoup"}


@pytest.mark.contract("12.5", era="april")
async def test_a_new_schedule_has_no_history(site: Site) -> None:
    alice = await site.create("alice")
    assert not await site.get(alice, f"schedules/{await add(site, alice)}/history")


@pytest.mark.contract("12.2", "12.3", era="june")
async def test_a_schedule_is_switched_off_and_on(site: Site) -> None:
    alice = await site.create("alice")
    schedule_id = await add(site, alice, enabled=False)
    path = f"/workspaces/{alice.id}/schedules/{schedule_id}"
    (row,) = await site.get(alice, "schedules")
    assert row["enabled"] is False
    assert (await site.http.patch(path, json={"enabled": True}, headers=alice.auth)).status_code == 200
    (row,) = await site.get(alice, "schedules")
    assert (row["enabled"], is_ahead(row["next_run_at"])) == (True, True)


@pytest.mark.contract("12.6", "2.1", era="april")
async def test_peers_see_how_schedules_fare_and_strangers_do_not(site: Site) -> None:
    parent, left, right = await site.family()
    stranger = await site.create("stranger", parent_id=(await site.create("elsewhere")).id)
    schedule_id = await add(site, left, name="soup")
    path = f"/workspaces/{left.id}/schedules/health"
    for caller in (left, right, parent):
        answer = await site.http.get(path, headers=caller.identity)
        assert answer.status_code == 200, answer.text
        (row,) = answer.json()
        assert row.keys() >= HEALTH
        assert (row["id"], row["name"], "prompt" in row) == (schedule_id, "soup", False)
    refusal(await site.http.get(path, headers=stranger.identity), 403)
    refusal(await site.http.get(path, headers={"X-Workspace-ID": right.id}), 401)
    refusal(await site.http.get(path, headers={**stranger.auth, "X-Workspace-ID": right.id}), 401)
    refusal(await site.http.get(path, headers=right.auth), 401)


@pytest.mark.contract("1.5", "12.1", era="june")
async def test_schedules_are_their_workspaces_own(site: Site) -> None:
    _, left, right = await site.family()
    schedule_id = await add(site, left)
    path = f"/workspaces/{left.id}/schedules"
    body = {"cron_expr": YEARLY, "prompt": "mine", "name": "mine"}
    for headers in ({}, right.auth):
        refusal(await site.http.get(path, headers=headers), 401)
        refusal(await site.http.post(path, json=body, headers=headers), 401)
        refusal(await site.http.patch(f"{path}/{schedule_id}", json=body, headers=headers), 401)
        refusal(await site.http.delete(f"{path}/{schedule_id}", headers=headers), 401)
        refusal(await site.http.post(f"{path}/{schedule_id}/run", headers=headers), 401)
        refusal(await site.http.get(f"{path}/{schedule_id}/history", headers=headers), 401)
    assert [row["prompt"] for row in await site.get(left, "schedules")] == ["cook"]
