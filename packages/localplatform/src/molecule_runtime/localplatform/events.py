"""The in-process event bus: what happens on the platform, as frames (contract 17), for pages, demos and idle timers.

It is bounded everywhere. A reader that does not keep up loses the oldest frames, sees how many in `dropped`, and never slows the
server down. It belongs to one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molecule_runtime.localplatform import timestamps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Container, Generator, Mapping

DEFAULT_CAPACITY = 1024
"""Frames that a subscription holds for its reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One event (contract 17.1)."""

    event: str
    workspace_id: str
    timestamp: str
    """RFC 3339."""
    payload: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "event": self.event,
            "workspace_id": self.workspace_id,
            "timestamp": self.timestamp,
            "payload": dict(self.payload),
        }


class Subscription:
    """The frames since the subscription began, to be read with `async for`; ends when the bus closes.

    Attributes:
        dropped: how many frames were lost because the reader was slow.
    """

    def __init__(self, capacity: int, only: Container[str] | None = None) -> None:
        self.dropped = 0
        self._capacity = capacity
        self._only = only
        self._frames: deque[Frame] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def offer(self, frame: Frame) -> None:
        """Take a frame, at the cost of the oldest one when full."""
        if self._only is not None and frame.event not in self._only:
            return
        if len(self._frames) >= self._capacity:
            self._frames.popleft()
            self.dropped += 1
        self._frames.append(frame)
        self._changed.set()

    def close(self) -> None:
        """End the iteration after the frames that are held."""
        self._closed = True
        self._changed.set()

    async def wait(self) -> bool:
        """Wait for frames; False when the bus has closed and none are left."""
        while not self._frames and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        return bool(self._frames)

    def take(self, most: int) -> list[Frame]:
        """Return the frames that are there, the oldest first, without waiting."""
        return [self._frames.popleft() for _ in range(min(most, len(self._frames)))]

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Frame:
        if not await self.wait():
            raise StopAsyncIteration
        return self._frames.popleft()


class EventBus:
    """Publishes frames to every subscription."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._subscriptions: set[Subscription] = set()
        self._watchers: dict[str, set[Callable[[], None]]] = {}
        self._closed = False

    def publish(self, event: str, workspace_id: str, payload: Mapping[str, Any]) -> None:
        """Send a frame to every reader; returns at once."""
        frame = Frame(
            event=event,
            workspace_id=workspace_id,
            timestamp=timestamps.render(timestamps.from_seconds(self._clock())),
            payload=payload,
        )
        for subscription in self._subscriptions:
            subscription.offer(frame)
        for watcher in tuple(self._watchers.get(workspace_id, ())):
            watcher()

    @asynccontextmanager
    async def subscribe(self, *, capacity: int = DEFAULT_CAPACITY) -> AsyncGenerator[Subscription]:
        """Read the frames published from now on."""
        subscription = self.listen(capacity)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def listen(self, capacity: int, only: Container[str] | None = None) -> Subscription:
        """Read the frames published from now on, of these events or of all, for as long as the bus lives."""
        subscription = Subscription(capacity, only)
        if self._closed:
            subscription.close()
        self._subscriptions.add(subscription)
        return subscription

    @contextmanager
    def watch(self, workspace_id: str, callback: Callable[[], None]) -> Generator[None]:
        """Call back on each event of one workspace; the callback must be quick and must not raise."""
        watchers = self._watchers.setdefault(workspace_id, set())
        watchers.add(callback)
        try:
            yield
        finally:
            watchers.discard(callback)
            if not watchers and self._watchers.get(workspace_id) is watchers:
                del self._watchers[workspace_id]

    def close(self) -> None:
        """End every subscription; later ones end at once."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()
