"""The database thread: opens the file, brings its schema up to date and runs one job after the other."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import anyio

from molecule_runtime.localplatform.errors import DataFolderError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

_BUSY_TIMEOUT_MS = 5000
_MAX_BATCH = 64
"""Jobs that are committed at once; more would make the first of them wait too long for its answer."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A piece of work and who waits for it."""

    work: Callable[[sqlite3.Connection], Any]
    writes: bool
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a job ended: with a value, or with an error."""

    value: Any
    error: BaseException | None


class Store:
    """Runs jobs on the database thread. A job is a function that takes the connection first and must not block on anything else.

    Jobs that arrive while the thread is busy are run together, in their order, and committed at once; each is still a transaction of
    its own, and none is answered before the commit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._loop = asyncio.get_running_loop()
        self._batches: SimpleQueue[list[_Job] | None] = SimpleQueue()
        # Not an executor: handing a batch over and back is most of the time that a small job takes.
        self._thread = threading.Thread(target=self._work, name="molecule-local-db", daemon=True)
        self._waiting: deque[_Job] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Store]:
        """Open the file, creating it 0600 where there is none, and close it in the end.

        Raises:
            DataFolderError: it cannot be opened, is no database, or is of a newer version.
        """
        store = cls(path)
        store._thread.start()
        try:
            await store._submit(lambda _: None, writes=False)
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                store._closed = True
                # Between two batches it is idle for a moment, which wakes whoever waits.
                while not store._idle.is_set():
                    await store._idle.wait()
                store._batches.put(None)
                await anyio.to_thread.run_sync(store._thread.join)

    async def read(
        self, job: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a job that only reads."""
        return await self._submit(lambda connection: job(connection, *args, **kwargs), writes=False)

    async def write(
        self, job: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a job in one transaction: all of it is stored, or, when it raises, nothing."""
        return await self._submit(lambda connection: job(connection, *args, **kwargs), writes=True)

    async def _submit(self, work: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        if self._closed:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Job(work, writes, future))
        if self._idle.is_set():
            self._start_batch()
        return await future

    def _start_batch(self) -> None:
        self._idle.clear()
        self._batches.put([self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_BATCH))])

    def _batch_done(self, batch: list[_Job], outcomes: list[_Outcome]) -> None:
        self._idle.set()
        if self._waiting:
            self._start_batch()
        for job, outcome in zip(batch, outcomes, strict=True):
            if job.future.done():
                continue  # whoever waited was cancelled; the job was done all the same
            if outcome.error is not None:
                job.future.set_exception(outcome.error)
            else:
                job.future.set_result(outcome.value)

    def _work(self) -> None:
        """Run batches on the database thread until there are no more."""
        try:
            while (batch := self._batches.get()) is not None:
                try:
                    outcomes = self._run(batch)
                except BaseException as exc:  # the commit itself failed: nothing of the batch was stored
                    outcomes = [_Outcome(None, exc)] * len(batch)
                self._loop.call_soon_threadsafe(self._batch_done, batch, outcomes)
        finally:
            if self._connection is not None:
                self._connection.close()

    def _run(self, batch: list[_Job]) -> list[_Outcome]:
        """Run jobs, in one transaction where several came together, and return how each ended."""
        if len(batch) == 1:
            return [self._run_alone(batch[0])]
        connection = self._open_connection()
        writes = any(job.writes for job in batch)
        if writes:
            connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [self._run_among_others(connection, job) for job in batch]
            if writes:
                connection.execute("COMMIT")
        except BaseException:
            # A full disk, for one, makes SQLite end the transaction itself.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes

    def _run_alone(self, job: _Job) -> _Outcome:
        try:
            connection = self._open_connection()
            if job.writes:
                connection.execute("BEGIN IMMEDIATE")
            try:
                value = job.work(connection)
                if job.writes:
                    connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except Exception as exc:
            return _Outcome(None, exc)
        return _Outcome(value, None)

    @staticmethod
    def _run_among_others(connection: sqlite3.Connection, job: _Job) -> _Outcome:
        if job.writes:
            connection.execute("SAVEPOINT job")
        try:
            value = job.work(connection)
        except Exception as exc:
            if job.writes:
                connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            return _Outcome(None, exc)
        if job.writes:
            connection.execute("RELEASE job")
        return _Outcome(value, None)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        try:
            # SQLite would create the file with the umask's mode; its -wal and -shm files copy the mode of the main file.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.path.chmod(0o600)
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=True)
        except (OSError, sqlite3.Error) as exc:
            raise DataFolderError(
                f"database {str(self.path)!r} cannot be opened ({exc}); choose another data folder"
            ) from exc
        try:
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA journal_mode = WAL")
            # In WAL mode NORMAL keeps the file consistent through a crash of the machine; the last moments may be lost.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, self.path)
        except sqlite3.Error as exc:
            connection.close()
            raise DataFolderError(
                f"database {str(self.path)!r} cannot be used ({exc}); move it away to begin anew"
            ) from exc
        except BaseException:
            connection.close()
            raise
        return connection


def migrations() -> list[tuple[int, str]]:
    """Return every migration script with its number, in order, numbered from 1 without a gap."""
    folder = resources.files("molecule_runtime.localplatform.store") / "migrations"
    scripts = sorted(
        (int(entry.name.split("_", 1)[0]), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    )
    if [number for number, _ in scripts] != list(range(1, len(scripts) + 1)):
        raise RuntimeError(f"migrations are not numbered 1 to n: {[number for number, _ in scripts]}")
    return scripts


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    scripts = migrations()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(scripts):
        raise DataFolderError(
            f"database {str(path)!r} is of version {version} and this molecule-local knows {len(scripts)};"
            " install the newer molecule-runtime-localplatform again, or choose another data folder"
        )
    for number, script in scripts[version:]:
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
