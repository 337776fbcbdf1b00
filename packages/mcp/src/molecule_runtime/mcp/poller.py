"""Brings the messages of one workspace from its platform into the inbox."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core.errors import (
    GoneError,
    PlatformError,
    RateLimitedError,
    UnavailableError,
    UnexpectedResponseError,
)
from molecule_runtime.core.platform.activity_rows import is_identified
from molecule_runtime.mcp.inbox import mailbox_of
from molecule_runtime.mcp.rows import message_of
from molecule_runtime.mcp.status import InboxPhase, InboxState
from molecule_runtime.mcp.store import MAX_WAITING
from molecule_runtime.mcp.uploads import HOLD_SECONDS, UploadStager, awaits_files
from molecule_runtime.tools.peers import chronological

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire import ActivityRow
    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.store import InboxStore

logger = logging.getLogger(__name__)

BACKLOG_SECONDS = 600
"""How far the first poll, and one without a cursor, looks back (contract `runtime.md` 4.1)."""

PAGE = 100
"""Rows in one poll."""

MAX_BACKOFF = 60.0
"""Seconds between polls of a platform that keeps failing."""

MAX_RETRY_AFTER = 300.0
"""Seconds; a platform that asks for more is asked again all the same."""


class InboxPoller:
    """Brings the messages of one workspace into the inbox."""

    def __init__(self, client: PlatformClient, store: InboxStore, inbox: PolledInbox, *, tag_arrival: bool) -> None:
        self._client = client
        self._store = store
        self._inbox = inbox
        self._mailbox = mailbox_of(client.target)
        self._tag_arrival = tag_arrival
        self._page = PAGE
        self._full = False
        # What the file says, as long as only this process polls the mailbox: most polls bring nothing, and read nothing from disk.
        self._cursor: str | None = None
        self._known = False
        self.state = InboxState(phase=InboxPhase.STARTING)
        """How it goes."""
        self._stager = UploadStager(client, store, inbox, self._mailbox, inbox.shelf)

    async def run(self) -> None:
        """Poll until cancelled; a failing platform is asked less and less often, and as it says in Retry-After.

        Of several processes of one workspace one polls at a time.
        """
        await self._inbox.turn(self._mailbox)
        async with anyio.create_task_group() as group:
            group.start_soon(self._stager.run)
            await self._poll_for_ever()

    async def _poll_for_ever(self) -> None:
        pace = self._inbox.pacing.of(self._mailbox)
        failures = 0
        while True:
            if await self._inbox.turn(self._mailbox):
                self._known = False
            try:
                async with pace.poll():
                    more = await self.poll()
            except PlatformError as exc:
                failures += 1
                pause = min(2.0**failures, MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
                    pause = max(pause, min(exc.retry_after, MAX_RETRY_AFTER))
                self.state = InboxState(
                    phase=InboxPhase.RETRYING, detail=str(exc), last_poll=self.state.last_poll, failures=failures
                )
                log = logger.warning if failures in {1, 3} or failures % 20 == 0 else logger.debug
                log("cannot read the inbox of workspace %s (attempt %d): %s", self._client.workspace_id, failures, exc)
                await anyio.sleep(pause)
            else:
                failures = 0
                self.state = InboxState(
                    phase=InboxPhase.FULL if self._full else InboxPhase.POLLING, last_poll=time.time()
                )
                if not more:
                    await pace.pause()

    async def poll(self) -> bool:
        """Fetch and store one page; True when there may be another.

        Raises:
            PlatformError: the page could not be read; the cursor has not moved.
        """
        if not self._known:
            self._cursor, waiting = await anyio.to_thread.run_sync(self._on_disk)
            self._known = waiting < MAX_WAITING
        if not self._known:
            if not self._full:
                logger.warning(
                    "the inbox of workspace %s holds %d messages; polling goes on when some are popped",
                    self._client.workspace_id,
                    MAX_WAITING,
                )
            self._full = True
            self._inbox.room(self._mailbox, full=True)
            return False
        self._full = False
        self._inbox.room(self._mailbox, full=False)
        cursor = self._cursor
        try:
            rows = await self._after(cursor) if cursor else await self._backlog()
        except GoneError:
            if cursor is None:
                raise
            self._known = False
            await anyio.to_thread.run_sync(self._store.forget_cursor, self._mailbox)
            return True
        except UnexpectedResponseError:
            # Perhaps a page too large to read (the client stops at 10 MiB): the same rows come in smaller pages.
            self._page = max(1, self._page // 4)
            raise
        if not rows:
            return False
        messages = [
            message
            for row in rows
            if (message := message_of(row, own_id=self._client.workspace_id, tag_arrival=self._tag_arrival)) is not None
        ]
        newest = next((row.id for row in reversed(rows) if is_identified(row)), None)
        # Read again before the next poll: what was added counts towards the limit.
        self._known = False
        until = time.time() + HOLD_SECONDS
        held = {message.activity_id: until for message in messages if awaits_files(message)}
        added = await anyio.to_thread.run_sync(
            lambda: self._store.add(self._mailbox, messages, cursor=newest, held=held)
        )
        if held:
            self._stager.wake()
        if added:
            self._inbox.arrived(self._mailbox)
        more = cursor is not None and len(rows) >= self._page and newest not in {None, cursor}
        self._page = min(self._page * 2, PAGE)
        return more

    def _on_disk(self) -> tuple[str | None, int]:
        return self._store.cursor(self._mailbox), self._store.waiting(self._mailbox)

    async def _after(self, cursor: str) -> list[ActivityRow]:
        # An April server ignores the cursor and answers newest first.
        return chronological(await self._rows(since_id=cursor))

    async def _backlog(self) -> list[ActivityRow]:
        """Read the recent rows, newest page first and then further back: only all of them together have a cursor behind them."""
        found: dict[str, ActivityRow] = {}
        before: str | None = None
        while True:
            page = chronological(await self._rows(since_secs=BACKLOG_SECONDS, before_ts=before))
            known = len(found)
            found.update({row.id: row for row in page})
            # A page that brings nothing new: the server does not know before_ts.
            if len(page) < self._page or len(found) == known or len(found) >= MAX_WAITING:
                return chronological(list(found.values()))
            before = page[0].created_at

    async def _rows(
        self, *, since_id: str | None = None, since_secs: int | None = None, before_ts: str | None = None
    ) -> list[ActivityRow]:
        return await self._client.activity(
            type="a2a_receive",
            since_id=since_id,
            since_secs=since_secs,
            before_ts=before_ts,
            include_peer_info=True,
            limit=self._page,
        )
