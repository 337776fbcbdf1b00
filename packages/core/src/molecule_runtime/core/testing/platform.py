"""A platform in memory: the real client talks to it through a transport that never leaves the process."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from molecule_runtime.core import envelope
from molecule_runtime.core.identity import WorkspaceId
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "http://platform.invalid"
TOKEN = "conformance-workspace-token"  # noqa: S105 - of a fake
WORKSPACE_ID = "ws-conformance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call that the platform received."""

    method: str
    path: str
    body: Any = None


@dataclass(slots=True, kw_only=True)
class FakePlatform:
    """The platform of one workspace.

    Attributes:
        peers: rows of `GET /registry/:id/peers`.
        answer: what a peer says to a message, given its id and the text.
        requests: every call that was authorised, in order.
    """

    workspace_id: str = WORKSPACE_ID
    peers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    answer: Callable[[str, str], str] = lambda peer, text: f"{peer} says: {text}"
    requests: list[Request] = field(default_factory=list[Request])
    notices: list[str] = field(default_factory=list[str])
    """Messages to the person."""

    def add_peer(self, identifier: str, name: str = "", **fields: Any) -> None:
        """Add a workspace of the same team."""
        row = {"id": identifier, "name": name or identifier, "status": "online", "role": "", "parent_id": None}
        card: dict[str, Any] = {"name": name or identifier, "skills": []}
        self.peers.append({**row, "agent_card": card, "url": "", "tier": 1, "active_tasks": 0, **fields})

    def client(self) -> PlatformClient:
        """Return a client of this workspace; close it with `aclose`."""
        target = WorkspaceTarget(id=WorkspaceId(self.workspace_id), token=StaticToken(TOKEN), platform_url=URL)
        return PlatformClient(target, _Pools(_Transport(self)), user_agent="conformance")

    def respond(self, request: httpx.Request, content: bytes) -> tuple[int, Any]:
        """Answer one call as the contract says; an endpoint that no adapter needs is 404."""
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "missing or wrong workspace token"}
        body: Any = json.loads(content) if content else None
        path = request.url.path
        self.requests.append(Request(method=request.method, path=path, body=body))
        own = f"/workspaces/{self.workspace_id}"
        match (request.method, path):
            case ("POST", "/registry/register"):
                return 200, {"status": "registered", "delivery_mode": "push"}
            case ("POST", "/registry/heartbeat"):
                return 200, {"status": "ok"}
            case ("POST", "/registry/update-card"):
                return 200, {"status": "updated"}
            case ("GET", _) if path == f"/registry/{self.workspace_id}/peers":
                return 200, self.peers
            case ("GET", _) if path in (f"{own}/activity", f"{own}/delegations"):
                return 200, []
            case ("POST", _) if path == f"{own}/activity":
                return 200, {"status": "logged"}
            case ("POST", _) if path == f"{own}/notify":
                self.notices.append(str(body.get("message", "")))
                return 200, {"status": "sent"}
            case ("POST", _) if path == f"{own}/delegate":
                return 202, {"delegation_id": str(uuid.uuid4()), "status": "delegated", "target_id": body["target_id"]}
            case ("GET", _) if path.startswith("/workspaces/") and path.count("/") == 2:
                return self._workspace(path.rpartition("/")[2])
            case ("POST", _) if path.startswith("/workspaces/") and path.endswith("/a2a"):
                return self._a2a(path.split("/")[2], body)
            case _:
                return 404, {"error": f"no such endpoint: {request.method} {path}"}

    def _workspace(self, identifier: str) -> tuple[int, Any]:
        if identifier == self.workspace_id:
            return 200, {"id": identifier, "name": "Conformance", "status": "online"}
        row = next((peer for peer in self.peers if peer["id"] == identifier), None)
        return (200, row) if row else (404, {"error": "workspace not found"})

    def _a2a(self, peer: str, body: Any) -> tuple[int, Any]:
        if not any(row["id"] == peer for row in self.peers):
            return 404, {"error": "workspace not found"}
        said = envelope.read_message(body)
        reply = {
            "kind": "message",
            "role": "agent",
            "messageId": str(uuid.uuid4()),
            "parts": [{"kind": "text", "text": self.answer(peer, said.text)}],
        }
        return 200, {"jsonrpc": "2.0", "id": body.get("id"), "result": reply}


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, platform: FakePlatform) -> None:
        self._platform = platform

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, body = self._platform.respond(request, await request.aread())
        return httpx.Response(status, json=body)


class _Pools(ConnectionPools):
    def __init__(self, transport: _Transport) -> None:
        super().__init__()
        self._memory = transport

    def transport(self, url: str) -> httpx.AsyncBaseTransport:
        return self._memory
