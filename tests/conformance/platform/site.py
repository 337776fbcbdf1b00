"""A server that speaks the platform's contract, as the suite sees it: an address, an admin token, and what one does to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import anyio
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

Era = Literal["april", "june"]

MIB = 1024 * 1024

DENIED = "access denied: workspaces cannot communicate per hierarchy rules"

WAIT_SECONDS = 20.0
"""For one thing to happen that another process does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The server under test.

    Attributes:
        admin_token: empty where the server lets anyone be admin (an April server in development mode).
        era: what the server is expected to speak.
        agent_host: under which the server reaches the agents of this suite.
    """

    url: str
    admin_token: str = field(repr=False)
    era: Era
    agent_host: str


@dataclass(frozen=True, slots=True)
class Member:
    """A workspace and its token."""

    id: str
    name: str
    token: str = field(repr=False)

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def identity(self) -> dict[str, str]:
        """The headers of a client that says who it is (contract 24.13)."""
        return {**self.auth, "X-Workspace-ID": self.id}


@dataclass(frozen=True, slots=True)
class Received:
    """One request as an agent got it; `body` is its JSON, or None where it has none."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None

    @property
    def message(self) -> dict[str, Any]:
        return cast("dict[str, Any]", self.body["params"]["message"])


Answer = Callable[[Received], Awaitable[bytes | None]]
"""Returns the bytes of an HTTP answer, or None to close the connection without one."""


