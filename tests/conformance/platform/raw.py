"""HTTP byte by byte, for what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

    from .site import Site

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of a refusal, which is JSON."""
        assert self.status >= 400, self
        assert self.headers["content-type"].startswith("application/json"), self
        error = self.json["error"]
        assert isinstance(error, str), self
        assert error, self
        return error


@dataclass(frozen=True, slots=True)
class Line:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Send; a server that has hung up is no failure here, what it said before is read with `reply`."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            async with asyncio.timeout(SECONDS):
                await self.writer.drain()

    def end(self) -> None:
        """Send nothing more, and go on reading."""
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    async def reply(self) -> Reply | None:
        """Read one reply; None when the server ends the connection without one."""
        try:
            async with asyncio.timeout(SECONDS):
                return await self._reply()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def ended(self) -> bool:
        """Tell whether the server ends the connection without saying more."""
        try:
            async with asyncio.timeout(SECONDS):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    async def _reply(self) -> Reply:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        status = int(lines[0].split(" ", 2)[1])
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, await self._chunks())
        return Reply(status, headers, await self.reader.readexactly(int(headers.get("content-length", "0"))))

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body


@asynccontextmanager
async def dialled(url: str) -> AsyncGenerator[Line]:
    """Open a connection to the server of a URL, and break it off in the end."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=parts.scheme == "https" or None)
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def exchange(url: str, data: bytes, *, end: bool = False) -> Reply | None:
    """Send bytes on a connection of their own and read the reply; `end` says that nothing more will come."""
    async with dialled(url) as line:
        await line.send(data)
        if end:
            line.end()
        return await line.reply()


def request(
    url: str,
    method: bytes,
    target: bytes,
    *headers: bytes | dict[str, str],
    body: bytes = b"",
    length: int | None = None,
) -> bytes:
    """Return the bytes of a request with a `Host`; `length` is what it says of its body, if not the truth."""
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + urlsplit(url).netloc.encode()]
    for header in headers:
        if isinstance(header, bytes):
            lines.append(header)
        else:
            lines += [f"{name}: {value}".encode("latin-1") for name, value in header.items()]
    if body or length is not None:
        lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join([*lines, b"", body])


async def alive(site: Site) -> bool:
    """Tell whether the server still answers those who ask well."""
    answer = await site.http.get("/health")
    return answer.status_code == 200 and answer.json()["status"] == "ok"


def harmless(answer: httpx.Response | Reply | None) -> bool:
    """Tell whether an answer refuses: with a status for the sender's mistake and no word of how the server is made."""
    if answer is None:
        return True
    if isinstance(answer, Reply):
        status, headers, text = answer.status, answer.headers, answer.body.decode(errors="replace")
    else:
        status, headers, text = answer.status_code, dict(answer.headers), answer.text
    if headers.get("content-type", "").startswith("application/json"):
        assert json.loads(text)["error"], text
    return 400 <= status < 500 and "Traceback" not in text and "goroutine" not in text
