"""The SQLite file of the inbox: opened private, brought to the present format, and shared by threads and processes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from molecule_runtime.mcp.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BUSY_SECONDS: Final = 10.0
"""How long one process waits for another that writes."""

_RETRY_SECONDS: Final = 0.05

_MIGRATIONS: Final = (
    """
    CREATE TABLE messages (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        activity_id TEXT NOT NULL,
        body TEXT NOT NULL,
        leased_until REAL NOT NULL DEFAULT 0,
        leased_by INTEGER NOT NULL DEFAULT 0,
        popped_at REAL,
        UNIQUE (origin, workspace_id, activity_id)
    );
    CREATE INDEX messages_waiting ON messages (origin, workspace_id, position) WHERE popped_at IS NULL;
    CREATE TABLE cursors (
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        since_id TEXT NOT NULL,
        PRIMARY KEY (origin, workspace_id)
    );
    """,
    # leased_by named a process by its number alone, and is not read any more: `holder` names it.
    """
    ALTER TABLE messages ADD COLUMN holder TEXT NOT NULL DEFAULT '';
    ALTER TABLE messages ADD COLUMN leased_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE messages ADD COLUMN pushed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE messages ADD COLUMN pushes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE messages ADD COLUMN deliveries INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE messages ADD COLUMN received_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE messages ADD COLUMN held_until REAL NOT NULL DEFAULT 0;
    UPDATE messages SET leased_until = 0;
    CREATE INDEX messages_leased ON messages (holder) WHERE popped_at IS NULL AND leased_until > 0;
    CREATE INDEX messages_held ON messages (origin, workspace_id) WHERE popped_at IS NULL AND held_until > 0;
    CREATE INDEX messages_popped ON messages (popped_at) WHERE popped_at IS NOT NULL;
    CREATE TABLE processes (
        owner TEXT PRIMARY KEY,
        alive_until REAL NOT NULL,
        eager_until REAL NOT NULL
    );
    CREATE TABLE pollers (
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        owner TEXT NOT NULL,
        PRIMARY KEY (origin, workspace_id)
    );
    CREATE TABLE files (
        origin TEXT NOT NULL,
        workspace_id TEXT NOT NULL,
        file_id TEXT NOT NULL,
        name TEXT NOT NULL,
        uri TEXT NOT NULL,
        mime_type TEXT NOT NULL,
        size INTEGER NOT NULL,
        staged_at REAL NOT NULL,
        PRIMARY KEY (origin, workspace_id, file_id)
    );
    """,
)


class Database:
    """One connection to the file (0600, WAL). Safe to use from several threads; other processes have their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with ExitStack() as opening:
            try:
                _make_private(path)
                self._db = opening.enter_context(
                    closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False))
                )
                self._prepare()
            except (OSError, sqlite3.Error) as exc:
                raise StateError(
                    f"the inbox file {path} cannot be used: {exc}; set CONFIGS_DIR to a folder that can be written"
                ) from exc
            opening.pop_all()

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """Look into the file.

        Raises:
            StateError: it cannot be read.
        """
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as exc:
                raise self._failure(exc) from exc

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Change the file, all or nothing.

        Raises:
            StateError: it cannot be written.
        """
        with self._lock:
            try:
                # IMMEDIATE: another process that also serves these workspaces waits here, not in the middle.
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as exc:
                # A failed COMMIT (a full disk) may leave the transaction open, and every later one would fail on it.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(exc, sqlite3.Error):
                    raise self._failure(exc) from exc
                raise

    def version(self) -> int:
        """Return a number that is another one after each change by somebody else, and the same after changes of our own."""
        with self.reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _prepare(self) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                # Of two processes that make the file at the same moment one is refused at once: SQLite's own patience does not
                # cover the change to WAL.
                self._db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_SECONDS)
        self._db.execute("PRAGMA synchronous=FULL")
        # What was popped or kept long enough is overwritten, not only unlinked.
        self._db.execute("PRAGMA secure_delete=ON")
        self._migrate()

    def _migrate(self) -> None:
        with self.transaction() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(_MIGRATIONS):
                raise sqlite3.DatabaseError(f"it was written by a newer molecule-mcp (format {version})")
            for script in _MIGRATIONS[version:]:
                for statement in script.split(";"):
                    if statement.strip():
                        db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def _failure(self, exc: sqlite3.Error) -> StateError:
        return StateError(f"the inbox file {self.path} cannot be used: {exc}")


def _make_private(path: Path) -> None:
    """Create the file 0600, or make it so. SQLite would use the umask; its WAL and shared-memory files take over this file's mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
