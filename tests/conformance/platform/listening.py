"""The WebSocket of a server (contract 17), as a client listens on it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit, urlunsplit

import anyio
from websockets.asyncio.client import connect

from .site import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from websockets.asyncio.client import ClientConnection
    from websockets.typing import Subprotocol

    from .site import Member, Server


@dataclass
class Listener:
    """An open WebSocket and the frames that came over it so far."""

    connection: ClientConnection
    seen: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def frame(self, event: str, about: Member | None = None, **payload: Any) -> dict[str, Any]:
        """Read up to the next frame of this event, about this workspace if one is given, with at least this payload."""
        while True:
            frame = await self._next()
            told = frame["payload"]
            about_it = about is None or frame["workspace_id"] == about.id
            if frame["event"] == event and about_it and payload.items() <= told.items():
                return frame

    async def _next(self) -> dict[str, Any]:
        with anyio.fail_after(WAIT_SECONDS):
            frame = cast("dict[str, Any]", json.loads(await self.connection.recv()))
        self.seen.append(frame)
        return frame

    def events(self, about: Member) -> list[str]:
        """Return the events about a workspace among the frames that were read."""
        return [frame["event"] for frame in self.seen if frame["workspace_id"] == about.id]


@asynccontextmanager
async def listening(server: Server, headers: Mapping[str, str], *subprotocols: str) -> AsyncGenerator[Listener]:
    """Listen while the context lasts.

    Raises:
        websockets.exceptions.InvalidStatus: the server refused.
    """
    connection = connect(
        websocket_url(server),
        additional_headers=headers,
        subprotocols=[cast("Subprotocol", name) for name in subprotocols] or None,
        proxy=None,
        open_timeout=WAIT_SECONDS,
        close_timeout=WAIT_SECONDS,
    )
    async with connection as opened:
        yield Listener(opened)


def websocket_url(server: Server, path: str = "/ws") -> str:
    parts = urlsplit(server.url)
    return urlunsplit(("wss" if parts.scheme == "https" else "ws", parts.netloc, path, "", ""))
