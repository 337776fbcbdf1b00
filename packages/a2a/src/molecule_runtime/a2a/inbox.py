"""Poll delivery: the workspace reads its messages from the platform's inbox, and lets go of each only after its answer was delivered.

A row counts as handled when its turn is over and its answer is with the platform; that is written to the state file, and only then
does the cursor move and the platform hear of it. Whatever was under way when the process ended comes again (contract
`platform-api.md` 24.3, 24.4), and the turn of one that had ended is not run again (`molecule_runtime.a2a.once`).
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.a2a.errors import StateFileError
from molecule_runtime.a2a.inbox_rows import item_in
from molecule_runtime.core.errors import (
    GoneError,
    NotFoundError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
    UnexpectedResponseError,
)
from molecule_runtime.core.identity import origin_of
from molecule_runtime.core.platform.activity_rows import is_identified

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from molecule_runtime.a2a.inbox_rows import InboxItem
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire import ActivityRow

logger = logging.getLogger(__name__)

IDLE_INTERVAL = 5.0
"""Seconds between polls when nothing happens (contract `platform-api.md` 24.4)."""

BUSY_INTERVAL = 1.0
BUSY_FOR = 30.0
"""Seconds after a message for which polls come faster."""

BACKLOG_SECONDS = 3600
"""How far a workspace that never read its inbox looks back: longer than it takes to be provisioned."""

MAX_BACKLOG_SECONDS = 30 * 24 * 3600
"""What the platform allows."""

PAGE = 100
MAX_UNDER_WAY = 256
"""Rows that are read and not handled; above it the rest waits on the platform."""

MAX_AT_ONCE = 16
"""Turns of this inbox."""

MAX_ATTEMPTS = 5
"""Beginnings of one message's turn, whether the host failed or ended in it."""

MAX_BACKOFF = 60.0
REMEMBERED_SECONDS = 31 * 24 * 3600.0
"""For which a handled row is not taken again, whatever the platform shows: longer than it looks back."""


@dataclass(slots=True, eq=False)
class _Row:
    """A row that was read: where it stands, and whether it is handled."""

    id: str
    seq: int | None
    handled: bool = False


