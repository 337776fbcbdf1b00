"""Which processes share the inbox file, and which of them polls a mailbox: one at a time, the others read what it wrote.

A process whose end cannot be seen (it is in another container) or that stands still (a laptop that sleeps) loses its mailboxes when it
has not been heard of for `ALIVE_SECONDS`; one that is seen to be gone loses them at once. Blocking, as the store is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from molecule_runtime.mcp import owners
from molecule_runtime.mcp.store import IN, Mailbox, keys

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from molecule_runtime.mcp.database import Database

ALIVE_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 20.0
"""How often a process says that it is there: each time costs one write to disk."""

EAGER_SECONDS: Final = 10.0
"""For how long others poll faster after a process said that somebody waits there."""


class Sharing:
    """What one process says to the others, and hears from them."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database = database
        self._owner = owner

    def beat(self, *, eager: bool) -> None:
        """Say that this process is there, and whether somebody waits for messages in it."""
        now = time.time()
        with self._database.transaction() as db:
            db.execute("DELETE FROM processes WHERE alive_until < ?", (now - ALIVE_SECONDS,))
            db.execute(
                "INSERT INTO processes VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET alive_until = excluded.alive_until, eager_until = excluded.eager_until",
                (self._owner, now + ALIVE_SECONDS, now + EAGER_SECONDS if eager else 0.0),
            )

    def others(self) -> tuple[int, float]:
        """Return how many other processes share the file, and until when (Unix seconds) somebody waits in one of them."""
        now = time.time()
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT owner, eager_until FROM processes WHERE owner <> ? AND alive_until > ?", (self._owner, now)
            ).fetchall()
        living = [eager_until for owner, eager_until in rows if not owners.is_gone(owner, me=self._owner)]
        return len(living), max(living, default=0.0)

    def claim(self, mailboxes: Collection[Mailbox]) -> set[Mailbox]:
        """Take the mailboxes that nobody polls, and return those that this process polls."""
        with self._database.reading() as db:
            mine, free = self._divide(db, mailboxes)
        if not free:
            return mine
        with self._database.transaction() as db:
            # Once more: another process may have been faster.
            mine, free = self._divide(db, mailboxes)
            db.executemany(
                "INSERT INTO pollers VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET owner = excluded.owner",
                [(mailbox.origin, mailbox.workspace_id, self._owner) for mailbox in free],
            )
        return mine | free

    def give_up(self, mailboxes: Collection[Mailbox]) -> None:
        """Leave mailboxes to the other processes."""
        with self._database.transaction() as db:
            db.execute(f"DELETE FROM pollers WHERE owner = ? AND {IN}", (self._owner, keys(mailboxes)))  # noqa: S608 - a constant

    def _divide(self, db: sqlite3.Connection, mailboxes: Collection[Mailbox]) -> tuple[set[Mailbox], set[Mailbox]]:
        """Return the mailboxes that this process polls, and those that nobody does."""
        pollers = {
            Mailbox(row[0], row[1]): str(row[2])
            for row in db.execute(f"SELECT origin, workspace_id, owner FROM pollers WHERE {IN}", (keys(mailboxes),))  # noqa: S608 - a constant
        }
        alive_until = {str(row[0]): float(row[1]) for row in db.execute("SELECT owner, alive_until FROM processes")}
        now = time.time()
        living = {
            owner: alive_until.get(owner, 0.0) > now and not owners.is_gone(owner, me=self._owner)
            for owner in set(pollers.values())
        }
        mine = {mailbox for mailbox in mailboxes if pollers.get(mailbox) == self._owner}
        free = {mailbox for mailbox in mailboxes if not living.get(pollers.get(mailbox, ""), False)} - mine
        return mine, free
