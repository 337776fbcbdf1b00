"""Requests leave in one piece, through connections that are still good."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.core.errors import RequestRefusedError
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.whole_writes import HELD_BYTES
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken

from .support import DEADLINE, TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from anyio.abc import SocketStream

    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

BEAT = wire.HeartbeatRequest(workspace_id="ws-1", current_task="to be seen")


def answer(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


OK = answer(200, b'{"status":"ok"}')


@asynccontextmanager
async def served(handle: Callable[[SocketStream], Awaitable[None]]) -> AsyncGenerator[str]:
    """Answer connections as `handle` does; yields the URL."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no database
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        with anyio.fail_after(DEADLINE):
            yield f"http://127.0.0.1:{port}"
        group.cancel_scope.cancel()


def client_of(url: str, pools: ConnectionPools) -> PlatformClient:
    target = WorkspaceTarget(id=validate_workspace_id("ws-1"), platform_url=url, token=StaticToken(TOKEN, "test"))
    return PlatformClient(target, pools)


async def test_the_head_and_the_body_of_a_small_request_are_one_write(pools: ConnectionPools) -> None:
    first: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        async with stream:
            while True:
                try:
                    first.append(await stream.receive())
                except anyio.EndOfStream:
                    return
                await stream.send(OK)

    async with served(handle) as url, client_of(url, pools) as client:
        for _ in range(2):
            await client.heartbeat(BEAT)
    assert len(first) == 2
    assert all(b"POST /registry/heartbeat" in piece and b"to be seen" in piece for piece in first)


async def test_a_large_request_arrives_whole(pools: ConnectionPools) -> None:
    text = "x" * (3 * HELD_BYTES)
    got = bytearray()

    async def handle(stream: SocketStream) -> None:
        async with stream:
            while text.encode() not in got:
                got.extend(await stream.receive())
            await stream.send(OK)

    async with served(handle) as url, client_of(url, pools) as client:
        await client.heartbeat(wire.HeartbeatRequest(workspace_id="ws-1", current_task=text))


async def test_an_answer_that_comes_before_the_request_was_read_is_the_answer(pools: ConnectionPools) -> None:
    async def handle(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer(413, b'{"error":"too large"}'))
            # Not before the client has seen it: what is unread makes the close a reset.
            with suppress(anyio.BrokenResourceError):
                async for _ in stream:
                    pass

    async with served(handle) as url, client_of(url, pools) as client:
        with pytest.raises(RequestRefusedError, match="too large"):
            await client.heartbeat(wire.HeartbeatRequest(workspace_id="ws-1", current_task="x" * 100_000))


async def test_a_connection_that_its_server_has_closed_is_not_used_again(pools: ConnectionPools) -> None:
    connections = 0
    closed = anyio.Event()

    async def handle(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with stream:
            await stream.receive()
            await stream.send(OK)
        closed.set()

    async with served(handle) as url, client_of(url, pools) as client:
        await client.heartbeat(BEAT)
        await closed.wait()
        await client.heartbeat(BEAT)
    assert connections == 2
