"""A platform of a polling workspace in this process: its inbox, its delegations and the files that wait for it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from molecule_runtime.a2a.server import HostServer, bind
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request


def row(number: int, *, source: str | None = "ws-2", method: str = "message/send", **message: Any) -> dict[str, Any]:
    content = {"role": "user", "messageId": f"m-{number}", "parts": [{"kind": "text", "text": f"text {number}"}]}
    return {
        "id": f"row-{number}",
        "seq": number,
        "activity_type": "a2a_receive",
        "method": method,
        "source_id": source,
        "created_at": f"2026-01-01T00:00:{number:02}Z",
        "request_body": {"jsonrpc": "2.0", "method": method, "params": {"message": {**content, **message}}},
    }


@dataclass
class Platform:
    """An inbox as the contract has it, with the faults that a test asks for."""

    url: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    forgotten: set[str] = field(default_factory=set[str])
    faults: list[Response] = field(default_factory=list[Response])
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    acknowledged: list[int] = field(default_factory=list[int])
    ack_status: int = 200
    said: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    say_faults: list[Response] = field(default_factory=list[Response])
    delegations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    results: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    looks: int = 0
    files: dict[str, Response] = field(default_factory=dict[str, Response])
    fetched: list[str] = field(default_factory=list[str])
    let_go: list[str] = field(default_factory=list[str])

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/workspaces/ws-1/activity", self._activity),
                Route("/workspaces/ws-1/activity/ack", self._ack, methods=["POST"]),
                Route("/workspaces/ws-1/notify", self._say, methods=["POST"]),
                Route("/workspaces/ws-2/a2a", self._say, methods=["POST"]),
                Route("/workspaces/ws-1/delegations", self._delegations),
                Route("/workspaces/ws-1/pending-uploads/{file_id}/content", self._file),
                Route("/workspaces/ws-1/pending-uploads/{file_id}/ack", self._let_go, methods=["POST"]),
            ]
        )

    async def _activity(self, request: Request) -> Response:
        query = dict(request.query_params)
        self.asked.append(query)
        if self.faults:
            return self.faults.pop(0)
        if query["type"] == "delegation":
            return JSONResponse(self.results)
        limit = int(query["limit"])
        since = query.get("since_id")
        if since in self.forgotten:
            return JSONResponse({"error": "cursor is gone"}, status_code=410)
        if since is None:
            before = query.get("before_ts", "~")
            return JSONResponse([each for each in reversed(self.rows) if each["created_at"] < before][:limit])
        place = [each["id"] for each in self.rows].index(since) + 1
        return JSONResponse(self.rows[place : place + limit])

    async def _ack(self, request: Request) -> Response:
        self.acknowledged.append((await request.json())["acked_seq"])
        return JSONResponse({"last_acked_seq": self.acknowledged[-1]}, status_code=self.ack_status)

    async def _say(self, request: Request) -> Response:
        self.said.append(await request.json())
        if self.say_faults:
            return self.say_faults.pop(0)
        return JSONResponse({"status": "sent"})

    async def _delegations(self, _: Request) -> Response:
        self.looks += 1
        return self.faults.pop(0) if self.faults else JSONResponse(self.delegations[:50])

    async def _file(self, request: Request) -> Response:
        file_id = request.path_params["file_id"]
        self.fetched.append(file_id)
        if self.faults:
            return self.faults.pop(0)
        return self.files.get(file_id) or JSONResponse({"error": "file not found"}, status_code=404)

    async def _let_go(self, request: Request) -> Response:
        self.let_go.append(request.path_params["file_id"])
        return JSONResponse({"acked": True})


@asynccontextmanager
async def serving_platform() -> AsyncGenerator[Platform]:
    sock = bind("127.0.0.1", 0)
    made = Platform(url=f"http://127.0.0.1:{sock.getsockname()[1]}")
    server = HostServer(made.app(), graceful=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [sock])
        await server.listening()
        try:
            yield made
        finally:
            server.should_exit = True


@asynccontextmanager
async def client_of(platform: Platform) -> AsyncGenerator[PlatformClient]:
    target = WorkspaceTarget(
        id=validate_workspace_id("ws-1"), token=StaticToken("token-1234567890"), platform_url=platform.url
    )
    async with ConnectionPools() as pools, PlatformClient(target, pools) as client:
        yield client
