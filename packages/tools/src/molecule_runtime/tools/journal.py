"""What the tools must not forget when their process ends: the delegations and approvals that are under way, in one SQLite file.

Several processes may share the file: whatever is taken is taken in one transaction, by one of them. Without a folder it is kept in
memory, and ends with the process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import anyio.to_thread

from molecule_runtime.core.identity import origin_of
from molecule_runtime.tools.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from molecule_runtime.core.platform.client import PlatformClient

FILE_NAME: Final = "tools-journal.sqlite3"

_T = TypeVar("_T")

_BUSY_SECONDS: Final = 10.0
_FOLD_AFTER: Final = 300
"""Transactions after which the WAL file is folded into the main file, which syncs both."""

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE delegations (
    number INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    intent TEXT NOT NULL,
    delegation_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    target_id TEXT NOT NULL,
    summary TEXT NOT NULL,
    mode TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    queue_id TEXT NOT NULL,
    answer TEXT,
    created REAL NOT NULL,
    changed REAL NOT NULL,
    claimed REAL,
    UNIQUE (origin, workspace_id, delegation_id)
);
CREATE INDEX delegations_intent ON delegations (origin, workspace_id, digest, state);
CREATE INDEX delegations_changed ON delegations (changed);
CREATE TABLE approvals (
    number INTEGER PRIMARY KEY,
    origin TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    api TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    used REAL,
    UNIQUE (origin, workspace_id, request_id)
);
CREATE INDEX approvals_fingerprint ON approvals (origin, workspace_id, fingerprint);
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows: one workspace of one platform. Ids of two tenants may be the same, so the origin belongs to the key."""

    origin: str
    workspace_id: str

    @classmethod
    def of(cls, client: PlatformClient) -> Owner:
        """Return the owner of what a client does."""
        return cls(origin_of(client.target.platform_url), client.workspace_id)


class Journal:
    """One file (0600, WAL) for all workspaces of the process; opened at the first use, closed with `close`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._unfolded = 0
        self._is_warm = False
        self._commits_are_cheap = False
        self._instance = secrets.token_hex(8)

    @property
    def process(self) -> str:
        """Names this process in rows that it works on: its id, and what tells it from an earlier process of that id."""
        return f"{os.getpid()}:{self._instance}"

    def is_abandoned(self, process: str) -> bool:
        """Tell whether the process that worked on a row is gone, or has left it."""
        if not process:
            return True
        pid, _, instance = process.partition(":")
        if instance == self._instance:
            return False
        return pid == str(os.getpid()) or not _is_alive(int(pid))

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run `work` in one transaction: at once where it waits for nobody, neither for another writer nor for the disk, else on a thread.

        It is some rows of a small file, and takes less than to ask a thread.

        Raises:
            JournalError: the file cannot be used.
        """
        done = self._run_now(work)
        return done[0] if done is not None else await anyio.to_thread.run_sync(self._run, work)

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None
                self._is_warm = False

    def _run_now(self, work: Callable[[sqlite3.Connection], _T]) -> tuple[_T] | None:
        """Return what `work` did; None where somebody would have to be waited for, and then nothing was done."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            db = self._db
            if db is None or not self._is_warm or self._unfolded >= _FOLD_AFTER:
                return None
            with self._translated():
                try:
                    db.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as exc:
                    if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                        return None
                    raise
                return (self._finish(db, work),)
        finally:
            self._lock.release()

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._lock, self._translated():
            db = self._db or self._open()
            db.execute(f"PRAGMA busy_timeout={_BUSY_SECONDS * 1000:.0f}")
            try:
                # IMMEDIATE: another process waits here, and not in the middle.
                db.execute("BEGIN IMMEDIATE")
                done = self._finish(db, work)
                self._is_warm = self._commits_are_cheap
                if self._unfolded >= _FOLD_AFTER:
                    # After that the WAL file begins anew, with a sync. What cannot be folded now is folded later.
                    self._is_warm = False
                    self._unfolded = 0
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                db.execute("PRAGMA busy_timeout=0")
            return done

    def _finish(self, db: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Do the work of a transaction that has begun, and end it."""
        try:
            done = work(db)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._unfolded += 1
        return done

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as exc:
            raise JournalError(
                f"the journal of the tools, {self._path or 'in memory'}, cannot be used: {exc}; see that its folder can be written"
                " and has room"
            ) from exc

    def _open(self) -> sqlite3.Connection:
        if self._path is not None:
            _make_private(self._path)
        db = sqlite3.connect(
            self._path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            # Where the file system allows no WAL, every commit is synced.
            mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            self._commits_are_cheap = mode in {"wal", "memory"}
            # A process that is killed loses nothing; a machine that loses its power may lose the last moment.
            db.execute("PRAGMA synchronous=NORMAL")
            db.execute("PRAGMA wal_autocheckpoint=0")
            _migrate(db)
        except BaseException:
            db.close()
            raise
        self._db = db
        return db


def _migrate(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer version (format {version})")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _make_private(path: Path) -> None:
    """Create the file 0600, or make it so. SQLite would use the umask; its WAL and shared-memory files take over this file's mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
