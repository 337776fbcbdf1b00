"""The inbox of a `molecule-mcp` process: pollers put messages in, tools and pushes take them out.

Several processes may share one file. A watch looks after what the others write, so that somebody who waits here is woken by what was
polled there; and of each mailbox only one process is the poller at a time.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core.identity import origin_of
from molecule_runtime.mcp import store as stored
from molecule_runtime.mcp.changes import ResourceChanges, inbox_uri
from molecule_runtime.mcp.errors import StateError
from molecule_runtime.mcp.listing import find_messages, list_mailboxes
from molecule_runtime.mcp.pacing import Pacing
from molecule_runtime.mcp.sharing import BEAT_SECONDS, EAGER_SECONDS, Sharing
from molecule_runtime.mcp.shelf import FileShelf
from molecule_runtime.mcp.store import InboxStore, Mailbox
from molecule_runtime.mcp.uploads import missing_files_said

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Mapping, Sequence
    from pathlib import Path

    from molecule_runtime.core.targets import WorkspaceTarget
    from molecule_runtime.tools import InboxMessage

logger = logging.getLogger(__name__)

FILES = "uploads"
"""Folder of the files of messages, beside the inbox file."""

WATCH_INTERVAL = 0.5
"""Seconds between looks at what other processes wrote, and whether they are still there."""


def mailbox_of(target: WorkspaceTarget) -> Mailbox:
    """Return the mailbox of a target."""
    return Mailbox(origin_of(target.platform_url), target.id)


class PolledInbox:
    """The inbox that the tools see. Implements `molecule_runtime.tools.Inbox`."""

    def __init__(
        self,
        store: InboxStore,
        mailboxes: Mapping[str, Mailbox],
        changes: ResourceChanges | None = None,
        *,
        files: Path | None = None,
    ) -> None:
        self._store = store
        self.shelf = FileShelf(store, files or store.database.path.parent / FILES)
        """Where the files of messages lie."""
        self._sharing = Sharing(store.database, store.owner)
        self._mailboxes = dict(mailboxes)
        self._changes = changes or ResourceChanges()
        self._changed = anyio.Event()
        self.pacing = Pacing()
        """When each mailbox is polled."""
        self._turned = anyio.Event()
        self._polled_here: set[Mailbox] = set()
        self._looked = False
        self._full: set[Mailbox] = set()
        self._seen: dict[Mailbox, tuple[int, int]] = {}
        self._waiters = 0
        self._at_work = 0

    def serve(self, workspace_id: str, mailbox: Mailbox) -> None:
        """Take in one workspace more."""
        self._mailboxes[workspace_id] = mailbox

    async def leave(self, workspace_id: str) -> None:
        """Serve a workspace no more. Its messages stay in the file, and another process may poll it."""
        mailbox = self._mailboxes.pop(workspace_id, None)
        if mailbox is not None:
            self._polled_here.discard(mailbox)
            self._full.discard(mailbox)
            self.pacing.forget(mailbox)
            await anyio.to_thread.run_sync(self._sharing.give_up, [mailbox])

    def polls(self, mailbox: Mailbox) -> bool | None:
        """Tell whether this process polls a mailbox, rather than another one; None where that is not known yet."""
        return mailbox in self._polled_here if self._looked else None

    # --- what the tools do ----------------------------------------------------------------------------------------------------

    async def wait(self, timeout: float, *, workspace_id: str | None = None) -> InboxMessage | None:
        """Return the oldest message that nobody is handling, leased to the caller; None after `timeout` seconds."""
        mailboxes = self._chosen(workspace_id)
        deadline = time.monotonic() + timeout
        self._waiters += 1
        try:
            with self.pacing.waiting(mailboxes):
                while True:
                    changed = self._changed
                    message = await self._lease(mailboxes)
                    if message is not None:
                        return missing_files_said(message)
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return None
                    free_at = await anyio.to_thread.run_sync(self._store.next_free, mailboxes)
                    if free_at is not None:
                        remaining = min(remaining, max(0.05, free_at - time.time() + 0.05))
                    with anyio.move_on_after(remaining):
                        await changed.wait()
        finally:
            self._waiters -= 1

    async def _lease(self, mailboxes: Collection[Mailbox]) -> InboxMessage | None:
        message = await anyio.to_thread.run_sync(self._store.lease, mailboxes)
        if message is not None:
            try:
                await anyio.lowlevel.checkpoint_if_cancelled()
            except anyio.get_cancelled_exc_class():
                # The one who waited has gone: the next one gets it at once, not when the lease ends.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._store.release, mailboxes, message.activity_id)
                self._wake()
                raise
        return message

    async def peek(self, limit: int, *, workspace_id: str | None = None) -> Sequence[InboxMessage]:
        """Return waiting messages, oldest first."""
        messages = await anyio.to_thread.run_sync(self._store.peek, self._chosen(workspace_id), limit)
        return [missing_files_said(message) for message in messages]

    async def find(self, activity_id: str, *, workspace_id: str) -> InboxMessage | None:
        """Return one waiting message, without leasing it."""
        mailboxes = set(self._chosen(workspace_id))
        found = await anyio.to_thread.run_sync(find_messages, self._store, activity_id)
        return next((item.message for item in found if item.mailbox in mailboxes and item.state != "popped"), None)

    async def pop(self, activity_id: str, *, workspace_id: str | None = None) -> bool:
        """Remove a message that was dealt with."""
        mailbox = await anyio.to_thread.run_sync(self._store.pop, self._chosen(workspace_id), activity_id)
        if mailbox is None:
            return False
        self._changes.announce(inbox_uri(mailbox.workspace_id))
        self._wake()
        return True

    def backpressure(self, *, workspace_id: str | None = None) -> str | None:
        """Say that no more messages are taken until some were popped; None while there is room."""
        full = [mailbox.workspace_id for mailbox in self._chosen(workspace_id) if mailbox in self._full]
        if not full:
            return None
        return (
            f"the inbox of {', '.join(full[:5])} holds {stored.MAX_WAITING} messages, so no more are fetched from the platform: "
            "deal with some and take each out with inbox_pop"
        )

    @contextmanager
    def working(self) -> Generator[None]:
        """The agent is at work through a tool: while it is, what it was handed is not handed to anyone else."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    async def status(self) -> dict[str, dict[str, Any]]:
        """Say of each workspace how many messages wait, whether it is full, and who polls it.

        Raises:
            StateError: the file cannot be read.
        """
        states = await anyio.to_thread.run_sync(list_mailboxes, self._store)
        by_mailbox = {state.mailbox: state for state in states}
        found: dict[str, dict[str, Any]] = {}
        for workspace_id, mailbox in self._mailboxes.items():
            state = by_mailbox.get(mailbox)
            here = mailbox in self._polled_here
            elsewhere = state is not None and state.polled_by is not None
            found[workspace_id] = {
                "waiting": state.waiting if state else 0,
                "leased": state.leased if state else 0,
                "limit": stored.MAX_WAITING,
                "full": state.full if state else False,
                "polled_by": "this process" if here else "another process" if elsewhere else "nobody",
            }
        return found

    # --- what the pollers do --------------------------------------------------------------------------------------------------

    def arrived(self, mailbox: Mailbox) -> None:
        """Wake those who wait: a poller wrote new messages."""
        self.pacing.of(mailbox).talk()
        self._changes.announce(inbox_uri(mailbox.workspace_id))
        self._wake()

    def room(self, mailbox: Mailbox, *, full: bool) -> None:
        """Note whether a mailbox takes more messages."""
        if full:
            self._full.add(mailbox)
        else:
            self._full.discard(mailbox)

    async def turn(self, mailbox: Mailbox) -> bool:
        """Wait until it is this process that polls a mailbox; True when it was not all the time."""
        waited = False
        while mailbox not in self._polled_here:
            waited = True
            await self._turned.wait()
        return waited

    # --- what is pushed to the client -----------------------------------------------------------------------------------------

    @property
    def news(self) -> anyio.Event:
        """What is set at the next change."""
        return self._changed

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a message in this process, and so need not be told of it."""
        return self._waiters > 0

    async def lease_for_push(self) -> tuple[Mailbox, InboxMessage] | None:
        """Return the oldest message that nobody handles, to be pushed to the client of this process; None where there is none.

        None too while the client has not taken what was pushed before.
        """
        found = await anyio.to_thread.run_sync(self._store.lease_for_push, self._chosen(None))
        return None if found is None else (found[0], missing_files_said(found[1]))

    async def release(self, mailbox: Mailbox, activity_id: str) -> None:
        """Take back what could not be pushed."""
        await anyio.to_thread.run_sync(self._store.release, [mailbox], activity_id)

    # --- the other processes --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after the other processes of the file until cancelled."""
        watch = _Watch(self._store, self._sharing)
        while True:
            try:
                await self._look(watch)
            except StateError:
                # The file may be mended: a full disk, a folder that was away.
                logger.exception("the inbox cannot be looked after; the next try is in %.0f s", EAGER_SECONDS)
                await anyio.sleep(EAGER_SECONDS)
            await anyio.sleep(WATCH_INTERVAL)

    async def _look(self, watch: _Watch) -> None:
        mailboxes = list(self._mailboxes.values())
        waits = self._waiters > 0
        found = await anyio.to_thread.run_sync(lambda: watch.look(mailboxes, waits=waits, at_work=self._at_work > 0))
        self._looked = True
        if gone := found.polled_here - set(self._mailboxes.values()):
            # They were left while this look was under way.
            await anyio.to_thread.run_sync(self._sharing.give_up, gone)
            found.polled_here -= gone
        if found.polled_here != self._polled_here:
            self._polled_here = found.polled_here
            self._turned.set()
            self._turned = anyio.Event()
        self.pacing.urge(found.others_wait_until)
        if found.summary is not None:
            self._compare(found.summary)
        if found.summary is not None or found.freed:
            self._wake()

    def _compare(self, summary: dict[Mailbox, tuple[int, int]]) -> None:
        for mailbox in set(self._mailboxes.values()):
            now = summary.get(mailbox, (0, 0))
            if now != self._seen.get(mailbox, (0, 0)):
                self._changes.announce(inbox_uri(mailbox.workspace_id))
            self.room(mailbox, full=now[0] >= stored.MAX_WAITING)
        self._seen = summary

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _chosen(self, workspace_id: str | None) -> list[Mailbox]:
        if workspace_id is None:
            return list(self._mailboxes.values())
        return [self._mailboxes[workspace_id]]


