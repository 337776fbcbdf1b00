"""The inbox on disk: messages and cursors in one SQLite file, so that neither a crash nor a restart loses a message.

A page of messages and the cursor behind it are written in one transaction. A message goes only when it is popped, and stays as a
tombstone for as long as the platform could deliver it again. Blocking: callers run it in a thread.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molecule_runtime.mcp.errors import StateError
from molecule_runtime.tools import InboxMessage

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

LEASE_SECONDS = 300.0
"""How long a message that was handed out is kept from other waiters before it is handed out again."""

TOMBSTONE_SECONDS = 8 * 24 * 3600.0
"""Longer than the platform's retention of 7 days (contract `platform-api.md` 7.1)."""

MAX_WAITING = 10_000
"""Messages per workspace; above it polling stops and the cursor stays, so the rest waits on the platform."""

_BUSY_SECONDS = 10.0

_MIGRATIONS = (
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
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whose messages: one workspace of one tenant. Ids of two tenants may be the same, so the origin belongs to the key."""

    origin: str
    workspace_id: str


class InboxStore:
    """Messages and cursors of every mailbox in one file (0600, WAL). Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        with ExitStack() as opening:
            try:
                _make_private(path)
                self._db = opening.enter_context(
                    closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False))
                )
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._migrate()
            except (OSError, sqlite3.Error) as exc:
                raise StateError(
                    f"the inbox file {path} cannot be used: {exc}; set CONFIGS_DIR to a folder that can be written"
                ) from exc
            opening.pop_all()

    def add(self, mailbox: Mailbox, messages: Sequence[InboxMessage], *, cursor: str) -> int:
        """Write a page and the cursor behind it, all or nothing; returns how many messages were new."""
        with self._transaction() as db:
            added = 0
            for message in messages:
                added += db.execute(
                    "INSERT OR IGNORE INTO messages (origin, workspace_id, activity_id, body) VALUES (?, ?, ?, ?)",
                    (
                        mailbox.origin,
                        mailbox.workspace_id,
                        message.activity_id,
                        json.dumps(message.to_json()),
                    ),
                ).rowcount
            db.execute(
                "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET since_id = excluded.since_id",
                (mailbox.origin, mailbox.workspace_id, cursor),
            )
            db.execute("DELETE FROM messages WHERE popped_at < ?", (time.time() - TOMBSTONE_SECONDS,))
            return added

    def cursor(self, mailbox: Mailbox) -> str | None:
        """Return the id of the last row that was written, or None before the first."""
        with self._reading() as db:
            row = db.execute(
                "SELECT since_id FROM cursors WHERE origin = ? AND workspace_id = ?",
                (mailbox.origin, mailbox.workspace_id),
            ).fetchone()
        return None if row is None else str(row[0])

    def forget_cursor(self, mailbox: Mailbox) -> None:
        """Start over from the platform's recent rows; the messages already here stay, and are not taken twice."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM cursors WHERE origin = ? AND workspace_id = ?", (mailbox.origin, mailbox.workspace_id)
            )

    def waiting(self, mailbox: Mailbox) -> int:
        """Count the messages that were not popped."""
        with self._reading() as db:
            row = db.execute(
                "SELECT count(*) FROM messages WHERE origin = ? AND workspace_id = ? AND popped_at IS NULL",
                (mailbox.origin, mailbox.workspace_id),
            ).fetchone()
        return int(row[0])

    def peek(self, mailboxes: Sequence[Mailbox], limit: int) -> list[InboxMessage]:
        """Return waiting messages of the mailboxes, oldest first."""
        where, values = _any_of(mailboxes)
        with self._reading() as db:
            rows = db.execute(
                f"SELECT body FROM messages WHERE popped_at IS NULL AND ({where}) ORDER BY position LIMIT ?",  # noqa: S608 - placeholders
                (*values, limit),
            ).fetchall()
        return [_message(row[0]) for row in rows]

    def lease(self, mailboxes: Sequence[Mailbox]) -> InboxMessage | None:
        """Hand out the oldest message that nobody is handling, and keep it from others for `LEASE_SECONDS`."""
        where, values = _any_of(mailboxes)
        now = time.time()
        with self._transaction() as db:
            row = db.execute(
                f"SELECT position, body FROM messages WHERE popped_at IS NULL AND leased_until < ? AND ({where})"  # noqa: S608
                " ORDER BY position LIMIT 1",
                (now, *values),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE messages SET leased_until = ?, leased_by = ? WHERE position = ?",
                (now + LEASE_SECONDS, os.getpid(), row[0]),
            )
        return _message(row[1])

    def next_lease_end(self, mailboxes: Sequence[Mailbox]) -> float | None:
        """Return when (Unix seconds) the first leased message becomes free again, or None when none is leased."""
        where, values = _any_of(mailboxes)
        with self._reading() as db:
            row = db.execute(
                f"SELECT min(leased_until) FROM messages WHERE popped_at IS NULL AND ({where})",  # noqa: S608
                values,
            ).fetchone()
        return None if row[0] is None else float(row[0])

    def release_dead_leases(self) -> None:
        """Free what a process that is gone had been handed: its agent will not pop it any more."""
        with self._transaction() as db:
            owners = db.execute(
                "SELECT DISTINCT leased_by FROM messages WHERE popped_at IS NULL AND leased_until > 0"
            ).fetchall()
            for (owner,) in owners:
                if owner == os.getpid() or not _is_alive(int(owner)):
                    db.execute("UPDATE messages SET leased_until = 0 WHERE leased_by = ?", (owner,))

    def release(self, mailboxes: Sequence[Mailbox], activity_id: str) -> None:
        """Take back a lease: the message did not reach the one who waited for it."""
        where, values = _any_of(mailboxes)
        with self._transaction() as db:
            db.execute(
                f"UPDATE messages SET leased_until = 0 WHERE activity_id = ? AND leased_by = ? AND ({where})",  # noqa: S608
                (activity_id, os.getpid(), *values),
            )

    def pop(self, mailboxes: Sequence[Mailbox], activity_id: str) -> bool:
        """Remove a message that was dealt with; False when it is not waiting.

        Two tenants may use one id: then one message goes, the one that was handed out last, and the other is delivered later.
        """
        where, values = _any_of(mailboxes)
        with self._transaction() as db:
            row = db.execute(
                f"SELECT position FROM messages WHERE activity_id = ? AND popped_at IS NULL AND ({where})"  # noqa: S608
                " ORDER BY leased_until DESC, position LIMIT 1",
                (activity_id, *values),
            ).fetchone()
            if row is not None:
                db.execute("UPDATE messages SET popped_at = ?, body = '{}' WHERE position = ?", (time.time(), row[0]))
        return row is not None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _migrate(self) -> None:
        with self._transaction() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > len(_MIGRATIONS):
                raise sqlite3.DatabaseError(f"it was written by a newer molecule-mcp (format {version})")
            for script in _MIGRATIONS[version:]:
                for statement in script.split(";"):
                    if statement.strip():
                        db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    @contextmanager
    def _reading(self) -> Generator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as exc:
                raise self._failure(exc) from exc

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
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

    def _failure(self, exc: sqlite3.Error) -> StateError:
        return StateError(f"the inbox file {self._path} cannot be used: {exc}")


def _make_private(path: Path) -> None:
    """Create the file 0600, or make it so. SQLite would use the umask; its WAL and shared-memory files take over this file's mode."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def _any_of(mailboxes: Sequence[Mailbox]) -> tuple[str, tuple[str, ...]]:
    where = " OR ".join("(origin = ? AND workspace_id = ?)" for _ in mailboxes) or "0"
    return where, tuple(value for mailbox in mailboxes for value in (mailbox.origin, mailbox.workspace_id))


def _message(body: str) -> InboxMessage:
    data: dict[str, Any] = json.loads(body)
    return InboxMessage(
        activity_id=data["activity_id"],
        text=data["text"],
        kind=data["kind"],
        peer_id=data["peer_id"],
        method=data["method"],
        created_at=data["created_at"],
        arrival_workspace_id=data.get("arrival_workspace_id", ""),
        peer_name=data.get("peer_name"),
        peer_role=data.get("peer_role"),
        agent_card_url=data.get("agent_card_url"),
        attachments=tuple(data.get("attachments", ())),
    )


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
