"""The inbox on disk: messages and cursors in one SQLite file, so that neither a crash nor a restart loses a message.

A page of messages and the cursor behind it are written in one transaction. A message goes only when it is popped, and stays as a
tombstone for as long as the platform could deliver it again. Blocking: callers run it in a thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from molecule_runtime.mcp import owners
from molecule_runtime.mcp.database import Database
from molecule_runtime.tools import InboxMessage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

LEASE_SECONDS = 300.0
"""How long a message that was handed out is kept from other waiters before it is handed out again."""

MAX_LEASE_SECONDS = 3600.0
"""How long it is kept from them at most, where the agent works on it all the time."""

TOMBSTONE_SECONDS = 8 * 24 * 3600.0
"""Longer than the platform's retention of 7 days (contract `platform-api.md` 7.1)."""

KEEP_POPPED_SECONDS = 3 * 24 * 3600.0
"""How long the text of a popped message is kept, for a person who wants it handled again."""

KEEP_POPPED = 1000
"""Of how many popped messages, over all mailboxes, the text is kept at most."""

MAX_WAITING = 10_000
"""Messages per workspace; above it polling stops and the cursor stays, so the rest waits on the platform."""

MAX_PUSHED = 20
"""Messages that a process has pushed to its client and that were neither handed out nor popped; more are not pushed."""

MAX_PUSHES = 3
"""How often a message is pushed that nobody pops; after that it waits to be asked for."""

IN = "(origin, workspace_id) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
"""Belongs to one of these mailboxes: as many placeholders as there may be mailboxes are too many for SQLite."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whose messages: one workspace of one tenant. Ids of two tenants may be the same, so the origin belongs to the key."""

    origin: str
    workspace_id: str


