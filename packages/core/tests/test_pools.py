"""Connection pools come and go with the clients of their origin."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.core.errors import NotServedError
from molecule_runtime.core.platform.pools import (
    MAX_CONNECTIONS_PER_ORIGIN,
    MAX_IDLE_PER_ORIGIN,
    MAX_LONG_PER_ORIGIN,
)

from .support import DEADLINE, Answer, ScriptedPlatform, client_of

if TYPE_CHECKING:
    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

ROW = {"id": "ws-1", "name": "one", "status": "online"}
PATH = "/workspaces/ws-1"


async def test_clients_of_one_origin_share_a_pool_that_goes_with_the_last_of_them(
    platform: ScriptedPlatform, other_platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    first, second, foreign = client_of(platform, pools), client_of(platform, pools), client_of(other_platform, pools)
    assert pools.origins == {platform.url, other_platform.url}
    await first.aclose()
    await first.aclose()
    assert pools.origins == {platform.url, other_platform.url}
    await second.aclose()
    assert pools.origins == {other_platform.url}
    await foreign.aclose()
    assert pools.origins == frozenset()


async def test_requests_that_come_together_use_their_connections_again_and_few_of_them_stay(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    platform.on("GET", PATH, Answer(body=ROW, gate=gate))
    short = MAX_CONNECTIONS_PER_ORIGIN - MAX_LONG_PER_ORIGIN
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                for _ in range(short * 5):
                    group.start_soon(client.workspace)
                await platform.until_requests("GET", PATH, short)
                gate.set()
            assert len(platform.to("GET", PATH)) == short * 5
            assert platform.connections == short
            await platform.until(lambda: platform.open_connections == MAX_IDLE_PER_ORIGIN)
            await client.workspace()
            assert platform.connections == short
    await platform.until(lambda: platform.open_connections == 0)


async def test_a_request_that_was_cancelled_or_failed_gives_its_turn_back(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    platform.on("GET", PATH, Answer(body=ROW, gate=gate))
    short = MAX_CONNECTIONS_PER_ORIGIN - MAX_LONG_PER_ORIGIN
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                for _ in range(short + 1):
                    group.start_soon(client.workspace)
                await platform.until_requests("GET", PATH, short)
                group.cancel_scope.cancel()
            gate.set()
            async with anyio.create_task_group() as group:
                for _ in range(short):
                    group.start_soon(client.workspace)
    assert platform.connections == short * 2, "the connections of the cancelled were closed"


async def test_a_request_under_way_is_answered_although_its_client_was_closed_and_the_next_is_refused(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    platform.on("GET", PATH, Answer(body=ROW, gate=gate))
    client = client_of(platform, pools)
    got: list[str] = []

    async def ask() -> None:
        got.append((await client.workspace()).id)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await platform.until_requests("GET", PATH)
            await client.aclose()
            with pytest.raises(NotServedError, match="removed from the settings"):
                await client.workspace()
            gate.set()
    assert got == ["ws-1"]
    assert pools.origins == frozenset()
    assert len(platform.to("GET", PATH)) == 1


async def test_an_origin_that_comes_back_gets_a_pool_of_its_own(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", PATH, Answer(body=ROW))
    for _ in range(2):
        async with client_of(platform, pools) as client:
            assert (await client.workspace()).id == "ws-1"
    assert pools.origins == frozenset()