@dataclass
class Agent:
    """An agent on a real socket whose answers the test writes, byte for byte."""

    url: str = ""
    received: list[Received] = field(default_factory=list[Received])
    answer: Answer | None = None

    @property
    def message_ids(self) -> list[str]:
        return [request.message["messageId"] for request in self.received if request.method == "POST"]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            if request is not None:
                self.received.append(request)
                reply = await self.answer(request) if self.answer else http_answer(says("hello"))
                if reply is not None:
                    writer.write(reply)
                    await writer.drain()
        finally:
            await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    # A peer that reads no more, or is gone, is none of the agent's business.
    with contextlib.suppress(OSError, TimeoutError), anyio.fail_after(WAIT_SECONDS):
        await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    method, path, _ = head[0].split(" ", 2)
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    if headers.get("transfer-encoding") == "chunked":
        return Received(method, path, headers, await _read_chunks(reader))
    return Received(method, path, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def says(text: str, **result: Any) -> dict[str, Any]:
    """Return the JSON-RPC answer of an agent that says something."""
    message = {
        "kind": "message",
        "role": "agent",
        "messageId": str(uuid.uuid4()),
        "parts": [{"kind": "text", "text": text}],
    }
    return {"jsonrpc": "2.0", "id": "1", "result": {**message, **result}}


def http_answer(data: object, status: int = 200, *, headers: str = "") -> bytes:
    """Return the bytes of an answer; `data` is JSON, or bytes as they are."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


def answering(*answers: bytes | None) -> Answer:
    """Answer so, one after the other, and with the last from then on."""
    waiting = list(answers)

    async def answer(_: Received) -> bytes | None:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    return answer


def envelope(text: str = "hi", message_id: str | None = None, **metadata: Any) -> dict[str, Any]:
    """Return a `message/send` as clients send it (contract 5.7)."""
    message: dict[str, Any] = {"role": "user", "parts": [{"kind": "text", "text": text}]}
    if message_id is not None:
        message["messageId"] = message_id
    if metadata:
        message["metadata"] = metadata
    return {"jsonrpc": "2.0", "id": "7", "method": "message/send", "params": {"message": message}}


@asynccontextmanager
async def agent_on(host: str) -> AsyncGenerator[Agent]:
    """Serve an agent that the server reaches under this name."""
    agent = Agent()
    turns: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = asyncio.get_running_loop().create_task(agent.serve(reader, writer))
        turns[turn] = writer
        turn.add_done_callback(turns.pop)

    # A name other than localhost is how a server elsewhere, such as in a container, reaches this machine.
    server = await asyncio.start_server(connected, "127.0.0.1" if host == "localhost" else "0.0.0.0", 0)  # noqa: S104
    agent.url = f"http://{host}:{server.sockets[0].getsockname()[1]}/"
    try:
        yield agent
    finally:
        # A connection that was accepted a moment ago begins its turn a few rounds of the loop later, and a server that is closed
        # in between would lose it unclosed: nothing more is accepted first.
        for listener in server.sockets:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        for _ in range(_ROUNDS_OF_ACCEPTING):
            await asyncio.sleep(0)
        server.close()
        left = dict(turns)
        for turn in left:
            turn.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        # A turn that ended before it began has closed nothing.
        for writer in left.values():
            writer.transport.abort()
            await _close(writer)


_ROUNDS_OF_ACCEPTING = 20


class _Patient(httpx.AsyncHTTPTransport):
    """Waits and asks again where the server limits the rate of requests (contract 1.3): the suite asks faster than any client."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        while True:
            answer = await super().handle_async_request(request)
            seconds = answer.headers.get("Retry-After", "")
            repeatable = isinstance(request.stream, httpx.ByteStream) and seconds.isdecimal()
            if answer.status_code != 429 or not repeatable:
                return answer
            if (await answer.aread()) and answer.json().get("error") != "rate limit exceeded":
                return answer
            await anyio.sleep(int(seconds))


def client_of(server: Server) -> httpx.AsyncClient:
    """Return a client of the server."""
    transport = _Patient(verify=_certificates(), trust_env=False)
    return httpx.AsyncClient(base_url=server.url, transport=transport, trust_env=False, timeout=60)


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def refusal(answer: httpx.Response, status: int, error: str | None = None) -> dict[str, Any]:
    """Return the body of a refusal (contract 1.2), which must have this status, and this text where the contract fixes it."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text}"
    assert answer.headers["content-type"].startswith("application/json"), answer.headers["content-type"]
    body = answer.json()
    assert isinstance(body["error"], str), body
    assert body["error"], body
    assert error is None or body["error"] == error, body
    return cast("dict[str, Any]", body)


@dataclass
class Site:
    """The server with a client, and the workspaces that the test made on it."""

    server: Server
    http: httpx.AsyncClient
    created: list[str] = field(default_factory=list[str])

    @property
    def admin(self) -> dict[str, str]:
        token = self.server.admin_token
        return {"Authorization": f"Bearer {token}"} if token else {}

    async def create(self, name: str = "agent", **fields: Any) -> Member:
        """Create an external workspace with a name of its own; its token comes with it, or else with its first registration."""
        unique = f"{name} {uuid.uuid4().hex[:12]}"
        body = {"name": unique, "runtime": "external", "external": True, **fields}
        answer = await self.http.post("/workspaces", json=body, headers=self.admin)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        self.created.append(made["id"])
        return Member(made["id"], unique, made.get("connection", {}).get("auth_token", ""))

    async def family(self) -> tuple[Member, Member, Member]:
        """A parent and two children."""
        parent = await self.create("parent")
        return parent, await self.create("left", parent_id=parent.id), await self.create("right", parent_id=parent.id)

    async def pair(self, agent: Agent, **fields: Any) -> tuple[Member, Member]:
        """A sender, and a sibling of it, with these fields, that the agent serves."""
        parent = await self.create("parent")
        sender = await self.create("sender", parent_id=parent.id)
        target = await self.create("target", parent_id=parent.id, **fields)
        await self.register(target, agent)
        return sender, target

    async def registered(self, agent: Agent) -> Member:
        """A workspace that was created with the agent's URL, so that its token came with its first registration."""
        made = await self.create(url=agent.url)
        return Member(made.id, made.name, (await self.register(made, agent))["auth_token"])

    async def register(self, member: Member, agent: Agent | None = None, **fields: Any) -> dict[str, Any]:
        """Register as a workspace that has a URL, or (June) as one that polls."""
        body: dict[str, Any] = {"id": member.id, "agent_card": {"name": member.name}}
        body |= {"url": agent.url} if agent else {"url": "", "delivery_mode": "poll"}
        answer = await self.http.post("/registry/register", json={**body, **fields}, headers=member.auth)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def beat(self, member: Member, **fields: Any) -> dict[str, Any]:
        body = {"workspace_id": member.id, **fields}
        answer = await self.http.post("/registry/heartbeat", json=body, headers=member.auth)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    @property
    def era(self) -> Era:
        return self.server.era

    async def send(
        self, sender: Member | None, target: Member, text: str = "hi", *, message_id: str | None = None
    ) -> httpx.Response:
        """Send a message as a workspace, or (None) as the person."""
        return await self.post_message(sender, target, envelope(text, message_id))

    async def post_message(self, sender: Member | None, target: Member, body: object) -> httpx.Response:
        headers = self.admin if sender is None else sender.identity
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(f"/workspaces/{target.id}/a2a", content=content, headers=headers)

    async def read(self, member: Member, **query: Any) -> dict[str, Any]:
        """Read the row that anyone may read."""
        answer = await self.http.get(f"/workspaces/{member.id}", params=query)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def full(self, member: Member) -> dict[str, Any]:
        """Read the row with what only an admin sees."""
        answer = await self.http.get("/workspaces", headers=self.admin)
        assert answer.status_code == 200, answer.text
        (row,) = (row for row in answer.json() if row["id"] == member.id)
        return cast("dict[str, Any]", row)

    async def get(self, member: Member, path: str, **query: Any) -> Any:
        """Read a route of a member's own, such as `activity`."""
        answer = await self.http.get(f"/workspaces/{member.id}/{path}", params=query, headers=member.auth)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, member: Member, path: str, body: object = None, *, status: int = 200) -> Any:
        """Write to a route of a member's own."""
        answer = await self.http.post(f"/workspaces/{member.id}/{path}", json=body, headers=member.auth)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def status_of(self, member: Member) -> str:
        return str((await self.read(member))["status"])

    async def inbox(self, member: Member, count: int = 1) -> list[dict[str, Any]]:
        """Read what it received, the newest first, once that many rows are there: a row may follow the answer to its sender."""

        async def probe() -> list[dict[str, Any]] | None:
            rows: list[dict[str, Any]] = await self.get(member, "activity", type="a2a_receive")
            return rows if len(rows) >= count else None

        found: list[dict[str, Any]] = await self.eventually(probe)
        return found

    async def eventually(self, probe: Callable[[], Awaitable[Any]]) -> Any:
        """Ask until the answer is true, for what the server does in the background; returns that answer."""
        with anyio.fail_after(WAIT_SECONDS):
            while not (found := await probe()):  # noqa: ASYNC110 - what changes is in another process
                await anyio.sleep(0.02)
        return found

    async def remove_created(self) -> None:
        """Remove what the test made, children first; a server that refuses keeps it."""
        for workspace_id in reversed(self.created):
            with contextlib.suppress(httpx.HTTPError):
                await self.http.delete(f"/workspaces/{workspace_id}", params={"confirm": "true"}, headers=self.admin)
