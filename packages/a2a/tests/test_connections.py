"""Connections over real sockets: a client that begins and does not go on, one that does not read, and too many of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import httpx
import pytest

from molecule_runtime.a2a.connections import HostConnection

from .support import DEADLINE, FakePlatform, Workspace, eventually, ready, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]


async def rest_of(stream: anyio.abc.ByteReceiveStream) -> bytes:
    answer = b""
    with anyio.fail_after(DEADLINE):
        async for piece in stream:
            answer += piece
    return answer


@pytest.mark.parametrize("begun", [b"", b"G", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "])
async def test_a_request_that_does_not_go_on_is_ended(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        monkeypatch.setattr(HostConnection, "head_seconds", 0.2)
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            if begun:
                await stream.send(begun)
            answer = await rest_of(stream)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body)["hint"] == "send the request line and the headers within 0.2 s"


async def test_the_second_request_of_a_connection_has_the_same_deadline(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        monkeypatch.setattr(HostConnection, "head_seconds", 0.2)
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with anyio.fail_after(DEADLINE):
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
            await stream.send(b"GET /hea")
            assert b"HTTP/1.1 408 " in await rest_of(stream)


async def test_a_drip_of_bytes_does_not_buy_time(make_workspace: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        monkeypatch.setattr(HostConnection, "head_seconds", 0.3)
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ")
            with anyio.fail_after(DEADLINE):
                answer = b""
                while not answer:
                    with anyio.move_on_after(0.02):
                        answer = await stream.receive()
                    if not answer:
                        await stream.send(b"x")
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_does_not_read_loses_its_connection(
    make_workspace: Make, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    with (workspace.root / "configs" / "large.bin").open("wb") as handle:
        handle.truncate(64 * 1024 * 1024)
    async with serving(workspace):
        await ready(workspace)
        await eventually((workspace.state / ".platform_inbound_secret").exists, "the secret is saved")
        monkeypatch.setattr(HostConnection, "stall_seconds", 0.2)
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            request = "GET /internal/file/read?path=/configs/large.bin HTTP/1.1\r\nHost: localhost\r\n"
            await stream.send(f"{request}Authorization: Bearer {platform.secret}\r\n\r\n".encode())

            async def ended() -> None:
                # Nothing is read until the host has given up; what had been sent by then may still arrive.
                while True:
                    await anyio.sleep(0.02)
                    await stream.send(b" ")

            with anyio.fail_after(DEADLINE), pytest.raises(anyio.BrokenResourceError):
                await ended()


async def test_what_is_no_http_is_refused_in_json(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        for nonsense in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
            async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
                await stream.send(nonsense)
                head, _, body = (await rest_of(stream)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 ")
            assert json.loads(body)["error"] == "not a valid HTTP request"


async def test_more_connections_than_are_held_are_told_to_come_back(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        monkeypatch.setattr(HostConnection, "most", 5)
        async with AsyncExitStack() as held:
            answer = b""
            with anyio.fail_after(DEADLINE):
                while not answer:
                    stream = await held.enter_async_context(await anyio.connect_tcp("127.0.0.1", workspace.port))
                    with anyio.move_on_after(0.1):
                        answer = await stream.receive()
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: 5" in answer
        async with httpx.AsyncClient(trust_env=False) as client:
            with anyio.fail_after(DEADLINE):
                while (await client.get(f"{workspace.url}/health")).status_code != 200:  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.01)
