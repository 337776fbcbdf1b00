"""The database thread: jobs that come together are committed together, and each is all or nothing on its own."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.localplatform.store import Store

from .support import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


def add(connection: sqlite3.Connection, value: str) -> None:
    connection.execute("INSERT INTO notes (value) VALUES (?)", (value,))


def add_and_fail(connection: sqlite3.Connection, value: str) -> None:
    add(connection, value)
    raise LookupError(value)


def values(connection: sqlite3.Connection) -> list[str]:
    return [row["value"] for row in connection.execute("SELECT value FROM notes ORDER BY rowid")]


@asynccontextmanager
async def store_with_notes(path: Path) -> AsyncGenerator[Store]:
    async with Store.open(path) as store:
        await store.write(lambda connection: connection.execute("CREATE TABLE notes (value TEXT UNIQUE)"))
        yield store


@asynccontextmanager
async def held_up(store: Store) -> AsyncGenerator[None]:
    """Keep the thread busy for the length of the block, so that what is submitted meanwhile becomes one batch."""
    begun, let_go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: sqlite3.Connection) -> None:
        del connection
        loop.call_soon_threadsafe(begun.set)
        assert let_go.wait(WAIT_SECONDS)

    async with anyio.create_task_group() as group:
        group.start_soon(store.read, hold)
        await begun.wait()
        try:
            yield
        finally:
            let_go.set()


async def test_a_job_that_fails_among_others_takes_nothing_with_it(tmp_path: Path) -> None:
    async with store_with_notes(tmp_path / "db") as store, asyncio.TaskGroup() as group:
        with anyio.fail_after(WAIT_SECONDS):
            async with held_up(store):
                before = group.create_task(store.write(add, "before"))
                failing = asyncio.ensure_future(store.write(add_and_fail, "half"))
                twice = asyncio.ensure_future(store.write(add, "before"))
                after = group.create_task(store.write(add, "after"))
                seen = group.create_task(store.read(values))
                await asyncio.sleep(0)
            await before
            await after
            with pytest.raises(LookupError):
                await failing
            with pytest.raises(sqlite3.IntegrityError):
                await twice
            assert await seen == ["before", "after"]
            assert await store.read(values) == ["before", "after"]


async def test_nobody_is_answered_before_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "db"
    async with store_with_notes(path) as store, anyio.create_task_group() as group:

        async def write_and_look(value: str) -> None:
            await store.write(add, value)
            other = sqlite3.connect(path)
            try:
                assert value in [row[0] for row in other.execute("SELECT value FROM notes")]
            finally:
                other.close()

        with anyio.fail_after(WAIT_SECONDS):
            async with held_up(store):
                for number in range(200):
                    group.start_soon(write_and_look, str(number))
                await asyncio.sleep(0)


async def test_a_commit_that_fails_fails_every_job_of_it_and_the_next_ones_work(tmp_path: Path) -> None:
    async with store_with_notes(tmp_path / "db") as store:
        await store.write(
            lambda connection: connection.execute(
                "CREATE TABLE children (id INTEGER REFERENCES children (id) DEFERRABLE INITIALLY DEFERRED)"
            )
        )

        def orphan(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO children (id) VALUES (7)")

        with anyio.fail_after(WAIT_SECONDS):
            async with held_up(store):
                jobs = [asyncio.ensure_future(store.write(job)) for job in (orphan, orphan)]
                await asyncio.sleep(0)
            for job in jobs:
                with pytest.raises(sqlite3.Error):
                    await job
            with pytest.raises(sqlite3.Error):
                await store.write(orphan)
            await store.write(add, "well")
            assert await store.read(values) == ["well"]


async def test_a_job_whose_waiter_left_is_done_all_the_same(tmp_path: Path) -> None:
    async with store_with_notes(tmp_path / "db") as store:
        with anyio.fail_after(WAIT_SECONDS):
            async with held_up(store):
                job = asyncio.ensure_future(store.write(add, "left"))
                await asyncio.sleep(0)
                job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            assert await store.read(values) == ["left"]


async def test_what_was_submitted_is_done_before_the_store_closes_and_nothing_after(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with anyio.fail_after(WAIT_SECONDS):
        async with store_with_notes(path) as store:
            jobs = [asyncio.ensure_future(store.write(add, str(number))) for number in range(300)]
            await asyncio.sleep(0)
        await asyncio.gather(*jobs)
        with pytest.raises(RuntimeError):
            await store.read(values)
    left = sqlite3.connect(path)
    assert left.execute("SELECT count(*) FROM notes").fetchone() == (300,)
    left.close()
