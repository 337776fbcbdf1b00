"""A forwarder on this machine that adds the bearer token: the conformance suite has no option for one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import ByteReceiveStream, ByteSendStream, SocketStream
    from tests.support.mcp_over_http import Served

MAX_HEAD = 65536


@asynccontextmanager
async def forwarded(server: Served) -> AsyncGenerator[str]:
    """Forward whatever comes, as it is but for the token, one request a connection; yields the URL of MCP there."""
    port = urlsplit(server.url).port
    assert port is not None

    async def serve(client: SocketStream) -> None:
        async with client, await anyio.connect_tcp("127.0.0.1", port) as upstream:
            buffered = BufferedByteReceiveStream(client)
            try:
                head = await buffered.receive_until(b"\r\n\r\n", MAX_HEAD)
                await upstream.send(with_token(head, server.token))
                async with anyio.create_task_group() as both:
                    both.start_soon(copy, buffered, upstream)
                    await copy(upstream, client)
                    both.cancel_scope.cancel()
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
                # One of the two has gone, and the other is told by closing.
                return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    listening = listener.extra(SocketAttribute.local_port)  # noqa: S610 - of anyio, no database
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"http://localhost:{listening}/mcp"
        group.cancel_scope.cancel()


def with_token(head: bytes, token: str) -> bytes:
    """Return the head of a request with the token, and for a connection that carries no other."""
    first, *lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([first, f"Authorization: Bearer {token}".encode(), b"Connection: close", *kept, b"", b""])


async def copy(source: ByteReceiveStream, sink: ByteSendStream) -> None:
    """Copy until there is no more."""
    try:
        async for chunk in source:
            await sink.send(chunk)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return
