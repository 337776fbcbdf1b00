"""A small load generator: keep-alive connections that send one prepared request after the other, for so many seconds."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Load:
    """What one run came to; latencies in milliseconds."""

    per_second: float
    p50: float
    p99: float


def request_of(url: str, body: bytes, *, headers: dict[str, str] | None = None, method: str = "POST") -> bytes:
    """Return the bytes of one request."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def run(requests: list[bytes], url: str, *, connections: int, seconds: float) -> Load:
    """Send the requests in turn over so many connections.

    Raises:
        RuntimeError: an answer was not a 2xx.
    """
    parts = urlsplit(url)
    latencies: list[float] = []

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            turn = number
            while (started := time.perf_counter()) < deadline:
                writer.write(requests[turn % len(requests)])
                turn += connections
                await _read_answer(reader)
                latencies.append(time.perf_counter() - started)
        finally:
            writer.close()

    begun = time.perf_counter()
    deadline = begun + seconds
    await asyncio.gather(*(connection(number) for number in range(connections)))
    took = time.perf_counter() - begun
    cuts = statistics.quantiles(latencies, n=100)
    return Load(len(latencies) / took, cuts[49] * 1000, cuts[98] * 1000)


async def _read_answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(head.decode(errors="replace"))
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    if length:
        await reader.readexactly(length)
