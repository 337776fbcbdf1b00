"""Stopping on SIGTERM and SIGINT: the first signal asks, the second one ends the process.

The host owns both signals because a web server that re-raises them would skip the rest of the shutdown (contract
`workspace-host.md` 0.4).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType


class StopSignal:
    """A request to stop, made by a signal, by another thread or by the host itself."""

    def __init__(self) -> None:
        self.reason = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None
        # Its put() may be called from a signal handler at any point, unlike that of other synchronisation objects.
        self._reasons: queue.SimpleQueue[str] = queue.SimpleQueue()

    @property
    def requested(self) -> bool:
        """Tell whether somebody asked to stop."""
        return bool(self.reason)

    @contextlib.contextmanager
    def installed(self) -> Generator[None, None, None]:
        """Handle SIGTERM and SIGINT inside the block. Does nothing outside the main thread, where Python forbids it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def request(self, reason: str) -> None:
        """Ask to stop, from any thread; the first reason stays."""
        self.reason = self.reason or reason
        self._reasons.put(reason)
        loop, event = self._loop, self._event
        if loop is not None and event is not None and not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    def block(self) -> None:
        """Return when somebody asked to stop; for a thread of its own."""
        self._reasons.get()

    async def wait(self) -> None:
        """Return when somebody asked to stop."""
        if self._event is None:
            self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()
        if self.requested:
            return
        await self._event.wait()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # The user asked twice: no clean-up, and not even the event loop can be trusted (an adapter may block it).
            sys.stderr.flush()
            os._exit(128 + number)
        self.request(signal.Signals(number).name)