@dataclass(slots=True)
class _Page:
    """What one poll brought, and what became of it."""

    mailbox: Mailbox
    messages: Sequence[InboxMessage]
    cursor: str | None
    held: Mapping[str, float]
    added: int = 0
    done: bool = False
    failure: BaseException | None = None

    def write(self, db: sqlite3.Connection, now: float) -> None:
        """Write it within a transaction. One that cannot be written keeps no other from it.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        db.execute("SAVEPOINT page")
        try:
            self.added = self._insert(db, now)
        except sqlite3.Error:
            raise
        except Exception as exc:
            db.execute("ROLLBACK TO page")
            self.failure = exc
        db.execute("RELEASE page")

    def _insert(self, db: sqlite3.Connection, now: float) -> int:
        box = self.mailbox
        added = 0
        for message in self.messages:
            added += db.execute(
                "INSERT OR IGNORE INTO messages (origin, workspace_id, activity_id, body, received_at, held_until)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    box.origin,
                    box.workspace_id,
                    message.activity_id,
                    json.dumps(message.to_json()),
                    now,
                    self.held.get(message.activity_id, 0.0),
                ),
            ).rowcount
        if self.cursor is not None:
            db.execute(
                "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET since_id = excluded.since_id",
                (box.origin, box.workspace_id, self.cursor),
            )
        return added


class InboxStore:
    """Messages and cursors of every mailbox in one file. Safe to use from several threads and processes."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self.owner = owners.this_process()
        self._pages: list[_Page] = []
        self._pages_lock = threading.Lock()
        self._writer = threading.Lock()

    def add(
        self,
        mailbox: Mailbox,
        messages: Sequence[InboxMessage],
        *,
        cursor: str | None,
        held: Mapping[str, float] | None = None,
    ) -> int:
        """Write a page and the cursor behind it, all or nothing; returns how many messages were new.

        Pages of several mailboxes that come while the disk is busy are written together: each must reach it, and with fifty messages a
        second that is the slowest step of all.

        Args:
            mailbox: whose they are.
            messages: in the order in which they came.
            cursor: the last row of the page; None to leave the old one.
            held: until when (Unix seconds) a message is not handed out, by its id: its files are on their way.

        Raises:
            StateError: the file cannot be written; nothing of the page was.
        """
        page = _Page(mailbox, messages, cursor, held or {})
        with self._pages_lock:
            self._pages.append(page)
        # Whoever comes first writes for all that are there by then; the others find that theirs is written.
        with self._writer:
            if not page.done:
                with self._pages_lock:
                    pages, self._pages = self._pages, []
                self._write(pages)
        if page.failure is not None:
            raise page.failure
        return page.added

    def _write(self, pages: list[_Page]) -> None:
        now = time.time()
        try:
            with self.database.transaction() as db:
                for page in pages:
                    page.write(db, now)
                self._forget_popped(db, now)
        except BaseException as exc:
            for page in pages:
                page.failure = page.failure or exc
        for page in pages:
            page.done = True

    def cursor(self, mailbox: Mailbox) -> str | None:
        """Return the id of the last row that was written, or None before the first."""
        with self.database.reading() as db:
            row = db.execute(
                "SELECT since_id FROM cursors WHERE origin = ? AND workspace_id = ?",
                (mailbox.origin, mailbox.workspace_id),
            ).fetchone()
        return None if row is None else str(row[0])

    def forget_cursor(self, mailbox: Mailbox) -> None:
        """Start over from the platform's recent rows; the messages already here stay, and are not taken twice."""
        with self.database.transaction() as db:
            db.execute(
                "DELETE FROM cursors WHERE origin = ? AND workspace_id = ?", (mailbox.origin, mailbox.workspace_id)
            )

    def waiting(self, mailbox: Mailbox) -> int:
        """Count the messages that were not popped."""
        with self.database.reading() as db:
            row = db.execute(
                "SELECT count(*) FROM messages WHERE origin = ? AND workspace_id = ? AND popped_at IS NULL",
                (mailbox.origin, mailbox.workspace_id),
            ).fetchone()
        return int(row[0])

    def summary(self, mailboxes: Collection[Mailbox]) -> dict[Mailbox, tuple[int, int]]:
        """Return how many messages wait, and the number of the newest, of each mailbox that has any."""
        with self.database.reading() as db:
            rows = db.execute(
                f"SELECT origin, workspace_id, count(*), max(position) FROM messages WHERE popped_at IS NULL AND {IN}"  # noqa: S608 - a constant
                " GROUP BY origin, workspace_id",
                (keys(mailboxes),),
            ).fetchall()
        return {Mailbox(origin, workspace_id): (count, newest) for origin, workspace_id, count, newest in rows}

    def peek(self, mailboxes: Collection[Mailbox], limit: int) -> list[InboxMessage]:
        """Return waiting messages of the mailboxes, oldest first; also those that somebody is handling, which say so."""
        now = time.time()
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT body, deliveries, leased_until > ? AND NOT pushed FROM messages"  # noqa: S608 - a constant
                f" WHERE popped_at IS NULL AND held_until <= ? AND {IN} ORDER BY position LIMIT ?",
                (now, now, keys(mailboxes), limit),
            ).fetchall()
        return [
            replace(message_from(body), delivery_count=deliveries, leased=bool(leased))
            for body, deliveries, leased in rows
        ]

    def lease(self, mailboxes: Collection[Mailbox]) -> InboxMessage | None:
        """Hand out the oldest message that nobody is handling, and keep it from others for `LEASE_SECONDS`.

        One that this process has only pushed to its client is handed out too: not every client shows what is pushed.
        """
        now = time.time()
        with self.database.transaction() as db:
            self._free_the_dead(db, now)
            row = db.execute(
                "SELECT position, body, deliveries, pushed AND leased_until >= ? FROM messages"  # noqa: S608 - a constant
                " WHERE popped_at IS NULL AND held_until <= ? AND (leased_until < ? OR (pushed AND holder = ?))"
                f" AND {IN} ORDER BY position LIMIT 1",
                (now, now, now, self.owner, keys(mailboxes)),
            ).fetchone()
            if row is None:
                return None
            position, body, deliveries, pushed = row
            db.execute(
                "UPDATE messages SET leased_until = ?, leased_at = ?, holder = ?, pushed = 0, deliveries = deliveries + 1"
                " WHERE position = ?",
                (now + LEASE_SECONDS, now, self.owner, position),
            )
        return replace(message_from(body), delivery_count=deliveries + 1, pushed=bool(pushed))

    def lease_for_push(self, mailboxes: Collection[Mailbox]) -> tuple[Mailbox, InboxMessage] | None:
        """Hand out the oldest message that nobody handles, to be pushed by this process, which keeps it from other processes.

        None where each was pushed `MAX_PUSHES` times, and while `MAX_PUSHED` of this process were neither handed out nor popped.
        """
        now = time.time()
        with self.database.transaction() as db:
            self._free_the_dead(db, now)
            (pushed,) = db.execute(
                "SELECT count(*) FROM messages WHERE popped_at IS NULL AND leased_until > 0 AND leased_until >= ? AND holder = ?"
                " AND pushed",
                (now, self.owner),
            ).fetchone()
            if pushed >= MAX_PUSHED:
                return None
            row = db.execute(
                "SELECT position, origin, workspace_id, body, deliveries FROM messages"  # noqa: S608 - a constant
                " WHERE popped_at IS NULL AND held_until <= ? AND leased_until < ? AND pushes < ?"
                f" AND {IN} ORDER BY position LIMIT 1",
                (now, now, MAX_PUSHES, keys(mailboxes)),
            ).fetchone()
            if row is None:
                return None
            position, origin, workspace_id, body, deliveries = row
            db.execute(
                "UPDATE messages SET leased_until = ?, leased_at = ?, holder = ?, pushed = 1, pushes = pushes + 1"
                " WHERE position = ?",
                (now + LEASE_SECONDS, now, self.owner, position),
            )
        return Mailbox(origin, workspace_id), replace(message_from(body), delivery_count=deliveries)

    def next_free(self, mailboxes: Collection[Mailbox]) -> float | None:
        """Return when (Unix seconds) the first message that may not be handed out now can be, or None when there is none."""
        now = time.time()
        with self.database.reading() as db:
            row = db.execute(
                f"SELECT min(max(leased_until, held_until)) FROM messages WHERE popped_at IS NULL AND {IN}"  # noqa: S608 - a constant
                " AND max(leased_until, held_until) > ?",
                (keys(mailboxes), now),
            ).fetchone()
        return None if row[0] is None else float(row[0])

    def release_dead_leases(self) -> bool:
        """Free what a process that is gone had been handed: its agent will not pop it any more. True when there was any."""
        with self.database.reading() as db:
            if not self._others(db, time.time()):
                return False
        with self.database.transaction() as db:
            return self._free_the_dead(db, time.time())

    def release(self, mailboxes: Collection[Mailbox], activity_id: str) -> None:
        """Take back a lease: the message did not reach the one who waited for it."""
        with self.database.transaction() as db:
            db.execute(
                "UPDATE messages SET leased_until = 0, holder = '', pushed = 0, pushes = max(0, pushes - pushed),"  # noqa: S608 - a constant
                " deliveries = max(0, deliveries - NOT pushed)"
                f" WHERE activity_id = ? AND holder = ? AND popped_at IS NULL AND {IN}",
                (activity_id, self.owner, keys(mailboxes)),
            )

    def prolong(self) -> None:
        """Keep what this process was handed for longer, since its agent is at work; up to `MAX_LEASE_SECONDS` in all."""
        now = time.time()
        with self.database.reading() as db:
            due = db.execute(
                "SELECT 1 FROM messages WHERE popped_at IS NULL AND leased_until > ? AND leased_until < ?"
                " AND holder = ? AND NOT pushed LIMIT 1",
                (now, now + LEASE_SECONDS / 2, self.owner),
            ).fetchone()
        if due is None:
            return
        with self.database.transaction() as db:
            db.execute(
                "UPDATE messages SET leased_until = max(leased_until, min(?, leased_at + ?))"
                " WHERE popped_at IS NULL AND leased_until > ? AND holder = ? AND NOT pushed",
                (now + LEASE_SECONDS, MAX_LEASE_SECONDS, now, self.owner),
            )

    def pop(self, mailboxes: Collection[Mailbox], activity_id: str) -> Mailbox | None:
        """Remove a message that was dealt with, and return whose it was; None when it is not waiting.

        Two tenants may use one id: then one message goes, the one that was handed out last, and the other is delivered later.
        """
        with self.database.transaction() as db:
            row = db.execute(
                f"SELECT position, origin, workspace_id FROM messages WHERE activity_id = ? AND popped_at IS NULL AND {IN}"  # noqa: S608
                " ORDER BY leased_at DESC, position LIMIT 1",
                (activity_id, keys(mailboxes)),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE messages SET popped_at = ?, leased_until = 0, holder = '', pushed = 0, held_until = 0 WHERE position = ?",
                (time.time(), row[0]),
            )
        return Mailbox(row[1], row[2])

    def held(self, mailbox: Mailbox) -> list[tuple[InboxMessage, float]]:
        """Return the messages whose files are on their way, and until when (Unix seconds) they wait for them."""
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT body, held_until FROM messages WHERE popped_at IS NULL AND held_until > 0 AND origin = ?"
                " AND workspace_id = ? ORDER BY position",
                (mailbox.origin, mailbox.workspace_id),
            ).fetchall()
        return [(message_from(body), float(until)) for body, until in rows]

    def hold_again(self, mailbox: Mailbox, until: float) -> None:
        """Have messages that nobody was handed wait for their files up to `until` (Unix seconds): this process fetches them now."""
        if not self.held(mailbox):
            # A thousand pollers that begin would be a thousand writes.
            return
        with self.database.transaction() as db:
            db.execute(
                "UPDATE messages SET held_until = ? WHERE popped_at IS NULL AND held_until > 0 AND deliveries = 0 AND pushes = 0"
                " AND origin = ? AND workspace_id = ?",
                (until, mailbox.origin, mailbox.workspace_id),
            )

    def let_go(self, mailbox: Mailbox, message: InboxMessage) -> None:
        """Write what became of a message's files; from now on it is handed out."""
        with self.database.transaction() as db:
            db.execute(
                "UPDATE messages SET body = ?, held_until = 0 WHERE origin = ? AND workspace_id = ? AND activity_id = ?"
                " AND popped_at IS NULL",
                (json.dumps(message.to_json()), mailbox.origin, mailbox.workspace_id, message.activity_id),
            )

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def _free_the_dead(self, db: sqlite3.Connection, now: float) -> bool:
        freed = False
        for holder in self._others(db, now):
            gone = owners.is_gone(holder, me=self.owner)
            if gone is None:
                row = db.execute("SELECT alive_until FROM processes WHERE owner = ?", (holder,)).fetchone()
                gone = row is None or row[0] < now
            if gone:
                db.execute(
                    "UPDATE messages SET leased_until = 0, holder = '', pushed = 0, pushes = max(0, pushes - pushed)"
                    " WHERE popped_at IS NULL AND leased_until > 0 AND holder = ?",
                    (holder,),
                )
                freed = True
        return freed

    def _others(self, db: sqlite3.Connection, now: float) -> list[str]:
        rows = db.execute(
            "SELECT DISTINCT holder FROM messages WHERE popped_at IS NULL AND leased_until > 0 AND leased_until > ?"
            " AND holder <> ?",
            (now, self.owner),
        ).fetchall()
        return [str(row[0]) for row in rows]

    def _forget_popped(self, db: sqlite3.Connection, now: float) -> None:
        db.execute("DELETE FROM messages WHERE popped_at < ?", (now - TOMBSTONE_SECONDS,))
        db.execute(
            "UPDATE messages SET body = '{}' WHERE body <> '{}' AND popped_at IS NOT NULL AND (popped_at < ? OR popped_at <"
            " (SELECT popped_at FROM messages WHERE popped_at IS NOT NULL ORDER BY popped_at DESC LIMIT 1 OFFSET ?))",
            (now - KEEP_POPPED_SECONDS, KEEP_POPPED - 1),
        )


def keys(mailboxes: Collection[Mailbox]) -> str:
    """Return mailboxes as `IN` takes them."""
    return json.dumps([(mailbox.origin, mailbox.workspace_id) for mailbox in mailboxes])


def message_from(body: str) -> InboxMessage:
    """Return a message as it was written."""
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
