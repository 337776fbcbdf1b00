"""The host's state in one SQLite file, on a thread of its own: what a restart must not lose (tasks, answers, the inbox cursor)."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from molecule_runtime.a2a.errors import StateFileError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME = "a2a-state.sqlite3"
"""In the folder of the workspace's token."""

_T = TypeVar("_T")

_BUSY_MS = 2000
_MAX_BATCH = 64
_MAX_BEHIND = 1024
"""Jobs that nobody waits for; more of them, and whoever adds one waits."""

_CLOSE_SECONDS = 5.0

MIGRATIONS = (
    """
    CREATE TABLE tasks (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        context_id TEXT NOT NULL,
        state INTEGER NOT NULL,
        updated INTEGER NOT NULL,
        ended REAL,
        bytes INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (owner, id)
    );
    CREATE INDEX tasks_listed ON tasks (owner, updated DESC, id DESC);
    CREATE INDEX tasks_ended ON tasks (ended, number, bytes) WHERE ended IS NOT NULL;
    """,
    """
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY,
        caller TEXT NOT NULL,
        message_id TEXT NOT NULL,
        content TEXT NOT NULL,
        answered REAL NOT NULL,
        owner TEXT NOT NULL,
        task_id TEXT NOT NULL,
        reply BLOB,
        bytes INTEGER NOT NULL,
        UNIQUE (caller, message_id, content)
    );
    CREATE INDEX answers_task ON answers (owner, task_id);
    CREATE TRIGGER tasks_forgotten AFTER DELETE ON tasks
    BEGIN
        DELETE FROM answers WHERE owner = old.owner AND task_id = old.id AND reply IS NULL;
    END;
    """,
    """
    CREATE TABLE inbox_cursors (
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        row_id TEXT NOT NULL,
        moved REAL NOT NULL,
        PRIMARY KEY (origin, workspace_id)
    );
    CREATE TABLE inbox_rows (
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        row_id TEXT NOT NULL,
        begun INTEGER NOT NULL,
        handled REAL,
        PRIMARY KEY (origin, workspace_id, row_id)
    );
    """,
    """
    CREATE TABLE delegation_watches (
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        begun REAL NOT NULL,
        PRIMARY KEY (origin, workspace_id)
    );
    CREATE TABLE delegation_turns (
        number INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        message_id TEXT NOT NULL UNIQUE,
        text TEXT NOT NULL,
        begun INTEGER NOT NULL
    );
    CREATE TABLE delegations (
        number INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        delegation_id TEXT NOT NULL,
        source_id TEXT NOT NULL,
        state TEXT NOT NULL,
        result TEXT,
        turn INTEGER REFERENCES delegation_turns (number),
        changed REAL NOT NULL,
        UNIQUE (origin, workspace_id, delegation_id, source_id)
    );
    CREATE INDEX delegations_state ON delegations (origin, workspace_id, state, number);
    CREATE TABLE late_answers (
        number INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        answer_key TEXT NOT NULL,
        sender TEXT NOT NULL,
        answer TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        added REAL NOT NULL,
        begun REAL,
        UNIQUE (origin, workspace_id, answer_key)
    );
    CREATE TABLE pending_uploads (
        number INTEGER PRIMARY KEY,
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        file_id TEXT NOT NULL,
        uri TEXT NOT NULL,
        name TEXT NOT NULL,
        mime_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        UNIQUE (origin, workspace_id, file_id)
    );
    """,
    """
    CREATE TABLE push_configs (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        task_id TEXT NOT NULL,
        id TEXT NOT NULL,
        version TEXT NOT NULL,
        added REAL NOT NULL,
        told INTEGER NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (owner, task_id, id)
    );
    CREATE TRIGGER tasks_told_no_more AFTER DELETE ON tasks
    BEGIN
        DELETE FROM push_configs WHERE owner = old.owner AND task_id = old.id;
    END;
    """,
)
"""Each brings the file from the version that is its place to the next one."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A piece of work, and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class StateFile:
    """Runs jobs on the database's thread, each of them in one transaction; jobs that come together are committed together.

    A job is a function of the connection that blocks on nothing else.

    Attributes:
        path: of the file; None for a database in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="molecule-state", daemon=True)
        self._behind = 0
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path | None) -> AsyncGenerator[StateFile]:
        """Open the file, 0600 from birth, or a database in memory; close it in the end.

        Raises:
            StateFileError: it cannot be opened, is no database, or is of a newer version.
        """
        state = cls(path)
        state._thread.start()
        try:
            await state.run(lambda _: None)
            yield state
        finally:
            state._closed = True
            state._jobs.put(None)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(state._thread.join, _CLOSE_SECONDS)

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run a job; all that it did is stored, or, when it raises, nothing.

        Raises:
            StateFileError: the file is closed, or cannot be used.
        """
        return await self.begin(work)

    async def later(self, work: Callable[[sqlite3.Connection], object], what: str) -> None:
        """Have a job run without waiting for it, unless too many wait already; a failure is only logged."""
        future = self.begin(work)
        self._behind += 1

        def done(ended: asyncio.Future[Any]) -> None:
            self._behind -= 1
            if not ended.cancelled() and (error := ended.exception()) is not None:
                logger.error("%s was not stored: %s", what, error)

        future.add_done_callback(done)
        if self._behind > _MAX_BEHIND:
            await asyncio.wait([future])

    def begin(self, work: Callable[[sqlite3.Connection], _T]) -> asyncio.Future[_T]:
        """Have a job run, in its turn, whether or not anybody waits for the future that is returned.

        Raises:
            StateFileError: the file is closed.
        """
        if self._closed:
            raise StateFileError(f"{self._name} is closed")
        future: asyncio.Future[_T] = self._loop.create_future()
        self._jobs.put(_Job(work, future))
        return future

    @property
    def _name(self) -> str:
        return f"the state file {self.path}" if self.path is not None else "the state in memory"

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        failure: StateFileError | None = None
        try:
            connection = self._connect()
        except (OSError, sqlite3.Error) as exc:
            failure = StateFileError(f"{self._name} cannot be used: {exc}")
        more = True
        while more:
            batch, more = self._next_batch()
            if connection is None or failure is not None:
                outcomes: list[tuple[object, BaseException | None]] = [(None, failure)] * len(batch)
            else:
                outcomes = self._run(connection, batch)
            if batch and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_settle, batch, outcomes)
        if connection is not None:
            connection.close()

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == _MAX_BATCH:
                return batch, True
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return batch, True
        return batch, False

    def _run(self, connection: sqlite3.Connection, batch: list[_Job]) -> list[tuple[object, BaseException | None]]:
        outcomes: list[tuple[object, BaseException | None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                connection.execute("SAVEPOINT job")
                try:
                    outcomes.append((job.work(connection), None))
                except Exception as exc:
                    connection.execute("ROLLBACK TO job")
                    outcomes.append((None, self._translated(exc)))
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            # A full disk, for one: SQLite may have ended the transaction itself, and nothing of the batch was stored.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [(None, self._translated(exc))] * len(batch)
        return outcomes

    def _translated(self, exc: Exception) -> Exception:
        return StateFileError(f"{self._name} cannot be used: {exc}") if isinstance(exc, sqlite3.Error) else exc

    def _connect(self) -> sqlite3.Connection:
        if self.path is not None:
            # SQLite would create the file with the umask's mode; its -wal and -shm files copy the mode of the main file.
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.fchmod(descriptor, 0o600)
            finally:
                os.close(descriptor)
        connection = sqlite3.connect(self.path or ":memory:", isolation_level=None)
        try:
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            # In WAL mode NORMAL survives the end of this process; only a crash of the machine may lose the last moments.
            connection.execute("PRAGMA synchronous = NORMAL")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection


@asynccontextmanager
async def open_state(path: Path | None) -> AsyncGenerator[StateFile]:
    """Open the file; where it cannot be used, say so once and keep the state in memory."""
    if path is not None:
        opened = StateFile.open(path)
        try:
            state = await opened.__aenter__()
        except StateFileError as exc:
            logger.warning(
                "%s; tasks and answers are kept in memory and do not survive a restart. Remove the file, or make its folder writable",
                exc,
            )
        else:
            try:
                yield state
            finally:
                await opened.__aexit__(None, None, None)
            return
    async with StateFile.open(None) as state:
        yield state


def _settle(batch: list[_Job], outcomes: list[tuple[Any, BaseException | None]]) -> None:
    for job, (value, error) in zip(batch, outcomes, strict=True):
        if job.future.done():
            continue  # whoever waited was cancelled; the job was done all the same
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(value)


def _migrate(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise sqlite3.DatabaseError(
            f"it is of version {version} and this host knows {len(MIGRATIONS)}; a newer molecule-runtime-a2a wrote it"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version = {number};COMMIT;")
