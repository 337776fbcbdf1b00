"""Starting, stopping, and what stays on disk."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.localplatform import LocalSettings, serve
from molecule_runtime.localplatform.errors import DataFolderError, PortTakenError
from molecule_runtime.localplatform.store import Store
from molecule_runtime.localplatform.store.database import migrations

from .support import WAIT_SECONDS, Received, World, http_answer, message, said

if TYPE_CHECKING:
    from pathlib import Path

    from .support import Clock, FakeAgent

pytestmark = pytest.mark.anyio


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_no_token_is_in_clear_on_disk_and_nobody_else_may_read_it(settings: LocalSettings, clock: Clock) -> None:
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        alice = await world.create()
        body = {"id": "agent-1", "agent_card": {"name": "x"}, "delivery_mode": "poll"}
        minted = (await http.post("/registry/register", json=body)).json()["auth_token"]
        await world.activity(alice)
        during = b"".join(path.read_bytes() for path in settings.data.iterdir() if path.name.startswith("molecule.db"))
        modes = {path.name: mode_of(path) for path in settings.data.iterdir()}
    after = (settings.data / "molecule.db").read_bytes()
    for token in (alice.token, minted, platform.admin_token):
        assert token.encode() not in during
        assert token.encode() not in after
    assert alice.token[:8].encode() in after
    assert mode_of(settings.data) == 0o700
    assert {modes[name] for name in modes if name.startswith("molecule.db")} == {0o600}
    assert modes["admin_token"] == 0o600
    assert (settings.data / "admin_token").read_text().strip() == platform.admin_token


async def test_a_restart_keeps_workspaces_tokens_activity_and_the_queue(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        _, left, right = await world.family()
        await world.register(left)
        await world.send(right, left, "remembered")
        await world.send(left, right, "waiting")
        admin_token = platform.admin_token
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        assert platform.admin_token == admin_token
        assert [row["summary"] for row in await world.activity(left)] == ["remembered"]
        await world.register(right, agent)
        await world.beat(right)
        await world.settle()
    assert agent.texts == ["waiting"]


async def test_a_message_that_was_under_way_from_the_queue_is_sent_again(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    settings = replace(settings, stop_grace=0)
    arrived, never = asyncio.Event(), asyncio.Event()

    async def silent(request: Received) -> None:
        del request
        arrived.set()
        await never.wait()

    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        _, left, right = await world.family()
        await world.send(left, right, "twice")
        await world.register(right, agent)
        agent.answer = silent
        await world.beat(right)
        with anyio.fail_after(WAIT_SECONDS):
            await arrived.wait()
    agent.answer = None
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        world = World(platform, http, clock)
        await world.beat(right)
        await world.settle()
    assert agent.texts == ["twice", "twice"]


async def test_a_stop_answers_whoever_still_waits(settings: LocalSettings, clock: Clock, agent: FakeAgent) -> None:
    settings = replace(settings, stop_grace=0)
    arrived, never = asyncio.Event(), asyncio.Event()

    async def silent(request: Received) -> None:
        del request
        arrived.set()
        await never.wait()

    agent.answer = silent
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client, asyncio.TaskGroup() as group:
        async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
            world = World(platform, http, clock)
            _, left, right = await world.family()
            await world.register(right, agent)
            url = f"{platform.url}/workspaces/{right.id}/a2a"
            asking = group.create_task(client.post(url, json=message(), headers=left.auth))
            with anyio.fail_after(WAIT_SECONDS):
                await arrived.wait()
        answer = await asking
    assert (answer.status_code, answer.json()["retry_after"]) == (503, 5)
    assert "restarting" not in answer.json()


async def test_a_stop_gives_a_running_turn_its_grace_time(
    settings: LocalSettings, clock: Clock, agent: FakeAgent
) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Received) -> bytes:
        del request
        arrived.set()
        await go_on.wait()
        return http_answer(said("in time"))

    agent.answer = slow
    async with httpx.AsyncClient(trust_env=False, timeout=WAIT_SECONDS) as client, asyncio.TaskGroup() as group:
        async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
            world = World(platform, http, clock)
            _, left, right = await world.family()
            await world.register(right, agent)
            url = f"{platform.url}/workspaces/{right.id}/a2a"
            asking = group.create_task(client.post(url, json=message(), headers=left.auth))
            with anyio.fail_after(WAIT_SECONDS):
                await arrived.wait()
            asyncio.get_running_loop().call_later(0.2, go_on.set)
        answer = await asking
    assert answer.json() == said("in time")


async def test_a_taken_port_is_named_with_its_remedy(settings: LocalSettings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError) as caught:
            async with serve(replace(settings, port=port)):
                raise NotImplementedError
    assert isinstance(caught.value, ConfigurationError)
    assert str(port) in str(caught.value)
    assert "--port" in str(caught.value)


async def test_a_host_that_is_not_ours_is_a_configuration_error(settings: LocalSettings) -> None:
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(ConfigurationError):
            async with serve(replace(settings, host=host)):
                raise NotImplementedError


async def test_two_platforms_do_not_share_a_data_folder(settings: LocalSettings) -> None:
    async with serve(settings):
        with pytest.raises(DataFolderError):
            async with serve(settings):
                raise NotImplementedError


async def test_a_shared_folder_is_not_taken_over(settings: LocalSettings) -> None:
    settings.data.mkdir(mode=0o755)
    (settings.data / "somebody's file").write_text("x")
    with pytest.raises(DataFolderError):
        async with serve(settings):
            raise NotImplementedError
    assert mode_of(settings.data) == 0o755


async def test_an_empty_folder_of_ours_is_closed_to_others(settings: LocalSettings) -> None:
    settings.data.mkdir(mode=0o755)
    async with serve(settings):
        assert mode_of(settings.data) == 0o700


async def test_a_database_of_a_newer_version_is_left_alone(settings: LocalSettings) -> None:
    async with serve(settings):
        pass
    connection = sqlite3.connect(settings.data / "molecule.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(DataFolderError):
        async with serve(settings):
            raise NotImplementedError


async def test_a_file_that_is_no_database_is_left_alone(settings: LocalSettings) -> None:
    settings.data.mkdir(mode=0o700)
    path = settings.data / "molecule.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DataFolderError):
        async with serve(settings):
            raise NotImplementedError
    assert path.read_bytes() == b"not a database" * 100


async def test_an_unusable_admin_token_file_is_a_configuration_error(settings: LocalSettings) -> None:
    settings.data.mkdir(mode=0o700)
    (settings.data / "admin_token").write_text("two words")
    with pytest.raises(DataFolderError):
        async with serve(settings):
            raise NotImplementedError


async def test_the_schema_is_brought_up_to_date_once(tmp_path: Path) -> None:
    def pragmas(connection: sqlite3.Connection) -> tuple[int, str, int]:
        names = ("user_version", "journal_mode", "foreign_keys")
        version, journal, keys = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
        return version, journal, keys

    for _ in range(2):
        async with Store.open(tmp_path / "x.db") as store:
            assert await store.read(pragmas) == (len(migrations()), "wal", 1)


async def test_a_job_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE t (x INTEGER)")
        raise LookupError

    def tables(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 't'").fetchone()[0])

    async with Store.open(tmp_path / "x.db") as store:
        with pytest.raises(LookupError):
            await store.write(half)
        assert await store.read(tables) == 0


async def test_a_store_that_fails_is_a_503_without_details(world: World) -> None:
    def drop(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE activity")

    alice = await world.create()
    await world.platform.store.write(drop)
    answer = await world.http.get(f"/workspaces/{alice.id}/activity", headers=alice.auth)
    assert answer.status_code == 503
    body = answer.json()
    assert (body["error"], body["code"]) == ("platform storage is unavailable", "platform_unavailable")
    assert "activity" not in body["hint"]
