"""Two tenants, each with a platform of its own behind a front that keeps every request, and what of one must never reach the other."""

from __future__ import annotations

import asyncio
import json
import struct
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import httpx
from tests.support.migrated import prepare
from tests.support.tenants import Http, Member, Tenant, bearer, http_server

from molecule_runtime.localplatform import LocalSettings, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

SECONDS = 40.0
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 640, 480) + b"picture"


@dataclass
class Front:
    """What the tools take for the platform: keeps each request whole, answers for the desktop's gateway, and hands on all else.

    `molecule-local` has no desktops; the gateway is a part of a hosted platform.
    """

    platform_port: int
    received: list[bytes] = field(default_factory=list[bytes])
    desktop: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    """Last part of the path, and the body."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(head + body)
            path = lines[0].split(" ")[1]
            if "/desktop/" in path:
                await self._as_gateway(path.rpartition("/")[2], body, writer)
            else:
                await self._hand_on(head, body, reader, writer, upgrade="upgrade" in headers)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _as_gateway(self, what: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.desktop.append((what, json.loads(body) if body else None))
        control = {"agent_can_control": True, "human_in_control": False}
        content = PNG if what == "screenshot" else json.dumps(control if what == "control" else {"ok": True}).encode()
        kind = "image/png" if what == "screenshot" else "application/json"
        start = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(start.encode() + content)
        await writer.drain()

    async def _hand_on(
        self,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        upgrade: bool,
    ) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self.platform_port)
        if not upgrade:
            # One request for each connection, so that each is kept as one.
            kept = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
            head = b"\r\n".join([*kept, b"Connection: close", b"", b""])
        downstream.write(head + body)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, keep: bool) -> None:
            while chunk := await source.read(65536):
                if keep:
                    self.received.append(chunk)
                sink.write(chunk)
                await sink.drain()

        there = asyncio.ensure_future(copy(reader, downstream, keep=True))
        back = asyncio.ensure_future(copy(upstream, writer, keep=False))
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED if upgrade else asyncio.ALL_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
            downstream.close()


@asynccontextmanager
async def _front(platform_url: str) -> AsyncGenerator[tuple[Front, str]]:
    front = Front(urlsplit(platform_url).port or 0)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(front.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield front, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Side:
    """One tenant: its platform, a lead that is an agent at a URL, and the workspace that the tools act for.

    Attributes:
        marker: stands in everything that anybody says here.
        org_id: what its platform asks every request for; "" for a platform that asks for none.
        kept: what a call left for later ones.
        names: what a call says to act for this side.
        served: ids of all workspaces that the process serves.
    """

    marker: str
    org_id: str
    tenant: Tenant
    front: Front
    agent: Http
    lead: Member
    ours: Member
    files: Path
    kept: dict[str, str] = field(default_factory=dict[str, str])
    names: dict[str, str] = field(default_factory=dict[str, str])
    served: list[str] = field(default_factory=list[str])

    def entry(self) -> dict[str, str]:
        """What `MOLECULE_WORKSPACES` says of our workspace."""
        return {"id": self.ours.id, "token": self.ours.token, "platform_url": self.tenant.url}

    def secrets(self) -> list[str]:
        """What no request to another tenant may contain."""
        own = [self.marker, self.lead.id, self.lead.token, self.ours.id, self.ours.token]
        return [*own, self.org_id] if self.org_id else own

    def seen_by_others(self) -> bytes:
        """Every byte that reached the platform and the peer of this tenant."""
        agent = [json.dumps([each.path, each.headers, each.body]) for each in self.agent.received]
        return b"".join([*self.front.received, *(each.encode() for each in agent)])

    async def online(self) -> None:
        """Wait until our workspace has registered."""
        with anyio.fail_after(SECONDS):
            async with self.tenant.platform.bus.subscribe() as frames:
                row = (await self.tenant.http.get(f"/workspaces/{self.ours.id}", headers=bearer(self.ours))).json()
                while row["status"] != "online":
                    frame = await anext(frames)
                    if (frame.event, frame.workspace_id) == ("WORKSPACE_ONLINE", self.ours.id):
                        break

    async def post(self, path: str, body: dict[str, Any], sender: Member) -> dict[str, Any]:
        """Let somebody of this tenant ask its platform for something."""
        answer = await self.tenant.http.post(path, json=body, headers=bearer(sender))
        assert answer.status_code < 300, answer.text
        return dict(answer.json())


@asynccontextmanager
async def side(name: str, folder: Path, *, org_id: str = "") -> AsyncGenerator[Side]:
    """Run one tenant, with a plugin on its shelf and a file of its own among those that may be sent."""
    marker = f"{name}-{uuid.uuid4().hex[:12]}"
    settings = LocalSettings(
        data=folder / name, port=0, org_id=org_id, sweep_interval=3600, delegation_retry_after=0.01
    )
    files = folder / "files"
    await anyio.Path(files).mkdir(exist_ok=True)
    await anyio.Path(files / f"{name}.txt").write_text(f"{marker} in a file\n", encoding="utf-8")
    headers = {"X-Molecule-Org-Id": org_id} if org_id else {}
    await prepare(settings.data)
    async with (
        serve(settings) as platform,
        _front(platform.url) as (front, url),
        http_server() as agent,
        httpx.AsyncClient(base_url=platform.url, trust_env=False, headers=headers) as http,
    ):
        plugin = anyio.Path(folder / name / "plugins" / "demo")
        await plugin.mkdir(parents=True)
        await (plugin / "plugin.yaml").write_text("version: '1'\n", encoding="utf-8")
        part = {"kind": "text", "text": f"{marker} answers"}
        message = {"kind": "message", "role": "agent", "messageId": "m-1", "parts": [part]}
        agent.says((200, {"jsonrpc": "2.0", "id": "1", "result": message}))
        tenant = Tenant(platform, url, http, bytearray())
        lead = await tenant.create(f"{marker}-lead")
        ours = await tenant.create(f"{marker}-ours", parent_id=lead.id)
        await tenant.register(lead, agent)
        allowed = {"broadcast_enabled": True}
        answer = await http.patch(f"/workspaces/{ours.id}/abilities", json=allowed, headers=tenant.admin)
        assert answer.status_code < 300, answer.text
        yield Side(marker, org_id, tenant, front, agent, lead, ours, files)
