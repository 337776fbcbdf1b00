"""An A2A agent as the suite sees it: an address, its two bindings, and the words that it obeys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import httpx

WAIT_SECONDS = 30.0
"""For one thing to happen in another process."""

ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
TERMINAL = {"TASK_STATE_COMPLETED", "TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}
V1 = {"A2A-Version": "1.0"}


def message(text: str, **fields: Any) -> dict[str, Any]:
    """Return a message of 1.0."""
    return {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": [{"text": text}], **fields}


def old_message(text: str, **fields: Any) -> dict[str, Any]:
    """Return a message of 0.3."""
    parts = [{"kind": "text", "text": text}]
    return {"kind": "message", "messageId": str(uuid.uuid4()), "role": "user", "parts": parts, **fields}


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent under test."""

    url: str
    http: httpx.AsyncClient

    # --- JSON-RPC ---------------------------------------------------------------------------------------------------------

    async def post(self, content: bytes | str, *, path: str = "/", **headers: str) -> httpx.Response:
        """Post bytes as they are."""
        return await self.http.post(path, content=content, headers={"Content-Type": "application/json", **headers})

    async def rpc(
        self, method: str, params: Any = None, *, version: str = "1.0", request_id: Any = "r1"
    ) -> dict[str, Any]:
        """Call a method, and return the whole JSON-RPC response; `version` "" sends no header."""
        body = {"jsonrpc": "2.0", "id": request_id, "method": method}
        if params is not None:
            body["params"] = params
        headers = {"A2A-Version": version} if version else {}
        response = await self.http.post("/", json=body, headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].split(";")[0] == "application/json"
        answer = cast("dict[str, Any]", response.json())
        assert answer["jsonrpc"] == "2.0"
        assert ("result" in answer) != ("error" in answer), answer
        return answer

    async def result(self, method: str, params: Any = None, *, version: str = "1.0") -> Any:
        """Call a method that succeeds."""
        answer = await self.rpc(method, params, version=version)
        assert "error" not in answer, answer
        return answer["result"]

    async def error(self, method: str, params: Any = None, *, version: str = "1.0") -> dict[str, Any]:
        """Call a method that fails."""
        answer = await self.rpc(method, params, version=version)
        assert "error" in answer, answer
        assert isinstance(answer["error"]["message"], str)
        return cast("dict[str, Any]", answer["error"])

    async def send(self, text: str, *, now: bool = False, **fields: Any) -> dict[str, Any]:
        """Send a message of 1.0 that begins or goes on with a task, and return the task."""
        params = {"message": message(text, **fields), "configuration": {"returnImmediately": now}}
        return cast("dict[str, Any]", (await self.result("SendMessage", params))["task"])

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task."""
        return cast("dict[str, Any]", await self.result("GetTask", {"id": task_id}))

    @asynccontextmanager
    async def stream(
        self, method: str, params: Any, *, version: str = "1.0", request_id: Any = "r1"
    ) -> AsyncGenerator[AsyncGenerator[dict[str, Any]]]:
        """Call a streaming method, and yield the JSON of its events."""
        body = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        headers = {"A2A-Version": version} if version else {}
        async with self.http.stream("POST", "/", json=body, headers=headers) as response:
            yield events_of(response)

    # --- HTTP+JSON --------------------------------------------------------------------------------------------------------

    async def rest(self, verb: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        """Call the HTTP+JSON binding."""
        content = None if body is None else json.dumps(body)
        headers = V1 | ({"Content-Type": "application/a2a+json"} if body is not None else {})
        return await self.http.request(verb, path, content=content, headers=headers, params=params)

    async def card(self) -> dict[str, Any]:
        """Return the agent card."""
        return cast("dict[str, Any]", (await self.http.get("/.well-known/agent-card.json")).raise_for_status().json())


async def events_of(response: httpx.Response) -> AsyncGenerator[dict[str, Any]]:
    """Read server-sent events; comments are skipped."""
    assert response.status_code == 200, (await response.aread()).decode()
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    data: list[str] = []
    async for line in response.aiter_lines():
        if line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data = []


async def all_of(events: AsyncGenerator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Read a stream until the agent closes it."""
    with anyio.fail_after(WAIT_SECONDS):
        return [event async for event in events]


async def first_of(events: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    """Read one event."""
    with anyio.fail_after(WAIT_SECONDS):
        return await anext(events)


@dataclass(frozen=True, slots=True)
class Hook:
    """One push notification."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Webhook:
    """A client's webhook."""

    url: str = ""
    hooks: list[Hook] = field(default_factory=list[Hook])

    async def until(self, enough: Callable[[list[Hook]], bool]) -> list[Hook]:
        """Wait until what came is enough."""
        with anyio.fail_after(WAIT_SECONDS):
            while not enough(self.hooks):  # noqa: ASYNC110 - they come from another process
                await anyio.sleep(0.02)
        return self.hooks

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.hooks.append(Hook(head[0].split(" ")[1], headers, json.loads(body)))
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def webhook_on(host: str) -> AsyncGenerator[Webhook]:
    """Listen for push notifications."""
    webhook = Webhook()
    server = await asyncio.start_server(webhook.serve, host, 0)
    webhook.url = f"http://{host}:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield webhook
    finally:
        server.close()
        with anyio.move_on_after(WAIT_SECONDS):
            await server.wait_closed()
