"""Tenants on real sockets whose traffic is on record, and scripted HTTP servers, for the tests of several wheels."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import anyio
import httpx
from tests.support.migrated import prepare

from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken
from molecule_runtime.localplatform import LocalSettings, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from pathlib import Path

    from molecule_runtime.localplatform import RunningPlatform

WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Received:
    """One request as a server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Http:
    """A server whose answers the test writes: a status and a JSON value, bytes as they are, or None for no answer at all."""

    url: str = ""
    received: list[Received] = field(default_factory=list[Received])
    answer: Callable[[Received], Awaitable[tuple[int, Any] | None]] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def says(self, *answers: tuple[int, Any] | None) -> None:
        """Answer so, one after another, and with the last one from then on."""
        queue = list(answers)

        async def answer(request: Received) -> tuple[int, Any] | None:
            del request
            return queue.pop(0) if len(queue) > 1 else queue[0]

        self.answer = answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            content = await reader.readexactly(int(headers.get("content-length", "0")))
            request = Received(method, path, headers, json.loads(content) if content else None)
            self.received.append(request)
            self.arrived.set()
            reply = await self.answer(request) if self.answer else (404, {"error": "nobody told me what to say"})
            if reply is not None:
                status, data = reply
                body = data if isinstance(data, bytes) else json.dumps(data).encode()
                start = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                writer.write(f"{start}Connection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def http_server() -> AsyncGenerator[Http]:
    server = Http()
    async with _listening(server.handle) as port:
        server.url = f"http://127.0.0.1:{port}"
        yield server


@asynccontextmanager
async def _listening(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[int]:
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(reader, writer)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        task = asyncio.get_running_loop().create_task(run(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # A task that was cancelled before it began closed nothing.
        await _all_closed(writers)


async def _all_closed(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        # A task that was cancelled while it closed has cancelled what the writer waits for, too.
        with contextlib.suppress(asyncio.CancelledError):
            await closed(writer)


@dataclass(frozen=True)
class Member:
    """A workspace of a tenant, with its token."""

    id: str
    token: str


@dataclass
class Tenant:
    """A local platform behind a relay that keeps every byte that was sent to it."""

    platform: RunningPlatform
    url: str
    http: httpx.AsyncClient
    sent: bytearray

    async def create(self, name: str, **fields: Any) -> Member:
        answer = await self.http.post(
            "/workspaces", json={"name": name, "external": True, **fields}, headers=self.admin
        )
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Member(made["id"], made["connection"]["auth_token"])

    async def family(self, name: str = "team") -> tuple[Member, Member]:
        """A parent and its child."""
        parent = await self.create(f"{name}-lead")
        return parent, await self.create(f"{name}-member", parent_id=parent.id)

    async def register(self, member: Member, agent: Http | None = None) -> None:
        how = {"url": agent.url, "delivery_mode": "push"} if agent else {"delivery_mode": "poll"}
        body = {"id": member.id, "agent_card": {"name": "card"}, **how}
        answer = await self.http.post("/registry/register", json=body, headers=bearer(member))
        assert answer.status_code == 200, answer.text

    async def heartbeat(self, member: Member) -> None:
        """Say that a workspace is alive and has time, and so have one message of its queue brought to it."""
        body = {"workspace_id": member.id, "active_tasks": 0}
        answer = await self.http.post("/registry/heartbeat", json=body, headers=bearer(member))
        assert answer.status_code == 200, answer.text

    async def activity(self, member: Member) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/workspaces/{member.id}/activity", headers=bearer(member))
        assert answer.status_code == 200, answer.text
        return cast("list[dict[str, Any]]", answer.json())

    async def message(self, sender: Member, to: Member, text: str) -> None:
        """Let a peer say something to a workspace that polls."""
        part = {"kind": "text", "text": text}
        body = {"role": "user", "messageId": uuid.uuid4().hex, "parts": [part]}
        call = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": body}}
        answer = await self.http.post(f"/workspaces/{to.id}/a2a", json=call, headers=bearer(sender))
        assert answer.json() == {"status": "queued", "delivery_mode": "poll", "method": "message/send"}

    async def new_token(self, member: Member) -> Member:
        answer = await self.http.post(f"/workspaces/{member.id}/tokens", headers=bearer(member))
        assert answer.status_code < 300, answer.text
        return Member(member.id, answer.json()["auth_token"])

    async def revoke(self, member: Member) -> None:
        """Revoke the older token of a workspace, with one that stays."""
        stays = await self.new_token(member)
        listed = (await self.http.get(f"/workspaces/{member.id}/tokens", headers=bearer(stays))).json()
        rows = cast("list[dict[str, Any]]", listed["tokens"] if isinstance(listed, dict) else listed)
        for row in rows:
            if member.token.startswith(str(row["prefix"])):
                url = f"/workspaces/{member.id}/tokens/{row['id']}"
                assert (await self.http.delete(url, headers=bearer(stays))).status_code < 300
        refused = await self.http.get(f"/workspaces/{member.id}/activity", headers=bearer(member))
        assert refused.status_code == 401

    async def settle(self) -> None:
        with anyio.fail_after(WAIT_SECONDS):
            await self.platform.idle()

    @property
    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.platform.admin_token}"}


@asynccontextmanager
async def tenant(data: Path, *, port: int = 0) -> AsyncGenerator[Tenant]:
    settings = LocalSettings(data=data, port=port, sweep_interval=3600, delegation_retry_after=0.01)
    sent = bytearray()
    await prepare(data)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        opened: list[asyncio.StreamWriter] = []
        behind = urlsplit(platform.url).port

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", behind)
            opened.append(downstream)

            async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, record: bytearray | None) -> None:
                while chunk := await source.read(65536):
                    if record is not None:
                        record.extend(chunk)
                    sink.write(chunk)
                    await sink.drain()

            there = asyncio.ensure_future(copy(reader, downstream, sent))
            back = asyncio.ensure_future(copy(upstream, writer, None))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
                await closed(downstream)
                await closed(writer)

        async with _listening(relay) as relay_port:
            yield Tenant(platform, f"http://127.0.0.1:{relay_port}", http, sent)
        await _all_closed(opened)


def bearer(member: Member) -> dict[str, str]:
    return {"Authorization": f"Bearer {member.token}"}


def target(url: str, member: Member) -> WorkspaceTarget:
    return WorkspaceTarget(id=validate_workspace_id(member.id), token=StaticToken(member.token), platform_url=url)
