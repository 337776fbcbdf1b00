"""What the local platform has acknowledged is there after a kill -9, and there once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import uuid
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import pytest

from .processes import DEADLINE, molecule_local

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from anyio.abc import Process

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

KILLS = 3
ACKNOWLEDGED = 60
"""Of each kind before a kill."""

ANSWER = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": "1",
        "result": {"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": "done"}]},
    }
).encode()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Ledger:
    """What was asked of the platform, and what it acknowledged, by the sender's own id."""

    asked: dict[str, set[str]] = field(
        default_factory=lambda: {kind: set() for kind in ("message", "delegation", "memory")}
    )
    acknowledged: dict[str, dict[str, str]] = field(
        default_factory=lambda: {kind: {} for kind in ("message", "delegation", "memory")}
    )


@dataclass
class Agent:
    """Answers every message, and counts which it got."""

    url: str = ""
    received: Counter[str] = field(default_factory=Counter[str])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(head.partition("content-length:")[2].partition("\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.received[body["params"]["message"]["messageId"]] += 1
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
                )
                writer.write(ANSWER)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def agent_on_a_socket() -> AsyncGenerator[Agent]:
    agent = Agent()
    server = await asyncio.start_server(agent.serve, "127.0.0.1", 0)
    agent.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield agent
    finally:
        server.close()


@dataclass
class Team:
    """The workspaces that the load is between."""

    sender: dict[str, Any]
    poller: dict[str, Any]
    worker: dict[str, Any]

    @property
    def as_sender(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.sender['token']}"}


async def create(admin: httpx.AsyncClient, name: str, **fields: Any) -> dict[str, Any]:
    made = (await admin.post("/workspaces", json={"name": name, "external": True, **fields})).raise_for_status().json()
    return {"id": made["id"], "token": made["connection"]["auth_token"]}


async def register(admin: httpx.AsyncClient, member: dict[str, Any], **fields: Any) -> None:
    body = {"id": member["id"], "agent_card": {"name": "agent"}, **fields}
    headers = {"Authorization": f"Bearer {member['token']}"}
    (await admin.post("/registry/register", json=body, headers=headers)).raise_for_status()


async def send_message(admin: httpx.AsyncClient, team: Team, key: str) -> str:
    message = {"role": "user", "messageId": key, "parts": [{"kind": "text", "text": f"task {key}"}]}
    body = {"jsonrpc": "2.0", "id": key, "method": "message/send", "params": {"message": message}}
    answer = await admin.post(f"/workspaces/{team.poller['id']}/a2a", json=body, headers=team.as_sender)
    assert answer.raise_for_status().json()["status"] == "queued"
    return key


async def delegate(admin: httpx.AsyncClient, team: Team, key: str) -> str:
    body = {"target_id": team.worker["id"], "task": f"task {key}", "idempotency_key": key}
    answer = await admin.post(f"/workspaces/{team.sender['id']}/delegate", json=body, headers=team.as_sender)
    return cast("str", answer.raise_for_status().json()["delegation_id"])


async def remember(admin: httpx.AsyncClient, team: Team, key: str) -> str:
    body = {"content": f"fact {key}", "scope": "LOCAL"}
    answer = await admin.post(f"/workspaces/{team.sender['id']}/memories", json=body, headers=team.as_sender)
    return cast("str", answer.raise_for_status().json()["id"])


KINDS: dict[str, Callable[[httpx.AsyncClient, Team, str], Awaitable[str]]] = {
    "message": send_message,
    "delegation": delegate,
    "memory": remember,
}


async def load_until_killed(process: Process, admin: httpx.AsyncClient, team: Team, ledger: Ledger) -> None:
    """Ask for as much as the platform takes; kill it once enough of every kind is acknowledged, in the midst of it all."""
    before = {kind: len(ledger.acknowledged[kind]) for kind in KINDS}

    async def ask(kind: str) -> None:
        while True:
            key = str(uuid.uuid4())
            ledger.asked[kind].add(key)
            try:
                ledger.acknowledged[kind][key] = await KINDS[kind](admin, team, key)
            except httpx.TransportError:
                return
            if (
                all(len(ledger.acknowledged[each]) - before[each] >= ACKNOWLEDGED for each in KINDS)
                and process.returncode is None
            ):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    async with anyio.create_task_group() as group:
        for kind in KINDS:
            for _ in range(4):
                group.start_soon(ask, kind)


async def rows_of(admin: httpx.AsyncClient, member: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return every row of a kind, in order, page by page as a bridge reads it."""
    path = f"/workspaces/{member['id']}/activity"
    headers = {"Authorization": f"Bearer {member['token']}"}
    first = (
        await admin.get("/admin/activity", params={"workspace_id": member["id"], "since_seq": 0, "limit": 1})
    ).json()
    rows: list[dict[str, Any]] = first
    while True:
        query = {"limit": 500, "since_id": rows[-1]["id"]}
        page = (await admin.get(path, params=query, headers=headers)).raise_for_status().json()
        if not page:
            return [row for row in rows if row["activity_type"] == kind]
        rows += page


async def memories_of(admin: httpx.AsyncClient, team: Team, key: str) -> list[dict[str, Any]]:
    path = f"/workspaces/{team.sender['id']}/memories"
    query = {"scope": "LOCAL", "q": key}
    found = (await admin.get(path, params=query, headers=team.as_sender)).raise_for_status().json()
    return [row for row in found if row["content"] == f"fact {key}"]


async def test_nothing_acknowledged_is_lost_or_doubled_when_the_platform_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    ledger = Ledger()
    async with agent_on_a_socket() as agent:
        async with molecule_local(tmp_path / "data") as (_, admin):
            parent = await create(admin, "parent")
            members = [await create(admin, name, parent_id=parent["id"]) for name in ("sender", "poller", "worker")]
            team = Team(*members)
            await register(admin, team.sender, delivery_mode="poll")
            await register(admin, team.poller, delivery_mode="poll")
            await register(admin, team.worker, url=agent.url)
        for _ in range(KILLS):
            async with molecule_local(tmp_path / "data") as (process, admin):
                with anyio.fail_after(DEADLINE):
                    await load_until_killed(process, admin, team, ledger)
                    await process.wait()
                assert process.returncode == -signal.SIGKILL
        async with molecule_local(tmp_path / "data") as (_, admin):
            with anyio.fail_after(DEADLINE):
                await check(admin, team, ledger, agent)


async def check(admin: httpx.AsyncClient, team: Team, ledger: Ledger, agent: Agent) -> None:
    def ids(rows: list[dict[str, Any]]) -> Counter[str]:
        return Counter(row["request_body"]["params"]["message"]["messageId"] for row in rows)

    arrived = ids(await rows_of(admin, team.poller, "a2a_receive"))
    assert set(arrived) >= set(ledger.acknowledged["message"])
    assert set(arrived.values()) == {1}
    # A sender that got no answer sends again, under the same id: still once.
    for key in ledger.asked["message"] - set(ledger.acknowledged["message"]):
        await send_message(admin, team, key)
    arrived = ids(await rows_of(admin, team.poller, "a2a_receive"))
    assert (set(arrived), set(arrived.values())) == (ledger.asked["message"], {1})

    # A retry of a delegation whose answer was lost leads to the one that was stored, if it was.
    for key in ledger.asked["delegation"] - set(ledger.acknowledged["delegation"]):
        first = await delegate(admin, team, key)
        assert await delegate(admin, team, key) == first
        ledger.acknowledged["delegation"][key] = first
    while True:
        rows = await rows_of(admin, team.sender, "delegation")
        begun = Counter(row["request_body"]["delegation_id"] for row in rows if row["method"] == "delegate")
        ended = Counter(row["response_body"]["delegation_id"] for row in rows if row["method"] == "delegate_result")
        if set(begun) == set(ended):
            break
        await anyio.sleep(0.05)  # until the last of them has ended; the caller's deadline bounds it
    assert set(begun) >= set(ledger.acknowledged["delegation"].values())
    assert (set(begun.values()), set(ended.values())) == ({1}, {1})
    assert set(agent.received.values()) == {1}

    for key, memory_id in ledger.acknowledged["memory"].items():
        assert [row["id"] for row in await memories_of(admin, team, key)] == [memory_id]
    for key in ledger.asked["memory"] - set(ledger.acknowledged["memory"]):
        assert len(await memories_of(admin, team, key)) <= 1
