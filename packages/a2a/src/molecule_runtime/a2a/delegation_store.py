"""What is known of this workspace's delegations, in the state file: a restart neither loses a result nor tells it again."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from molecule_runtime.a2a.delegation_rows import ENDED, Result, told
from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from molecule_runtime.a2a.delegation_rows import Listing
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire import Delegation

MAX_TOLD_TOGETHER = 8
"""Results in one turn."""

MAX_REMEMBERED = 2000
"""Delegations that have been dealt with; the platform shows the newest 50."""

MAX_OPEN = 500
OPEN_SECONDS = 31 * 24 * 3600.0
"""For which an end is waited for; the platform's own deadline is 6 h (contract `platform-api.md` 24.6)."""

_OPEN, _ENDED, _TOLD, _OLD, _FOREIGN = "open", "ended", "told", "old", "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """A turn in which results are told: always with the same words and under the same id.

    Attributes:
        number: of the turn here.
        delegation_ids: what it tells of.
        begun: how often it was begun, this time included.
    """

    number: int
    message_id: str
    text: str
    delegation_ids: tuple[str, ...]
    begun: int


class DelegationStore:
    """The delegations of one workspace.

    `since` is when this process began (seconds since 1970). What had ended before a state file is there, and was begun before this
    process (as far as the clocks of this machine and of the platform agree), is history: there is no telling whether the agent knows
    of it.
    """

    def __init__(self, state: StateFile, client: PlatformClient, *, since: float) -> None:
        self._state = state
        self._whose = (origin_of(client.target.platform_url), client.workspace_id)
        self._since = since

    async def news(self, listing: Listing) -> list[str]:
        """Return the delegations that have ended and are to be told of."""

        def read(db: sqlite3.Connection) -> list[str]:
            first, known = self._first(db), self._known(db)
            return [
                identifier
                for identifier, row in listing.own.items()
                if row.status in ENDED
                and known.get(identifier, _OPEN) == _OPEN
                and not (identifier not in known and first and self._is_history(row))
            ]

        return await self._state.run(read)

    async def note(self, listing: Listing, results: Mapping[str, Result]) -> list[tuple[str, str]]:
        """Keep what a look at the list brought; returns the foreign delegations that were not known before."""

        def write(db: sqlite3.Connection) -> list[tuple[str, str]]:
            first, known, now = self._first(db), self._known(db), time.time()
            # Oldest first, so that numbers follow the order of time.
            for identifier, row in reversed(listing.own.items()):
                if row.status in ENDED:
                    if identifier not in results and identifier not in known and first:
                        self._put(db, identifier, _OLD, None, now)
                elif identifier not in known:
                    self._put(db, identifier, _OPEN, None, now)
            for identifier, result in results.items():
                if known.get(identifier, _OPEN) == _OPEN:
                    self._put(db, identifier, _ENDED, result.encoded(), now)
            foreign = [pair for pair in sorted(listing.foreign) if self._put_foreign(db, *pair, now)]
            if first:
                db.execute("INSERT INTO delegation_watches VALUES (?, ?, ?)", (*self._whose, now))
            self._evict(db, now)
            return foreign

        return await self._state.run(write)

    async def open(self) -> set[str]:
        """Return the delegations that have not ended."""
        return await self._state.run(lambda db: {key for key, state in self._known(db).items() if state == _OPEN})

    async def next(self) -> Telling | None:
        """Return the turn to run next, counted as begun; None when everything was told."""

        def take(db: sqlite3.Connection) -> Telling | None:
            row = db.execute(
                "SELECT number FROM delegation_turns WHERE origin = ? AND workspace_id = ? ORDER BY number LIMIT 1",
                self._whose,
            ).fetchone()
            number = row[0] if row is not None else self._compose(db)
            if number is None:
                return None
            message_id, text, begun = db.execute(
                "UPDATE delegation_turns SET begun = begun + 1 WHERE number = ? RETURNING message_id, text, begun",
                (number,),
            ).fetchone()
            ids = db.execute("SELECT delegation_id FROM delegations WHERE turn = ? ORDER BY number", (number,))
            return Telling(
                number=number,
                message_id=message_id,
                text=text,
                delegation_ids=tuple(identifier for (identifier,) in ids),
                begun=begun,
            )

        return await self._state.run(take)

    async def told(self, telling: Telling) -> None:
        """Note that a turn is over: what it told is never told again."""

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE delegations SET state = ?, result = NULL, turn = NULL, changed = ? WHERE turn = ?",
                (_TOLD, time.time(), telling.number),
            )
            db.execute("DELETE FROM delegation_turns WHERE number = ?", (telling.number,))

        await self._state.run(write)

    async def put_back(self, telling: Telling) -> None:
        """Note that a turn was not begun after all."""
        await self._state.run(
            lambda db: db.execute("UPDATE delegation_turns SET begun = begun - 1 WHERE number = ?", (telling.number,))
        )

    def _compose(self, db: sqlite3.Connection) -> int | None:
        waiting = db.execute(
            "SELECT number, result FROM delegations WHERE origin = ? AND workspace_id = ? AND state = ? ORDER BY number LIMIT ?",
            (*self._whose, _ENDED, MAX_TOLD_TOGETHER),
        ).fetchall()
        if not waiting:
            return None
        text = told([Result.decoded(result) for _, result in waiting])
        (number,) = db.execute(
            "INSERT INTO delegation_turns (origin, workspace_id, message_id, text, begun) VALUES (?, ?, ?, ?, 0) RETURNING number",
            (*self._whose, str(uuid.uuid4()), text),
        ).fetchone()
        db.executemany("UPDATE delegations SET turn = ? WHERE number = ?", [(number, each) for each, _ in waiting])
        return int(number)

    def _first(self, db: sqlite3.Connection) -> bool:
        query = "SELECT 1 FROM delegation_watches WHERE origin = ? AND workspace_id = ?"
        return db.execute(query, self._whose).fetchone() is None

    def _known(self, db: sqlite3.Connection) -> dict[str, str]:
        query = "SELECT delegation_id, state FROM delegations WHERE origin = ? AND workspace_id = ? AND source_id = ?"
        return dict(db.execute(query, (*self._whose, self._whose[1])).fetchall())

    def _is_history(self, row: Delegation) -> bool:
        try:
            created = datetime.fromisoformat(row.created_at).timestamp()
        except ValueError:
            return True
        return created < self._since

    def _put(self, db: sqlite3.Connection, identifier: str, state: str, result: str | None, now: float) -> None:
        db.execute(
            "INSERT INTO delegations (origin, workspace_id, delegation_id, source_id, state, result, changed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET state = excluded.state, result = excluded.result, changed = excluded.changed",
            (*self._whose, identifier, self._whose[1], state, result, now),
        )

    def _put_foreign(self, db: sqlite3.Connection, identifier: str, source: str, now: float) -> bool:
        changed = db.execute(
            "INSERT INTO delegations (origin, workspace_id, delegation_id, source_id, state, changed) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (*self._whose, identifier, source, _FOREIGN, now),
        )
        return changed.rowcount > 0

    def _evict(self, db: sqlite3.Connection, now: float) -> None:
        """Forget the oldest of what is dealt with; an open one whose end never comes is forgotten too."""
        for condition, most in (
            (f"state IN ('{_TOLD}', '{_OLD}', '{_FOREIGN}')", MAX_REMEMBERED),
            (f"state = '{_OPEN}'", MAX_OPEN),
        ):
            db.execute(
                "DELETE FROM delegations WHERE number IN (SELECT number FROM delegations WHERE origin = ? AND workspace_id = ?"  # noqa: S608 - constants only; every value is a parameter
                f" AND {condition} ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (*self._whose, most),
            )
        db.execute(
            "UPDATE delegations SET state = ? WHERE origin = ? AND workspace_id = ? AND state = ? AND changed < ?",
            (_OLD, *self._whose, _OPEN, now - OPEN_SECONDS),
        )