class Inbox:
    """Reads one workspace's inbox.

    `handle` returns whether a message is dealt with; one that is not comes again after the next start. `give_up` tells the sender of a
    message that was begun `MAX_ATTEMPTS` times in vain.
    """

    def __init__(
        self,
        client: PlatformClient,
        state: StateFile,
        handle: Callable[[InboxItem], Awaitable[bool]],
        give_up: Callable[[InboxItem], Awaitable[None]],
    ) -> None:
        self._client = client
        self._state = state
        self._handle = handle
        self._give_up = give_up
        self._mailbox = (origin_of(client.target.platform_url), client.workspace_id)
        self._under_way: OrderedDict[str, _Row] = OrderedDict()
        self._lines: dict[str, list[InboxItem]] = {}
        self._read: str | None = None
        self._look_back = BACKLOG_SECONDS
        self._begun = False
        self._page = PAGE
        self._places = anyio.Semaphore(MAX_AT_ONCE)
        self._moving = anyio.Lock()
        self._acknowledges = True
        self._busy_until = 0.0
        self._stopping = anyio.Event()

    async def run(self) -> None:
        """Read until `stop`, and return when the turns that were begun are over."""
        failures = 0
        self._under_way.clear()
        self._lines.clear()
        self._begun = False
        async with anyio.create_task_group() as group:
            while not self._stopping.is_set():
                try:
                    more = await self._poll(group.start_soon)
                except (PlatformError, StateFileError) as exc:
                    failures += 1
                    pause = min(2.0**failures, MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                    if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
                        pause = max(pause, exc.retry_after)
                    log = logger.warning if failures in {1, 3} or failures % 20 == 0 else logger.debug
                    log("cannot read the inbox (attempt %d): %s", failures, exc)
                    await self._pause(pause)
                else:
                    failures = 0
                    if not more:
                        busy = time.monotonic() < self._busy_until
                        await self._pause((BUSY_INTERVAL if busy else IDLE_INTERVAL) * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    def stop(self) -> None:
        """Read no more, and begin no turn."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stopping.wait()

    async def _poll(self, start: Callable[..., object]) -> bool:
        """Read a page and begin its turns; True when there may be another."""
        if len(self._under_way) >= MAX_UNDER_WAY:
            return False
        if not self._begun:
            self._read = await self._state.run(self._cursor)
            self._begun = True
        try:
            rows = await self._rows()
        except GoneError:
            # The platform does not know the row any more; what came after it is found by its time.
            logger.warning("the platform forgot where this workspace had read to; looking further back")
            self._read, self._look_back = None, await self._state.run(self._age)
            rows = await self._rows()
        except UnexpectedResponseError:
            # Perhaps a page too large to read: the same rows come in smaller ones.
            self._page = max(1, self._page // 4)
            raise
        rows = [row for row in rows if row.id not in self._under_way and is_identified(row)]
        handled = await self._state.run(lambda db: self._handled(db, [row.id for row in rows])) if rows else set[str]()
        for row in rows:
            item = item_in(row, own_id=self._client.workspace_id)
            entry = _Row(row.id, row.seq, handled=item is None or row.id in handled)
            self._under_way[row.id] = entry
            self._read = row.id
            if item is None or entry.handled:
                continue
            self._busy_until = time.monotonic() + BUSY_FOR
            line = self._lines.setdefault(item.line, [])
            line.append(item)
            if len(line) == 1:
                start(self._work_off, item.line)
        await self._advance()
        full = len(rows) >= self._page
        self._page = min(self._page * 2, PAGE)
        return full

    async def _rows(self) -> list[ActivityRow]:
        if self._read is None:
            return await self._backlog(self._look_back)
        rows = await self._client.activity(type="a2a_receive", since_id=self._read, limit=self._page)
        return _chronological(rows)

    async def _backlog(self, seconds: int) -> list[ActivityRow]:
        found: dict[str, ActivityRow] = {}
        before: str | None = None
        while True:
            page = await self._client.activity(
                type="a2a_receive", since_secs=seconds, before_ts=before, limit=self._page
            )
            known = len(found)
            found.update({row.id: row for row in page})
            # A page that brings nothing new: the server does not know before_ts.
            if len(page) < self._page or len(found) == known:
                return _chronological(list(found.values()))
            before = _chronological(page)[0].created_at

    async def _work_off(self, name: str) -> None:
        """Handle the messages of one line, one after the other."""
        line = self._lines[name]
        while line:
            message = line[0]
            async with self._places:
                handled = not self._stopping.is_set() and await self._handled_in_the_end(message)
            if handled:
                self._under_way[message.row_id].handled = True
                await self._advance(also=message.row_id)
            line.pop(0)
        del self._lines[name]

    async def _handled_in_the_end(self, message: InboxItem) -> bool:
        """Handle a message; one with which this host ends or fails again and again must not keep the others back for ever."""
        while not self._stopping.is_set():
            try:
                begun = await self._state.run(lambda db: self._begin(db, message.row_id))
            except StateFileError as exc:
                logger.error("message %s is not counted: %s", message.row_id, exc)  # noqa: TRY400 - the reason is in the text
                begun = 1
            if begun > MAX_ATTEMPTS:
                logger.error("message %s was begun %d times and is given up", message.row_id, begun - 1)
                await self._give_up(message)
                return True
            try:
                return await self._handle(message)
            except Exception:  # whatever it was, it may go better the next time
                logger.exception("message %s of the inbox was not handled", message.row_id)
            await self._pause(BUSY_INTERVAL * 2**begun)
        return False

    async def _advance(self, *, also: str | None = None) -> None:
        """Store that a row is handled, move the cursor up to the first that is not, and tell the platform."""
        async with self._moving:
            last: _Row | None = None
            while self._under_way:
                row = next(iter(self._under_way.values()))
                if not row.handled:
                    break
                last = row
                del self._under_way[row.id]
            if last is None and also is None:
                return
            moved = None if last is None else last.id
            try:
                await self._state.run(lambda db: self._move(db, moved, also))
            except StateFileError as exc:
                logger.error("messages may come again: %s", exc)  # noqa: TRY400 - the reason is in the text
                return
            if last is not None:
                await self._acknowledge(last)

    async def _acknowledge(self, row: _Row) -> None:
        if row.seq is None or not self._acknowledges:
            return
        try:
            await self._client.acknowledge_activity(row.seq)
        except NotFoundError:
            # An older platform, which keeps rows by their age alone.
            self._acknowledges = False
        except PlatformError as exc:
            # The next one counts for this one too.
            logger.debug("row %s was not acknowledged: %s", row.id, exc)

    def _cursor(self, db: sqlite3.Connection) -> str | None:
        row = db.execute(
            "SELECT row_id FROM inbox_cursors WHERE origin = ? AND workspace_id = ?", self._mailbox
        ).fetchone()
        return None if row is None else str(row[0])

    def _age(self, db: sqlite3.Connection) -> int:
        row = db.execute(
            "SELECT moved FROM inbox_cursors WHERE origin = ? AND workspace_id = ?", self._mailbox
        ).fetchone()
        moved = time.time() if row is None else float(row[0])
        return min(int(max(0.0, time.time() - moved)) + BACKLOG_SECONDS, MAX_BACKLOG_SECONDS)

    def _begin(self, db: sqlite3.Connection, row_id: str) -> int:
        """Count a beginning of a row's turn, and return how many there were."""
        (begun,) = db.execute(
            "INSERT INTO inbox_rows (origin, workspace_id, row_id, begun) VALUES (?, ?, ?, 1)"
            " ON CONFLICT DO UPDATE SET begun = begun + 1 RETURNING begun",
            (*self._mailbox, row_id),
        ).fetchone()
        return int(begun)

    def _move(self, db: sqlite3.Connection, cursor: str | None, handled: str | None) -> None:
        now = time.time()
        if handled is not None:
            db.execute(
                "UPDATE inbox_rows SET handled = ? WHERE origin = ? AND workspace_id = ? AND row_id = ?",
                (now, *self._mailbox, handled),
            )
        if cursor is not None:
            db.execute(
                "INSERT INTO inbox_cursors (origin, workspace_id, row_id, moved) VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET row_id = excluded.row_id, moved = excluded.moved",
                (*self._mailbox, cursor, now),
            )
            db.execute("DELETE FROM inbox_rows WHERE handled < ?", (now - REMEMBERED_SECONDS,))

    def _handled(self, db: sqlite3.Connection, row_ids: list[str]) -> set[str]:
        query = "SELECT 1 FROM inbox_rows WHERE origin = ? AND workspace_id = ? AND row_id = ? AND handled IS NOT NULL"
        return {row_id for row_id in row_ids if db.execute(query, (*self._mailbox, row_id)).fetchone()}


def _chronological(rows: list[ActivityRow]) -> list[ActivityRow]:
    """Sort rows oldest first: without a cursor, and on a server that ignores it, they come newest first."""
    if all(row.seq is not None for row in rows):
        return sorted(rows, key=lambda row: row.seq or 0)
    if len(rows) > 1 and rows[0].created_at > rows[-1].created_at:
        return rows[::-1]
    return rows
