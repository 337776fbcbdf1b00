"""The inbox of a `molecule-mcp` process: pollers put messages in, tools take them out."""

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
from molecule_runtime.core.identity import origin_of
from molecule_runtime.mcp.rows import message_of
from molecule_runtime.mcp.store import MAX_WAITING, InboxStore, Mailbox
from molecule_runtime.tools.peers import chronological

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire import ActivityRow
    from molecule_runtime.core.targets import WorkspaceTarget
    from molecule_runtime.tools import InboxMessage

logger = logging.getLogger(__name__)

IDLE_INTERVAL = 5.0
"""Seconds between polls when nothing happens (contract `runtime.md` 4.1)."""

BUSY_INTERVAL = 1.0
"""Seconds between polls while somebody waits, and for a while after a message."""

BUSY_FOR = 30.0
"""Seconds for which a message keeps polling fast."""

BACKLOG_SECONDS = 600
"""How far the first poll, and one without a cursor, looks back (contract `runtime.md` 4.1)."""

PAGE = 100
"""Rows in one poll."""

MAX_BACKOFF = 60.0
"""Seconds between polls of a platform that keeps failing."""


def mailbox_of(target: WorkspaceTarget) -> Mailbox:
    """Return the mailbox of a target."""
    return Mailbox(origin_of(target.platform_url), target.id)


class PolledInbox:
    """The inbox that the tools see. Implements `molecule_runtime.tools.Inbox`."""

    def __init__(self, store: InboxStore, mailboxes: Mapping[str, Mailbox]) -> None:
        self._store = store
        self._mailboxes = dict(mailboxes)
        self._changed = anyio.Event()
        self._asked = anyio.Event()
        self._waiters = 0
        self._busy_until = 0.0

    async def wait(self, timeout: float, *, workspace_id: str | None = None) -> InboxMessage | None:
        """Return the oldest message that nobody is handling, leased to the caller; None after `timeout` seconds."""
        mailboxes = self._chosen(workspace_id)
        deadline = time.monotonic() + timeout
        self._waiters += 1
        # Every poller that pauses waits for this one event.
        self._asked.set()
        self._asked = anyio.Event()
        try:
            while True:
                changed = self._changed
                message = await self._lease(mailboxes)
                remaining = deadline - time.monotonic()
                if message is not None or remaining <= 0:
                    return message
                lease_end = await anyio.to_thread.run_sync(self._store.next_lease_end, mailboxes)
                if lease_end is not None and lease_end > 0:
                    remaining = min(remaining, max(0.05, lease_end - time.time() + 0.05))
                with anyio.move_on_after(remaining):
                    await changed.wait()
        finally:
            self._waiters -= 1

    async def _lease(self, mailboxes: list[Mailbox]) -> InboxMessage | None:
        message = await anyio.to_thread.run_sync(self._store.lease, mailboxes)
        if message is not None:
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
            except anyio.get_cancelled_exc_class():
                # The one who waited has gone: the next one gets it at once, not when the lease ends.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._store.release, mailboxes, message.activity_id)
                self.arrived()
                raise
        return message

    async def peek(self, limit: int, *, workspace_id: str | None = None) -> Sequence[InboxMessage]:
        """Return waiting messages, oldest first."""
        return await anyio.to_thread.run_sync(self._store.peek, self._chosen(workspace_id), limit)

    async def pop(self, activity_id: str, *, workspace_id: str | None = None) -> bool:
        """Remove a message that was dealt with."""
        return await anyio.to_thread.run_sync(self._store.pop, self._chosen(workspace_id), activity_id)

    def arrived(self) -> None:
        """Wake those who wait: a poller wrote new messages."""
        self._busy_until = time.monotonic() + BUSY_FOR
        self._changed.set()
        self._changed = anyio.Event()

    async def pause(self) -> None:
        """Sleep until the next poll is due: soon while somebody waits or talks, later when nothing happens, never in lock-step."""
        asked = self._asked
        eager = self._waiters > 0 or time.monotonic() < self._busy_until
        seconds = (BUSY_INTERVAL if eager else IDLE_INTERVAL) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        with anyio.move_on_after(seconds):
            if eager:
                await anyio.sleep(seconds)
            # Somebody who begins to wait makes the next poll due at once.
            await asked.wait()

    def _chosen(self, workspace_id: str | None) -> list[Mailbox]:
        if workspace_id is None:
            return list(self._mailboxes.values())
        return [self._mailboxes[workspace_id]]


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

    async def run(self) -> None:
        """Poll until cancelled; a failing platform is asked less and less often, and as it says in Retry-After."""
        failures = 0
        while True:
            try:
                more = await self.poll()
            except PlatformError as exc:
                failures += 1
                pause = min(2.0**failures, MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
                    pause = max(pause, exc.retry_after)
                log = logger.warning if failures in {1, 3} or failures % 20 == 0 else logger.debug
                log("cannot read the inbox of workspace %s (attempt %d): %s", self._client.workspace_id, failures, exc)
                await anyio.sleep(pause)
            else:
                failures = 0
                if not more:
                    await self._inbox.pause()

    async def poll(self) -> bool:
        """Fetch and store one page; True when there may be another.

        Raises:
            PlatformError: the page could not be read; the cursor has not moved.
        """
        if await anyio.to_thread.run_sync(self._store.waiting, self._mailbox) >= MAX_WAITING:
            if not self._full:
                logger.warning(
                    "the inbox of workspace %s holds %d messages; polling goes on when some are popped",
                    self._client.workspace_id,
                    MAX_WAITING,
                )
            self._full = True
            return False
        self._full = False
        cursor = await anyio.to_thread.run_sync(self._store.cursor, self._mailbox)
        try:
            rows = await self._after(cursor) if cursor else await self._backlog()
        except GoneError:
            if cursor is None:
                raise
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
        newest = rows[-1].id
        added = await anyio.to_thread.run_sync(lambda: self._store.add(self._mailbox, messages, cursor=newest))
        if added:
            self._inbox.arrived()
        more = cursor is not None and len(rows) >= self._page and newest != cursor
        self._page = min(self._page * 2, PAGE)
        return more

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
