"""The connections of one origin, and whose turn it is."""

import threading
from collections.abc import AsyncGenerator

import anyio
import pytest

from molecule_runtime.core.errors import PlatformUnreachableError
from molecule_runtime.core.platform import pools as pools_module
from molecule_runtime.core.platform.pools import ConnectionPools

from .support import DEADLINE, Answer, ScriptedPlatform, client_of

pytestmark = pytest.mark.anyio

PATH = "/workspaces/ws-2/a2a"
ROW = {"id": "ws-1", "name": "one", "status": "online"}


@pytest.fixture
async def pools(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[ConnectionPools]:
    monkeypatch.setattr(pools_module, "MAX_CONNECTIONS_PER_ORIGIN", 3)
    monkeypatch.setattr(pools_module, "MAX_LONG_PER_ORIGIN", 2)
    async with ConnectionPools() as opened:
        yield opened


async def test_requests_that_take_long_keep_no_short_one_waiting(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    reply = {"jsonrpc": "2.0", "id": "1", "result": {"parts": [{"kind": "text", "text": "hi"}]}}
    platform.on("POST", PATH, Answer(body=reply, gate=gate))
    platform.on("GET", "/workspaces/ws-1", Answer(body=ROW))
    async with client_of(platform, pools) as client:
        answered: list[object] = []

        async def ask() -> None:
            answered.append(await client.send_message("ws-2", "hi"))

        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(ask)
                await platform.until_requests("POST", PATH, 2)
                for _ in range(3):
                    assert (await client.workspace()).name == "one"
                # The others wait for their turn, and are not lost.
                assert len(platform.to("POST", PATH)) == 2
                gate.set()
        assert len(answered) == 4


async def test_a_request_that_gets_no_turn_in_time_was_not_sent_and_turns_are_given_back(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    platform.on(
        "GET",
        "/workspaces/ws-1",
        Answer(body=ROW, gate=gate),
        Answer(status=500, body={}),
        Answer(raw=b""),
        Answer(body=ROW),
    )
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                group.start_soon(client.workspace)
                await platform.until_requests("GET", "/workspaces/ws-1")
                with pytest.raises(PlatformUnreachableError):
                    await client.workspace(timeout=0.1)
                assert len(platform.requests) == 1
                # One that is cancelled gives its turn back, and so does one that fails.
                group.cancel_scope.cancel()
            gate.set()
            for _ in range(2):
                with pytest.raises(Exception, match="ws-1"):
                    await client.workspace()
            assert (await client.workspace()).name == "one"
