"""Slow clients, clients that go away, and bytes that are neither HTTP nor WebSocket, on a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from tests.conformance.platform.raw import Line, Reply, dialled, exchange, request

from molecule_runtime.localplatform import web
from molecule_runtime.localplatform.connections import GuardedConnection
from molecule_runtime.localplatform.gate import SECURITY_HEADERS

from .support import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from .support import Member, World

pytestmark = pytest.mark.anyio

SOON = 0.3
"""The deadlines of these tests, in seconds."""


@pytest.fixture(autouse=True)
def nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GuardedConnection, "head_seconds", SOON)
    monkeypatch.setattr(GuardedConnection, "rest_seconds", SOON)
    monkeypatch.setattr(web, "BODY_SECONDS", SOON)


def beat(member: Member, **fields: object) -> bytes:
    return json.dumps({"workspace_id": member.id, **fields}).encode()


def check_refusal(reply: Reply | None, status: int) -> None:
    assert reply is not None
    assert reply.status == status, reply
    assert reply.error
    assert reply.json["hint"]
    assert reply.headers["connection"] == "close"
    for name, value in SECURITY_HEADERS:
        assert reply.headers[name.decode()] == value.decode()


async def alive(world: World) -> None:
    with anyio.fail_after(WAIT_SECONDS):
        assert (await world.http.get("/health")).status_code == 200


@pytest.mark.usefixtures("short_deadlines")
async def test_a_head_that_does_not_come_is_a_408(world: World) -> None:
    for begun in (b"", b"G", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "):
        async with dialled(world.platform.url) as line:
            await line.send(begun)
            check_refusal(await line.reply(), 408)
            assert await line.ended()


async def drip(line: Line, data: bytes) -> None:
    """Send one byte after the other, until nobody takes them."""
    for position in range(len(data)):
        await line.send(data[position : position + 1])
        if line.reader.at_eof() or line.writer.is_closing():
            return
        await anyio.sleep(SOON / 20)


@asynccontextmanager
async def dripping(world: World, begun: bytes) -> AsyncGenerator[Line]:
    """A client that never stops sending, a byte at a time."""
    async with dialled(world.platform.url) as line, anyio.create_task_group() as group:
        await line.send(begun)
        group.start_soon(drip, line, b"x" * 100_000)
        yield line
        group.cancel_scope.cancel()


@pytest.mark.usefixtures("short_deadlines")
async def test_a_head_that_comes_byte_by_byte_without_end_is_a_408(world: World) -> None:
    async with dripping(world, b"GET /health HTTP/1.1\r\nX: ") as line:
        check_refusal(await line.reply(), 408)


@pytest.mark.usefixtures("short_deadlines")
async def test_a_second_request_on_a_connection_has_a_deadline_too(world: World) -> None:
    whole = request(world.platform.url, b"GET", b"/health")
    async with dialled(world.platform.url) as line:
        await line.send(whole + whole[:20])
        first = await line.reply()
        assert first is not None
        assert first.status == 200
        check_refusal(await line.reply(), 408)


@pytest.mark.usefixtures("short_deadlines")
async def test_between_two_requests_a_client_may_rest(world: World) -> None:
    whole = request(world.platform.url, b"GET", b"/health")
    async with dialled(world.platform.url) as line:
        for _ in range(2):
            await line.send(whole)
            reply = await line.reply()
            assert reply is not None
            assert reply.status == 200
            # Longer than a head may take: what is tested is that nothing happens.
            await anyio.sleep(2 * SOON)


@pytest.mark.usefixtures("short_deadlines")
async def test_a_body_that_does_not_come_is_a_408(world: World) -> None:
    alice = await world.create()
    targets = {
        b"/registry/heartbeat": alice.auth,
        f"/workspaces/{alice.id}/notify".encode(): alice.auth,
        f"/workspaces/{alice.id}/a2a".encode(): world.admin,
        b"/workspaces": world.admin,
    }

    async def wait_for_refusal(target: bytes, headers: dict[str, str], length: bytes, sent: bytes) -> None:
        async with dialled(world.platform.url) as line:
            await line.send(request(world.platform.url, b"POST", target, headers, length) + sent)
            check_refusal(await line.reply(), 408)
            assert await line.ended()

    async with anyio.create_task_group() as group:
        for target, headers in targets.items():
            for sent in (b"", b'{"workspace'):
                group.start_soon(wait_for_refusal, target, headers, b"Content-Length: 100", sent)
            for sent in (b"", b"5\r\n", b'5\r\n{"wor\r\n'):
                group.start_soon(wait_for_refusal, target, headers, b"Transfer-Encoding: chunked", sent)


@pytest.mark.usefixtures("short_deadlines")
async def test_a_body_that_comes_byte_by_byte_is_a_408(world: World) -> None:
    alice = await world.create()
    head = request(world.platform.url, b"POST", b"/registry/heartbeat", alice.auth, length=100_000)
    async with dripping(world, head + b'{"workspace_id": "') as line:
        check_refusal(await line.reply(), 408)


async def test_who_may_not_ask_is_told_so_before_the_body_comes(world: World) -> None:
    alice = await world.create()
    target = f"/workspaces/{alice.id}/notify".encode()
    async with dialled(world.platform.url) as line:
        body = beat(alice)
        await line.send(request(world.platform.url, b"POST", target, length=len(body)))
        reply = await line.reply()
        assert reply is not None
        assert (reply.status, reply.error) == (401, "missing workspace auth token")
        # The rest is read and thrown away, and the connection is as good as new.
        await line.send(body[:5])
        await line.send(body[5:] + request(world.platform.url, b"GET", b"/health"))
        reply = await line.reply()
        assert reply is not None
        assert reply.status == 200


@pytest.mark.usefixtures("short_deadlines")
async def test_the_rest_of_a_body_that_nobody_waits_for_does_not_hold_the_connection(world: World) -> None:
    alice = await world.create()
    target = f"/workspaces/{alice.id}/notify".encode()
    async with dripping(world, request(world.platform.url, b"POST", target, length=100_000)) as line:
        reply = await line.reply()
        assert reply is not None
        assert reply.status == 401
        assert await line.ended()


async def test_an_answer_is_followed_by_no_second_one_when_the_body_turns_out_to_be_none(world: World) -> None:
    alice = await world.create()
    target = f"/workspaces/{alice.id}/notify".encode()
    async with dialled(world.platform.url) as line:
        await line.send(request(world.platform.url, b"POST", target, b"Transfer-Encoding: chunked"))
        reply = await line.reply()
        assert reply is not None
        assert reply.status == 401
        await line.send(b"no length\r\n")
        assert await line.ended()


async def test_a_body_that_turns_out_to_be_none_is_a_400(world: World) -> None:
    alice = await world.create()
    async with dialled(world.platform.url) as line:
        await line.send(
            request(world.platform.url, b"POST", b"/registry/heartbeat", alice.auth, b"Transfer-Encoding: chunked")
        )
        await line.send(b"5\r\n" + beat(alice)[:5] + b"\r\nno length\r\n")
        check_refusal(await line.reply(), 400)
        assert await line.ended()


@pytest.mark.usefixtures("short_deadlines")
async def test_many_slow_clients_do_not_keep_others_from_being_served(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedConnection, "head_seconds", 3.0)
    monkeypatch.setattr(web, "BODY_SECONDS", 3.0)
    alice = await world.create()
    begun = (
        b"",
        b"POST /registry/heartbeat HTTP/1.1\r\nHost: ",
        request(world.platform.url, b"POST", b"/registry/heartbeat", alice.auth, length=100),
        request(world.platform.url, b"POST", b"/workspaces", world.admin, length=100) + b"{",
    )
    async with AsyncExitStack() as stack:
        slow: list[Line] = []
        for data in begun * 75:
            line = await stack.enter_async_context(dialled(world.platform.url))
            await line.send(data)
            slow.append(line)
        with anyio.fail_after(WAIT_SECONDS):
            for number in range(100):
                assert (await world.beat(alice, active_tasks=number))["status"] == "ok"
        with anyio.fail_after(3 * WAIT_SECONDS):
            replies = await asyncio.gather(*(line.reply() for line in slow))
    for reply in replies:
        check_refusal(reply, 408)
    assert (await world.http.get(f"/workspaces/{alice.id}")).json()["active_tasks"] == 99


async def test_requests_that_come_all_at_once_are_answered_in_order(world: World) -> None:
    alice = await world.create()
    paths = [b"/health", b"/no/such/route", f"/workspaces/{alice.id}".encode(), b"/health"]
    async with dialled(world.platform.url) as line:
        await line.send(b"".join(request(world.platform.url, b"GET", path) for path in paths))
        for status in (200, 404, 200, 200):
            reply = await line.reply()
            assert reply is not None
            assert reply.status == status


async def test_clients_that_go_away_at_any_point_leave_nothing_behind(world: World) -> None:
    alice = await world.create()
    body = beat(alice, active_tasks=7)
    whole = request(world.platform.url, b"POST", b"/registry/heartbeat", alice.auth, body=body)
    for part in range(0, len(whole), 7):
        for end in (True, False):
            async with dialled(world.platform.url) as line:
                await line.send(whole[:part])
                if end:
                    line.end()
    await alive(world)
    await world.settle()
    assert (await world.http.get(f"/workspaces/{alice.id}")).json()["active_tasks"] == 0


async def test_a_client_that_says_nothing_and_ends_is_let_go(world: World) -> None:
    async with dialled(world.platform.url) as line:
        line.end()
        assert await line.ended()


NO_HTTP = (
    b"\0\1\2\3\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost\r\n\r\n",
    b"GET /health\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /health HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
)


async def test_what_is_no_http_is_a_400_in_json(world: World) -> None:
    for data in NO_HTTP:
        check_refusal(await exchange(world.platform.url, data), 400)
        await alive(world)


UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + base64.b64encode(b"0" * 16),
)


NO_HANDSHAKE: tuple[tuple[bytes, tuple[bytes, ...], int], ...] = (
    (b"GET", (*UPGRADE, b"Content-Length: 5"), 400),
    (b"GET", (*UPGRADE, b"Transfer-Encoding: chunked"), 400),
    (b"GET", (*UPGRADE, *[b"X: y"] * 200), 400),
    (b"GET", (*UPGRADE, b"X: " + b"y" * 9_000), 400),
    (b"GET", UPGRADE[:3], 400),
    (b"GET", (*UPGRADE, b"Sec-WebSocket-Key: x"), 400),
    (b"GET", (*UPGRADE[:2], b"Sec-WebSocket-Version: 12", UPGRADE[3]), 400),
    (b"GET", (*UPGRADE, b"Sec-WebSocket-Protocol: \xff,,"), 400),
    (b"GET", (*UPGRADE, b"Sec-WebSocket-Extensions: =;;"), 400),
    (b"POST", UPGRADE, 405),
)


async def test_a_handshake_that_is_none_is_refused_in_json(world: World) -> None:
    for method, headers, status in NO_HANDSHAKE:
        data = request(world.platform.url, method, b"/ws", world.admin, *headers)
        check_refusal(await exchange(world.platform.url, data), status)
        await alive(world)


async def test_whoever_asks_for_the_websocket_without_a_handshake_is_told_to_upgrade(world: World) -> None:
    for method in ("GET", "POST"):
        answer = await world.http.request(method, "/ws", headers=world.admin)
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
        assert answer.json()["hint"]


async def test_an_upgrade_to_something_else_is_answered_as_an_ordinary_request(world: World) -> None:
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    assert (await world.http.get("/health", headers=headers)).status_code == 200


def frame(opcode: int, data: bytes, *, last: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    first = (0x80 if last else 0) | reserved | opcode
    mark = 0x80 if masked else 0
    if len(data) < 126:
        head = bytes([first, mark | len(data)])
    elif len(data) < 2**16:
        head = bytes([first, mark | 126]) + struct.pack("!H", len(data))
    else:
        head = bytes([first, mark | 127]) + struct.pack("!Q", len(data))
    return head + (b"\0\0\0\0" if masked else b"") + data


TEXT, BINARY, MORE, CLOSE, PING = 1, 2, 0, 8, 9
PROTOCOL_ERROR, NOT_TEXT, TOO_BIG = 1002, 1007, 1009


NO_WEBSOCKET = (
    (frame(TEXT, b"hi", masked=False), PROTOCOL_ERROR),
    (frame(TEXT, b"hi", reserved=0x70), PROTOCOL_ERROR),
    (frame(5, b"hi"), PROTOCOL_ERROR),
    (frame(MORE, b"hi"), PROTOCOL_ERROR),
    (frame(TEXT, b"a", last=False) + frame(TEXT, b"b"), PROTOCOL_ERROR),
    (frame(PING, b"x" * 126), PROTOCOL_ERROR),
    (frame(PING, b"x", last=False), PROTOCOL_ERROR),
    (frame(CLOSE, b"x"), PROTOCOL_ERROR),
    (b"GET /health HTTP/1.1\r\n\r\n", PROTOCOL_ERROR),
    (bytes(range(256)), PROTOCOL_ERROR),
    (frame(TEXT, b"\xff\xfe"), NOT_TEXT),
    (frame(TEXT, b"\xe2", last=False) + frame(MORE, b"\xff"), NOT_TEXT),
    (frame(CLOSE, struct.pack("!H", 1000) + b"\xff"), NOT_TEXT),
    (frame(TEXT, b"x" * 70_000), TOO_BIG),
    (frame(BINARY, b"x" * 70_000), TOO_BIG),
    (bytes([0x82, 0xFF]) + struct.pack("!Q", 2**62), TOO_BIG),
    (frame(TEXT, b"x" * 40_000, last=False) + frame(MORE, b"x" * 40_000), TOO_BIG),
)


async def test_what_is_no_websocket_ends_with_its_reason(world: World) -> None:
    for data, code in NO_WEBSOCKET:
        async with opened(world) as line:
            await line.send(data)
            assert await closed_with(line) == code, data[:20]
        await alive(world)


async def test_what_a_listener_says_is_left_alone(world: World) -> None:
    alice = await world.create()
    async with opened(world) as line:
        await line.send((frame(TEXT, "grüß dich".encode()) + frame(BINARY, b"\xff")) * 200)
        await world.beat(alice, active_tasks=1)
        with anyio.fail_after(WAIT_SECONDS):
            assert b"WORKSPACE_HEARTBEAT" in await line.reader.readuntil(b"WORKSPACE_HEARTBEAT")


@asynccontextmanager
async def opened(world: World) -> AsyncGenerator[Line]:
    async with dialled(world.platform.url) as line:
        await line.send(request(world.platform.url, b"GET", b"/ws", world.admin, *UPGRADE))
        reply = await line.reply()
        assert reply is not None
        assert reply.status == 101
        yield line


async def closed_with(line: Line) -> int:
    """Read the close frame that comes, and wait for the end of the connection."""
    with anyio.fail_after(WAIT_SECONDS):
        first, length = await line.reader.readexactly(2)
        assert first == 0x80 | CLOSE
        (code,) = struct.unpack("!H", (await line.reader.readexactly(length))[:2])
    assert await line.ended()
    return int(code)
