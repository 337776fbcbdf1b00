"""When each inbox is polled: on a hint of the platform at once, fast while somebody talks or waits, slowly when nothing happens.

Each target has a pace of its own, and what a target does changes no other's. Polling is the truth and a hint only hurries it: a platform
that gives none costs latency, never a message.
"""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Generator

    from molecule_runtime.mcp.store import Mailbox

IDLE_INTERVAL: Final = 5.0
"""Seconds between polls when nothing happens (contract `runtime.md` 4.1)."""

BUSY_INTERVAL: Final = 1.0
"""Seconds between polls while somebody waits, and for a while after a message."""

BUSY_FOR: Final = 30.0
"""Seconds for which a message keeps polling fast."""

HINTED_INTERVAL: Final = 120.0
"""Seconds between polls where the platform says that something came: should a hint be lost, a message is late by that much."""

HINTED_FOR: Final = 50.0
"""Seconds that one event about a workspace proves that its events arrive: two of its heartbeats and their jitter."""

HINT_GAP: Final = 0.1
"""Seconds between two polls for hints: what arrives in between is in the second."""

MAX_POLLS_PER_SECOND: Final = 20.0
"""To one platform, over all of its targets that get no hints: a thousand of them share it, each every 50 s."""

MAX_POLLS_AT_ONCE: Final = 8
"""Of one platform: a fourth of its connections for short requests, so that polls that it answers slowly keep no heartbeat waiting."""

_JITTER: Final = 0.2


class _Origin:
    """The targets of one platform."""

    def __init__(self) -> None:
        self.places = anyio.Semaphore(MAX_POLLS_AT_ONCE)
        self.paces: set[Pace] = set()
        self._interval = 0.0
        self._counted = 0.0

    def interval(self, now: float) -> float:
        """Return the seconds that a target without hints leaves between its polls at least."""
        # Not each time: a thousand targets that ask at once would count a thousand targets each.
        if now - self._counted >= 1.0:
            self._counted = now
            self._interval = sum(not pace.is_hinted for pace in self.paces) / MAX_POLLS_PER_SECOND
        return self._interval


class Pace:
    """When one mailbox is polled. Belongs to the event loop."""

    def __init__(self, origin: _Origin, pacing: Pacing) -> None:
        self._origin = origin
        self._pacing = pacing
        self._waiting = 0
        self._asked = False
        self._busy_until = 0.0
        self._hinted_until = 0.0
        self._due = False
        self._polled = 0.0
        self._stretch = _stretch()
        self._nudged = anyio.Event()

    @property
    def is_hinted(self) -> bool:
        """Whether the platform's events about this workspace have been arriving."""
        return time.monotonic() < self._hinted_until

    def prove(self) -> None:
        """Note an event about this workspace: its events arrive."""
        self._hinted_until = time.monotonic() + HINTED_FOR

    def doubt(self) -> None:
        """Count on no more events: whatever brought them has ended. What came since is fetched by the clock."""
        if self._hinted_until:
            self._hinted_until = 0.0
            self._nudge()

    def hint(self) -> None:
        """Make the next poll due: a message has come."""
        self._due = True
        self._nudge()

    def talk(self) -> None:
        """Poll fast for a while: there was a message."""
        self._busy_until = time.monotonic() + BUSY_FOR
        self._nudge()

    @asynccontextmanager
    async def poll(self) -> AsyncGenerator[None]:
        """Wait for a turn at the platform and poll in the block. A hint that comes meanwhile makes another poll due."""
        async with self._origin.places:
            self._due = self._asked = False
            self._polled = time.monotonic()
            self._stretch = _stretch()
            yield

    async def pause(self) -> None:
        """Sleep until the next poll is due; never in lock-step with others."""
        while True:
            now = time.monotonic()
            wait = HINT_GAP if self._due else self._interval(now) * self._stretch
            remaining = self._polled + wait - now
            if remaining <= 0:
                return
            nudged = self._nudged
            with anyio.move_on_after(remaining):
                await nudged.wait()

    def begin_waiting(self) -> None:
        """Somebody waits for a message of this mailbox."""
        self._waiting += 1
        # Also where they wait for a moment only: the next poll is due at once.
        self._asked = True
        self._nudge()

    def end_waiting(self) -> None:
        """They do no longer."""
        self._waiting -= 1

    def look_up(self) -> None:
        """Consider anew when the next poll is due."""
        self._nudge()

    def _interval(self, now: float) -> float:
        if self.is_hinted:
            return HINTED_INTERVAL
        eager = self._waiting > 0 or self._asked or now < self._busy_until or self._pacing.is_urged
        return max(BUSY_INTERVAL if eager else IDLE_INTERVAL, self._origin.interval(now))

    def _nudge(self) -> None:
        self._nudged.set()
        self._nudged = anyio.Event()


class Pacing:
    """The paces of every mailbox of a process."""

    def __init__(self) -> None:
        self._paces: dict[Mailbox, Pace] = {}
        self._origins: dict[str, _Origin] = {}
        self._urged_until = 0.0

    def of(self, mailbox: Mailbox) -> Pace:
        """Return the pace of a mailbox, the same one each time."""
        pace = self._paces.get(mailbox)
        if pace is None:
            origin = self._origins.setdefault(mailbox.origin, _Origin())
            pace = self._paces[mailbox] = Pace(origin, self)
            origin.paces.add(pace)
        return pace

    def forget(self, mailbox: Mailbox) -> None:
        """Drop the pace of a mailbox that is served no more."""
        pace = self._paces.pop(mailbox, None)
        origin = self._origins.get(mailbox.origin)
        if pace is not None and origin is not None:
            origin.paces.discard(pace)
            if not origin.paces:
                del self._origins[mailbox.origin]

    @property
    def is_urged(self) -> bool:
        """Whether somebody waits in another process that shares the inbox."""
        return time.time() < self._urged_until

    def urge(self, until: float) -> None:
        """Poll fast until then (Unix seconds): somebody waits in another process."""
        before, self._urged_until = self.is_urged, until
        if self.is_urged and not before:
            for pace in list(self._paces.values()):
                pace.look_up()

    @contextmanager
    def waiting(self, mailboxes: Collection[Mailbox]) -> Generator[None]:
        """Somebody waits for a message of one of these mailboxes, for the length of the block."""
        paces = [self.of(mailbox) for mailbox in mailboxes]
        for pace in paces:
            pace.begin_waiting()
        try:
            yield
        finally:
            for pace in paces:
                pace.end_waiting()


def _stretch() -> float:
    return random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter
