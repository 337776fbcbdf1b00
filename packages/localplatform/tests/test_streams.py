"""Who hears what on an open stream, and when one ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from molecule_runtime.localplatform import serve, streams
from molecule_runtime.localplatform.events import DEFAULT_CAPACITY

from .support import WAIT_SECONDS, World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from websockets.asyncio.client import ClientConnection

    from molecule_runtime.localplatform import LocalSettings

    from .support import Clock, FakeAgent

pytestmark = pytest.mark.anyio

SOON = 0.05


@asynccontextmanager
async def listening(world: World, headers: dict[str, str], **options: Any) -> AsyncGenerator[ClientConnection]:
    url = world.platform.url.replace("http://", "ws://") + "/ws"
    async with connect(url, additional_headers=headers, proxy=None, **options) as socket:
        yield socket


async def frame_of(socket: ClientConnection, event: str) -> dict[str, Any]:
    with anyio.fail_after(WAIT_SECONDS):
        while True:
            frame = cast("dict[str, Any]", json.loads(await socket.recv()))
            if frame["event"] == event:
                return frame


async def end_of(socket: ClientConnection) -> int | None:
    """Read to the end; returns the code with which the server closed."""
    with anyio.fail_after(WAIT_SECONDS), contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


async def test_a_listener_whose_token_is_revoked_hears_no_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RECHECK_SECONDS", SOON)
    alice = await world.create()
    async with listening(world, alice.auth) as socket, listening(world, world.admin) as admin:
        path = f"/admin/workspaces/{alice.id}/revoke-auth-tokens"
        assert (await world.http.post(path, headers=world.admin)).status_code == 200
        assert await end_of(socket) == 1008
        await world.http.post(f"/workspaces/{alice.id}/notify", json={"message": "hi"}, headers=world.admin)
        await frame_of(admin, "AGENT_MESSAGE")


async def test_a_stop_tells_every_listener(settings: LocalSettings, clock: Clock) -> None:
    async with asyncio.TaskGroup() as group:
        async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
            world = World(platform, http, clock)
            alice = await world.create()
            opened = asyncio.Event()

            async def listen(headers: dict[str, str]) -> int | None:
                async with listening(world, headers) as socket:
                    opened.set()
                    return await end_of(socket)

            ends: list[asyncio.Task[int | None]] = []
            for headers in (world.admin, alice.auth):
                opened.clear()
                ends.append(group.create_task(listen(headers)))
                await opened.wait()
        assert [await end for end in ends] == [1001, 1001]


async def test_a_stop_ends_an_sse_stream(settings: LocalSettings, clock: Clock) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
            world = World(platform, http, clock)
            alice = await world.create()
            asked = client.build_request(
                "GET", f"{platform.url}/workspaces/{alice.id}/events/stream", headers=alice.auth
            )
            answer = await client.send(asked, stream=True)
        with anyio.fail_after(WAIT_SECONDS):
            assert await answer.aread() == b": ping\n\n"


async def test_a_listener_that_does_not_keep_up_is_told_to_come_again(world: World) -> None:
    bus = world.platform.bus
    async with (
        listening(world, world.admin, compression=None, max_queue=1) as slow,
        listening(world, world.admin, compression=None) as quick,
    ):
        # More than the sockets between the two hold, and then as many as the platform keeps for one listener.
        for _ in range(DEFAULT_CAPACITY + 500):
            bus.publish("AGENT_MESSAGE", "w", {"message": "x" * 20_000})
            await frame_of(quick, "AGENT_MESSAGE")
        assert await end_of(slow) == 1013


async def test_an_sse_stream_says_that_it_is_alive(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_SECONDS", SOON)
    alice = await world.create()
    async with world.http.stream("GET", f"/workspaces/{alice.id}/events/stream", headers=alice.auth) as answer:
        lines = answer.aiter_lines()
        with anyio.fail_after(WAIT_SECONDS):
            assert [await anext(lines) for _ in range(6)] == [": ping", ""] * 3


async def test_the_text_of_messages_is_told_to_the_operator_only(world: World, agent: FakeAgent) -> None:
    _, left, right = await world.family()
    await world.register(right, agent)
    async with listening(world, world.admin) as admin, listening(world, right.auth) as own:
        assert (await world.send(left, right, "between us")).status_code == 200
        sent = await frame_of(admin, "A2A_SENT")
        assert sent["payload"]["text"] == "between us"
        await world.beat(right)
        seen: list[str] = []
        with anyio.fail_after(WAIT_SECONDS):
            while "WORKSPACE_HEARTBEAT" not in seen:
                seen.append(json.loads(await own.recv())["event"])
    assert not set(seen) & streams.OPERATOR_ONLY
    assert "ACTIVITY_LOGGED" in seen


async def test_whom_a_listener_hears_of_follows_the_hierarchy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_PERMISSION_SECONDS", 0.0)
    _, left, _ = await world.family()
    other = await world.create("other")
    async with listening(world, left.auth) as socket:
        await world.beat(other, active_tasks=1)
        path = f"/workspaces/{other.id}"
        assert (await world.http.patch(path, json={"parent_id": left.id}, headers=world.admin)).status_code == 200
        await world.beat(other, active_tasks=2)
        beat = await frame_of(socket, "WORKSPACE_HEARTBEAT")
    assert (beat["workspace_id"], beat["payload"]["active_tasks"]) == (other.id, 2)


async def test_listeners_that_come_and_go_leave_nothing_behind(world: World) -> None:
    alice = await world.create()
    for _ in range(30):
        async with listening(world, alice.auth) as socket:
            socket.transport.abort()
        async with world.http.stream("GET", f"/workspaces/{alice.id}/events/stream", headers=alice.auth):
            pass
    with anyio.fail_after(WAIT_SECONDS):
        # Only the log of events goes on listening.
        while len(vars(world.platform.bus)["_subscriptions"]) > 1:  # noqa: ASYNC110
            await anyio.sleep(0.01)
