"""The host's memory of tasks."""

from __future__ import annotations

import pytest
from a2a.server.context import ServerCallContext
from a2a.types import Task, TaskState, TaskStatus

from molecule_runtime.a2a.tasks import RecentTasks

pytestmark = pytest.mark.anyio

RUNNING, DONE = TaskState.TASK_STATE_WORKING, TaskState.TASK_STATE_COMPLETED


def task(name: str, state: TaskState, *, context: str = "c") -> Task:
    return Task(id=name, context_id=context, status=TaskStatus(state=state))


async def kept(store: RecentTasks, *names: str) -> list[str]:
    return [name for name in names if await store.get(name, ServerCallContext()) is not None]


async def test_the_latest_tasks_that_ended_are_kept_and_every_one_that_runs() -> None:
    store, context = RecentTasks(most=2), ServerCallContext()
    await store.save(task("runs", RUNNING), context)
    for name in ("a", "b", "c"):
        await store.save(task(name, RUNNING), context)
        await store.save(task(name, DONE), context)
        await store.save(task(name, DONE), context)
    assert await kept(store, "runs", "a", "b", "c") == ["runs", "b", "c"]
    # One that goes on counts among the running again.
    await store.save(task("b", RUNNING), context)
    await store.save(task("d", DONE), context)
    assert await kept(store, "runs", "b", "c", "d") == ["runs", "b", "c", "d"]


async def test_large_tasks_are_forgotten_sooner_but_not_the_one_that_has_just_ended() -> None:
    store, context = RecentTasks(most_bytes=1000), ServerCallContext()
    await store.save(task("a", DONE), context)
    await store.save(task("b", DONE), context)
    await store.save(task("large", DONE, context="x" * 2000), context)
    assert await kept(store, "a", "b", "large") == ["large"]
    await store.delete("large", context)
    await store.save(task("e", DONE, context="x" * 600), context)
    await store.save(task("f", DONE, context="x" * 300), context)
    assert await kept(store, "large", "e", "f") == ["e", "f"]
