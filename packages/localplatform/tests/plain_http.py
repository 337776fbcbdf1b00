"""Requests on one connection, with as little between the test and the socket as there can be.

For tests that make thousands of requests: with a client that is meant for people most of their time is the client's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import anyio

from .support import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


@dataclass(frozen=True)
class Answer:
    """What was answered; header names are in lower case."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.content)


class Connection:
    """A connection to a server, which is opened again when the server has closed it."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and return the answer to it."""
        target = quote(path, safe="/%;*?=&") + (f"?{urlencode(params)}" if params else "")
        sent = {"host": self._place.netloc, "content-length": str(len(content)), **(headers or {})}
        head = "".join([f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in sent.items())])
        with anyio.fail_after(WAIT_SECONDS):
            if self._streams is None:
                self._streams = await asyncio.open_connection(self._place.hostname, self._place.port)
            reader, writer = self._streams
            writer.write(head.encode() + b"\r\n" + content)
            answer = await _read(reader)
        if answer.headers.get("connection") == "close":
            await self.aclose()
        return answer

    async def aclose(self) -> None:
        """Close it, if it is open."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def connection(url: str) -> AsyncGenerator[Connection]:
    opened = Connection(url)
    try:
        yield opened
    finally:
        await opened.aclose()


async def _read(reader: asyncio.StreamReader) -> Answer:
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(start.split(" ")[1]), headers, content)
