"""The goal and the tasks that a workspace keeps for itself."""

from __future__ import annotations

import dataclasses
import sqlite3
import stat
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import Http, Member

from molecule_runtime.tools import work_store
from molecule_runtime.tools.work_store import FILE_NAME, WorkStore

from .support import context, done, refused

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice-0001")
BOB = Member("bob", "token-of-bob-000001")


def kept(ctx: ToolContext, folder: Path | None) -> ToolContext:
    return dataclasses.replace(ctx, state_dir=folder)


async def titles(ctx: ToolContext, **arguments: Any) -> list[str]:
    return [task["title"] for task in (await done(ctx, "task_list", **arguments)).structured["tasks"]]


async def test_a_goal_is_set_replaced_and_cleared_and_outlives_the_process(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    ctx = kept(context(pools, (scripted.url, ALICE)), tmp_path / "state")
    assert (await done(ctx, "goal_get")).structured == {"goal": None}
    await done(ctx, "goal_set", goal="ship it")
    first = (await done(ctx, "goal_set", goal="ship it well", cadence_seconds=600)).structured
    again = kept(context(pools, (scripted.url, ALICE)), tmp_path / "state")
    assert (await done(again, "goal_get")).structured == first
    assert (first["goal"], first["cadence_seconds"]) == ("ship it well", 600)
    assert (await done(ctx, "goal_clear")).structured == {"cleared": True, "goal": None}
    assert (await done(ctx, "goal_clear")).structured == {"cleared": False, "goal": None}
    assert scripted.received == []
    assert stat.S_IMODE((tmp_path / "state" / FILE_NAME).stat().st_mode) == 0o600


async def test_tasks_are_added_changed_and_listed_with_what_is_open_first(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    ctx = kept(context(pools, (scripted.url, ALICE)), tmp_path)
    ids = [(await done(ctx, "task_add", title=title)).structured["task"]["id"] for title in ("one", "two", "three")]
    updated = await done(ctx, "task_update", task_id=ids[0], status="In_Progress", next_action="read the log")
    assert updated.structured["task"] | {"updated_at": ""} == {
        "id": ids[0], "title": "one", "status": "in_progress", "next_action": "read the log",
        "created_at": updated.structured["task"]["created_at"], "updated_at": "",
    }  # fmt: skip
    await done(ctx, "task_update", task_id=ids[0], next_action="")
    completed = (await done(ctx, "task_complete", task_id=ids[2])).structured["task"]
    assert (completed["status"], completed["title"]) == ("completed", "three")
    listed = (await done(ctx, "task_list", limit=2)).structured
    assert [task["title"] for task in listed["tasks"]] == ["one", "two"]
    assert (listed["count"], listed["total"], listed["tasks"][0]["next_action"]) == (2, 3, "")
    assert await titles(ctx, status="completed") == ["three"]
    assert await titles(ctx) == ["one", "two", "three"]

    assert "is none of: open, in_progress, blocked, completed" in await refused(
        ctx, "task_update", task_id=ids[0], status="done"
    )
    assert "is none of" in await refused(ctx, "task_list", status="done")
    assert "nothing would change" in await refused(ctx, "task_update", task_id=ids[0])
    assert "no task 't-x'" in await refused(ctx, "task_complete", task_id="t-x")
    assert "it holds 300" in await refused(ctx, "task_add", title="t" * 301)


async def test_each_workspace_of_each_platform_has_its_own(
    scripted: Http, agent: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    ctx = kept(context(pools, (scripted.url, ALICE), (scripted.url, BOB)), tmp_path)
    elsewhere = kept(context(pools, (agent.url, ALICE)), tmp_path)
    task = (await done(ctx, "task_add", title="of alice", source_workspace_id="alice")).structured["task"]["id"]
    assert await titles(ctx, source_workspace_id="bob") == []
    assert await titles(elsewhere) == []
    assert "no task" in await refused(ctx, "task_complete", task_id=task, source_workspace_id="bob")
    assert "name one in source_workspace_id" in await refused(ctx, "goal_get")


async def test_many_at_once_lose_nothing_and_the_number_is_bounded(
    scripted: Http, pools: ConnectionPools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_store, "MAX_TASKS", 12)
    ctx = kept(context(pools, (scripted.url, ALICE)), tmp_path)
    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(lambda title: done(ctx, "task_add", title=title), str(number))
    assert sorted(await titles(ctx), key=int) == [str(number) for number in range(12)]
    assert "there are 12 tasks" in await refused(ctx, "task_add", title="12")
    first = (await done(ctx, "task_list")).structured["tasks"][0]
    await done(ctx, "task_complete", task_id=first["id"])
    await done(ctx, "task_add", title="12")
    assert first["title"] not in await titles(ctx)


async def test_without_a_folder_or_with_a_file_that_is_none_of_ours_the_reason_is_told(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    base = context(pools, (scripted.url, ALICE))
    assert "no folder for state" in await refused(kept(base, None), "goal_get")
    (tmp_path / FILE_NAME).write_text("this is no database, but long enough to be one " * 30)
    assert "cannot be used" in await refused(kept(base, tmp_path), "goal_get")
    (tmp_path / "newer").mkdir()
    with sqlite3.connect(tmp_path / "newer" / FILE_NAME) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "written by a newer version" in await refused(kept(base, tmp_path / "newer"), "goal_get")


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(work_store.WorkStoreError, match="cannot be used"):
        WorkStore(tmp_path / FILE_NAME, "x").goal()
    assert (tmp_path / "elsewhere").read_text() == ""