class _Found:
    """What one look at the file brought."""

    def __init__(self) -> None:
        self.polled_here: set[Mailbox] = set()
        self.others_wait_until = 0.0
        self.summary: dict[Mailbox, tuple[int, int]] | None = None
        self.freed = False


class _Watch:
    """Looks at the file, in a thread."""

    def __init__(self, store: InboxStore, sharing: Sharing) -> None:
        self._store = store
        self._sharing = sharing
        self._version = -1
        self._mine: set[Mailbox] = set()
        self._next_beat = 0.0
        self._said_to_wait_until = 0.0

    def look(self, mailboxes: Collection[Mailbox], *, waits: bool, at_work: bool) -> _Found:
        found = _Found()
        others, found.others_wait_until = self._sharing.others()
        now = time.monotonic()
        # That somebody waits here interests nobody where there is no other process.
        tell = waits and others > 0 and now >= self._said_to_wait_until
        if tell or now >= self._next_beat:
            self._sharing.beat(eager=waits)
            self._next_beat = now + BEAT_SECONDS
            self._said_to_wait_until = now + EAGER_SECONDS / 2 if waits else 0.0
        version = self._store.database.version()
        # Where this process polls everything and no other one wrote anything there is nothing to claim: with a thousand mailboxes
        # the question costs a hundred times the rest of a look.
        if version != self._version or self._mine != set(mailboxes):
            self._mine = self._sharing.claim(mailboxes)
        found.polled_here = set(self._mine)
        if at_work:
            self._store.prolong()
        found.freed = self._store.release_dead_leases()
        if version != self._version:
            self._version = version
            found.summary = self._store.summary(mailboxes)
        return found
