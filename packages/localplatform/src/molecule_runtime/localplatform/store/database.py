"""The database thread: opens the file, brings its schema up to date and runs one job after the other."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import resources
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import anyio

from molecule_runtime.localplatform.errors import DataFolderError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

_BUSY_TIMEOUT_MS = 5000


class Store:
    """Runs jobs on the database thread. A job is a function that takes the connection first and must not block on anything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="molecule-local-db")
        self._connection: sqlite3.Connection | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncGenerator[Store]:
        """Open the file, creating it 0600 where there is none, and close it in the end.

        Raises:
            DataFolderError: it cannot be opened, is no database, or is of a newer version.
        """
        store = cls(path)
        try:
            await store._submit(store._connect)
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store._submit(store._disconnect)
                await anyio.to_thread.run_sync(store._executor.shutdown)

    async def read(
        self, job: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a job that only reads."""

        def run() -> T:
            return job(self._open_connection(), *args, **kwargs)

        return await self._submit(run)

    async def write(
        self, job: Callable[Concatenate[sqlite3.Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a job in one transaction: all of it is stored, or, when it raises, nothing."""

        def run() -> T:
            connection = self._open_connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = job(connection, *args, **kwargs)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            return result

        return await self._submit(run)

    async def _submit(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, job)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the store is closed")
        return self._connection

    def _connect(self) -> None:
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
        self._connection = connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


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
