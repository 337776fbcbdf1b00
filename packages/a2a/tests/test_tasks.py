"""The host's memory of tasks: what it keeps, what it forgets, and what a restart makes of it."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from a2a.auth.user import User
from a2a.helpers import get_message_text, new_text_message, new_text_part
from a2a.server.context import ServerCallContext
from a2a.types import Artifact, ListTasksRequest, Task, TaskState, TaskStatus
from a2a.utils.errors import InvalidParamsError

from molecule_runtime.a2a.errors import StateFileError
from molecule_runtime.a2a.statefile import MIGRATIONS, StateFile, open_state
from molecule_runtime.a2a.tasks import RESTARTED, TaskLimits, Tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

RUNNING, DONE = TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED
ANYBODY = ServerCallContext()


class Named(User):
    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._name


@asynccontextmanager
async def tasks_in(path: Path | None, limits: TaskLimits | None = None) -> AsyncGenerator[Tasks]:
    async with open_state(path) as state:
        tasks = Tasks(state, limits)
        await tasks.start()
        yield tasks


@pytest.fixture(params=["disk", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "state.sqlite3" if request.param == "disk" else None


def task(name: str, state: TaskState, *, context: str = "c", second: int | None = None) -> Task:
    made = Task(id=name, context_id=context, status=TaskStatus(state=state))
    if second is not None:
        made.status.timestamp.FromDatetime(datetime.fromtimestamp(1_700_000_000 + second, UTC))
    return made


async def kept(store: Tasks, *names: str, context: ServerCallContext = ANYBODY) -> list[str]:
    return [name for name in names if await store.get(name, context) is not None]


async def listed(store: Tasks, context: ServerCallContext = ANYBODY, **asked: object) -> list[str]:
    page = await store.list(ListTasksRequest(**asked), context)  # type: ignore[arg-type]
    return [found.id for found in page.tasks]


async def test_the_latest_tasks_that_ended_are_kept_and_every_one_that_runs(path: Path | None) -> None:
    async with tasks_in(path, TaskLimits(max_finished=2)) as store:
        await store.save(task("runs", RUNNING), ANYBODY)
        for name in ("a", "b", "c"):
            await store.save(task(name, RUNNING), ANYBODY)
            await store.save(task(name, DONE), ANYBODY)
            await store.save(task(name, DONE), ANYBODY)
        assert await kept(store, "runs", "a", "b", "c") == ["runs", "b", "c"]
        assert await listed(store) == ["c", "b", "runs"]


async def test_large_tasks_are_forgotten_sooner_but_not_the_one_that_has_just_ended(path: Path | None) -> None:
    async with tasks_in(path, TaskLimits(max_bytes=1000)) as store:
        await store.save(task("a", DONE), ANYBODY)
        await store.save(task("b", DONE), ANYBODY)
        await store.save(task("large", DONE, context="x" * 2000), ANYBODY)
        assert await kept(store, "a", "b", "large") == ["large"]
        await store.delete("large", ANYBODY)
        await store.save(task("e", DONE, context="x" * 600), ANYBODY)
        await store.save(task("f", DONE, context="x" * 300), ANYBODY)
        assert await kept(store, "large", "e", "f") == ["e", "f"]


async def test_a_task_that_ended_too_long_ago_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with tasks_in(path) as store:
        await store.save(task("old", DONE), ANYBODY)
        await store.save(task("parked", TaskState.TASK_STATE_INPUT_REQUIRED, second=0), ANYBODY)
        await store.save(task("runs", RUNNING), ANYBODY)
    async with open_state(path) as state:
        await state.run(lambda db: db.execute("UPDATE tasks SET ended = ended - 3600 WHERE ended IS NOT NULL"))
        store = Tasks(state, TaskLimits(max_age=1800))
        assert await kept(store, "old") == []
        assert await listed(store) == ["runs", "parked"]
        await store.start()
        assert await state.run(lambda db: db.execute("SELECT id FROM tasks").fetchall()) == [("runs",)]


async def test_a_restart_ends_the_tasks_that_ran_and_keeps_the_others(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with tasks_in(path) as store:
        working = task("ran", RUNNING)
        working.status.message.CopyFrom(new_text_message("half of it"))
        await store.save(working, ANYBODY)
        await store.save(task("submitted", TaskState.TASK_STATE_SUBMITTED), ANYBODY)
        await store.save(task("done", DONE), ANYBODY)
        await store.save(task("asks", TaskState.TASK_STATE_INPUT_REQUIRED), ANYBODY)
    async with open_state(path) as state:
        store = Tasks(state)
        assert await store.start() == 2
        for name in ("ran", "submitted"):
            ended = await store.get(name, ANYBODY)
            assert ended is not None
            assert ended.status.state == TaskState.TASK_STATE_FAILED
            assert get_message_text(ended.status.message) == RESTARTED
            assert ended.status.HasField("timestamp")
        ran = await store.get("ran", ANYBODY)
        assert ran is not None
        assert [get_message_text(said) for said in ran.history] == ["half of it"]
        done, asks = await store.get("done", ANYBODY), await store.get("asks", ANYBODY)
        assert done is not None
        assert asks is not None
        assert (done.status.state, asks.status.state) == (DONE, TaskState.TASK_STATE_INPUT_REQUIRED)
        assert await store.start() == 0


async def test_what_a_turn_adds_between_two_statuses_is_there_at_once_and_stored_with_the_next(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    async with tasks_in(path) as store:
        running = task("t", RUNNING, second=1)
        await store.save(running, ANYBODY)
        for number in range(3):
            running.artifacts.append(Artifact(artifact_id=str(number), parts=[new_text_part("x")]))
            await store.save(running, ANYBODY)
        found = await store.get("t", ANYBODY)
        assert found is not None
        assert len(found.artifacts) == 3
        page = await store.list(ListTasksRequest(), ANYBODY)
        assert len(page.tasks[0].artifacts) == 3
        # What is handed out is a copy: changing it changes nothing here.
        del found.artifacts[:]
        running.status.state = DONE
        await store.save(running, ANYBODY)
    async with tasks_in(path) as store:
        found = await store.get("t", ANYBODY)
        assert found is not None
        assert len(found.artifacts) == 3


async def test_callers_see_their_own_tasks_only(path: Path | None) -> None:
    ann, bob = ServerCallContext(user=Named("ann")), ServerCallContext(user=Named("bob"))
    async with tasks_in(path, TaskLimits(max_finished=2)) as store:
        await store.save(task("t", DONE, context="ann's"), ann)
        await store.save(task("t", DONE, context="bob's"), bob)
        found = await store.get("t", ann)
        assert found is not None
        assert found.context_id == "ann's"
        assert await listed(store, ann) == ["t"]
        assert await listed(store, ServerCallContext()) == []
        # The bound is on all of them together: what bob's tasks push out is ann's.
        await store.save(task("u", DONE), bob)
        assert await kept(store, "t", context=ann) == []
        assert await kept(store, "t", "u", context=bob) == ["t", "u"]


async def test_tasks_are_listed_in_pages_by_context_state_and_time(path: Path | None) -> None:
    async with tasks_in(path) as store:
        for number in range(7):
            state = RUNNING if number == 3 else DONE
            made = task(f"t{number}", state, context="even" if number % 2 == 0 else "odd", second=number)
            await store.save(made, ANYBODY)
        assert await listed(store, context_id="odd") == ["t5", "t3", "t1"]
        assert await listed(store, status=RUNNING) == ["t3"]
        after = ListTasksRequest()
        after.status_timestamp_after.FromDatetime(datetime.fromtimestamp(1_700_000_005, UTC))
        assert [found.id for found in (await store.list(after, ANYBODY)).tasks] == ["t6", "t5"]
        seen: list[str] = []
        token = ""
        while True:
            page = await store.list(ListTasksRequest(page_size=3, page_token=token), ANYBODY)
            assert (page.page_size, page.total_size) == (3, 7)
            seen += [found.id for found in page.tasks]
            token = page.next_page_token
            if not token:
                break
            # A page begins behind the last one that was shown, whatever happened to that.
            await store.delete(seen[-1], ANYBODY)
            await store.save(task(seen[-1], DONE, second=int(seen[-1][1:])), ANYBODY)
        assert seen == [f"t{number}" for number in range(6, -1, -1)]


@pytest.mark.parametrize("token", ["?", "x", "W10", "WzEsMl0", "bm9wZQ", "W3RydWUsICJ4Il0", "WzFlOTk5LCAieCJd", "é"])
async def test_a_page_token_that_was_not_given_out_is_refused(token: str) -> None:
    async with tasks_in(None) as store:
        with pytest.raises(InvalidParamsError):
            await store.list(ListTasksRequest(page_token=token), ANYBODY)


async def test_the_state_file_is_private_and_uses_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    path.touch(0o644)
    path.chmod(0o644)
    async with tasks_in(path) as store:
        await store.save(task("t", DONE), ANYBODY)
        files = sorted(tmp_path.iterdir())  # noqa: ASYNC240 - three files
        assert [file.name for file in files] == ["state.sqlite3", "state.sqlite3-shm", "state.sqlite3-wal"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    db.close()


@pytest.mark.parametrize("content", [b"no database, but a text that is long enough to be one" * 40, "newer", "folder"])
async def test_a_state_file_that_cannot_be_used_is_named_and_the_state_kept_in_memory(
    tmp_path: Path, content: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.sqlite3"
    if content == "folder":
        path.mkdir()
    elif content == "newer":
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 999")
        db.close()
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    with pytest.raises(StateFileError):
        async with StateFile.open(path):
            pass
    async with tasks_in(path) as store:
        await store.save(task("t", DONE), ANYBODY)
        assert await kept(store, "t") == ["t"]
    assert str(path) in caplog.text
    assert "memory" in caplog.text


async def test_a_disk_that_fails_costs_no_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_state(tmp_path / "state.sqlite3") as state:
        store = Tasks(state)
        await state.run(lambda db: db.execute("PRAGMA query_only = ON"))
        await store.save(task("t", RUNNING), ANYBODY)
        await store.save(task("t", DONE), ANYBODY)
        found = await store.get("t", ANYBODY)
        assert found is not None
        assert found.status.state == DONE
        assert await store.get("unheard-of", ANYBODY) is None
    assert "kept in memory only" in caplog.text


async def test_a_job_that_fails_takes_back_its_own_work_and_no_other(tmp_path: Path) -> None:
    async with StateFile.open(tmp_path / "state.sqlite3") as state:
        await state.run(lambda db: db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))

        def insert(db: sqlite3.Connection, number: int, *, fail: bool = False) -> None:
            db.execute("INSERT INTO numbers VALUES (?)", (number,))
            if fail:
                raise KeyError(number)

        # Together, so that they share a transaction.
        outcomes = await asyncio.gather(
            state.run(lambda db: insert(db, 1)),
            state.run(lambda db: insert(db, 2, fail=True)),
            state.run(lambda db: insert(db, 3)),
            state.run(lambda db: insert(db, 3)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None), KeyError, type(None), StateFileError]
        assert await state.run(lambda db: db.execute("SELECT n FROM numbers").fetchall()) == [(1,), (3,)]
    with pytest.raises(StateFileError):
        await state.run(lambda db: db.execute("SELECT 1"))


async def test_jobs_that_nobody_waits_for_are_done_before_the_file_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.sqlite3"
    async with StateFile.open(path) as state:
        await state.run(lambda db: db.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
        for number in range(3000):
            await state.later(lambda db, n=number: db.execute("INSERT INTO numbers VALUES (?)", (n,)), "a number")  # type: ignore[misc]
        await state.later(lambda db: db.execute("INSERT INTO nothing VALUES (1)"), "a row without a table")
    async with StateFile.open(path) as state:
        assert await state.run(lambda db: db.execute("SELECT count(*) FROM numbers").fetchone()) == (3000,)
    assert "a row without a table was not stored" in caplog.text
