"""A webhook on a real socket: what it was sent, and the answers that the test writes for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from .support import DEADLINE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Hook:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Receiver:
    """The webhook. `answers` are given in turn, and then 200; with `open` unset nothing is answered."""

    port: int = 0
    hooks: list[Hook] = field(default_factory=list[Hook])
    answers: list[bytes] = field(default_factory=list[bytes])
    open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def received(self, count: int) -> list[Hook]:
        await eventually(lambda: len(self.hooks) >= count, f"{count} notifications, of which came {len(self.hooks)}")
        return self.hooks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.hooks.append(Hook(head[0].split(" ")[1], headers, json.loads(body)))
            answer = self.answers.pop(0) if self.answers else OK
            await self.open.wait()
            writer.write(answer)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    receiver = Receiver()
    receiver.open.set()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        receiver.open.set()
        server.close()
        with anyio.move_on_after(DEADLINE):
            await server.wait_closed()
