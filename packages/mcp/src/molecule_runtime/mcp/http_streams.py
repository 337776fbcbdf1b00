"""Which sessions over HTTP can be told something now: those whose client holds `GET /mcp` open. What is sent to another one is lost."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator


class OpenStreams:
    """The sessions with an open stream, by their id."""

    def __init__(self) -> None:
        self._open: set[str] = set()
        self._changed = anyio.Event()

    def is_open(self, session_id: str) -> bool:
        """Tell whether a session can be told something."""
        return session_id in self._open

    async def until_open(self, session_id: str) -> None:
        """Wait until a session can be told something."""
        while session_id not in self._open:
            await self._changed.wait()

    @contextmanager
    def held(self, session_id: str) -> Generator[None]:
        """A session's stream is open for the length of the block; the SDK allows one of each session."""
        self._open.add(session_id)
        self._changed.set()
        self._changed = anyio.Event()
        try:
            yield
        finally:
            self._open.discard(session_id)
