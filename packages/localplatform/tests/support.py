"""What the tests of this wheel share: scripted agents on real sockets, and a platform with its clients."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    import httpx

    from molecule_runtime.localplatform import Frame, RunningPlatform
    from molecule_runtime.localplatform.events import Subscription

WAIT_SECONDS = 10.0
START = 1_800_000_000.0


@dataclass
class Clock:
    """Unix time that moves only when a test moves it."""

    now: float = START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Received:
    """One request as an agent got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class FakeAgent:
    """An agent whose answers the test writes, byte for byte; None closes the connection without an answer."""

    url: str = ""
    received: list[Received] = field(default_factory=list[Received])
    answer: Callable[[Received], Awaitable[bytes | None]] | None = None

    @property
    def texts(self) -> list[str]:
        return [request.body["params"]["message"]["parts"][0]["text"] for request in self.received]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            length = int(headers.get("content-length", "0"))
            body: dict[str, Any] = json.loads(await reader.readexactly(length)) if length else {}
            request = Received(method, path, headers, body)
            self.received.append(request)
            reply = await self.answer(request) if self.answer else http_answer(said("hello"))
            if reply is not None:
                writer.write(reply)
                await writer.drain()
        finally:
            writer.close()


def said(text: str) -> dict[str, Any]:
    message = {"kind": "message", "role": "agent", "messageId": "m-1", "parts": [{"kind": "text", "text": text}]}
    return {"jsonrpc": "2.0", "id": "1", "result": message}


def http_answer(data: object, status: int = 200, *, headers: str = "") -> bytes:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


@asynccontextmanager
async def fake_agent() -> AsyncGenerator[FakeAgent]:
    agent = FakeAgent()
    handlers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(agent.handle(reader, writer))
        handlers.add(task)
        task.add_done_callback(handlers.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    agent.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield agent
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@dataclass(frozen=True)
class Member:
    """A workspace and its token."""

    id: str
    token: str

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass
class World:
    """A running platform, and what one does to it."""

    platform: RunningPlatform
    http: httpx.AsyncClient
    clock: Clock

    @property
    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.platform.admin_token}"}

    async def create(self, name: str = "alice", **fields: Any) -> Member:
        answer = await self.http.post(
            "/workspaces", json={"name": name, "external": True, **fields}, headers=self.admin
        )
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Member(made["id"], made["connection"]["auth_token"])

    async def family(self) -> tuple[Member, Member, Member]:
        """A parent and two children."""
        parent = await self.create("parent")
        return parent, await self.create("left", parent_id=parent.id), await self.create("right", parent_id=parent.id)

    async def register(self, member: Member, agent: FakeAgent | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {"id": member.id, "agent_card": {"name": "a card"}}
        body |= {"url": agent.url, "delivery_mode": "push"} if agent else {"delivery_mode": "poll"}
        answer = await self.http.post("/registry/register", json=body, headers=member.auth)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def beat(self, member: Member, **fields: Any) -> dict[str, Any]:
        body = {"workspace_id": member.id, **fields}
        answer = await self.http.post("/registry/heartbeat", json=body, headers=member.auth)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def send(
        self, sender: Member, target: Member, text: str = "hi", *, message_id: str | None = None
    ) -> httpx.Response:
        return await self.http.post(f"/workspaces/{target.id}/a2a", json=message(text, message_id), headers=sender.auth)

    async def status(self, member: Member) -> str:
        return str((await self.http.get(f"/workspaces/{member.id}")).json()["status"])

    async def activity(self, member: Member, **query: Any) -> list[dict[str, Any]]:
        answer = await self.http.get(f"/workspaces/{member.id}/activity", params=query, headers=member.auth)
        assert answer.status_code == 200, answer.text
        return cast("list[dict[str, Any]]", answer.json())

    async def settle(self) -> None:
        """Wait until nothing runs in the background."""
        with anyio.fail_after(WAIT_SECONDS):
            await self.platform.idle()


def message(text: str = "hi", message_id: str | None = None, **metadata: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"role": "user", "parts": [{"kind": "text", "text": text}]}
    if message_id:
        body["messageId"] = message_id
    if metadata:
        body["metadata"] = metadata
    return {"jsonrpc": "2.0", "id": "7", "method": "message/send", "params": {"message": body}}


async def frame_of(stream: Subscription, event: str) -> Frame:
    """Read the stream up to the next event of this name."""
    with anyio.fail_after(WAIT_SECONDS):
        async for frame in stream:
            if frame.event == event:
                return frame
    raise AssertionError(f"the bus closed before {event}")
