"""Workspaces on a real `molecule-local`, each with a host that can be started, killed and started again."""

from __future__ import annotations

import asyncio
import json
import textwrap
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from ..processes import DEADLINE, free_port, molecule_local, molecule_runtime

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from tests.support.warm import WarmProcess

ADAPTER = """
    import json
    from pathlib import Path

    import anyio
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    FOLDER = Path(__file__).parent

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "slow")
        display_name = staticmethod(lambda: "Slow")
        description = staticmethod(lambda: "Takes its time.")

        async def setup(self, config):
            pass

        async def create_executor(self, config):
            return ReplyExecutor(self.answer)

        async def answer(self, turn):
            with (FOLDER / "runs.txt").open("a") as handle:
                handle.write(json.dumps(turn.text) + chr(10))
            if turn.text == "crash":
                import os
                os._exit(9)
            while "hold" in turn.text and not (FOLDER / "go").exists():
                await anyio.sleep(0.02)
            return " ".join(["done: " + turn.text, *(file.uri for file in turn.files)])
"""


@asynccontextmanager
async def platform(folder: Path, *arguments: str) -> AsyncGenerator[httpx.AsyncClient]:
    """Run `molecule-local`, and yield a client with the admin token."""
    async with molecule_local(folder, *arguments) as (_, admin):
        yield admin


@dataclass
class Member:
    """A workspace on the platform, and its host where it has one."""

    admin: httpx.AsyncClient
    root: Path
    id: str
    token: str
    port: int
    state: Path
    delivery: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "X-Workspace-ID": self.id}

    def runs(self) -> list[str]:
        path = self.root / "runs.txt"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def log(self) -> str:
        path = self.root / "stderr.txt"
        return path.read_text() if path.exists() else ""

    async def rows(self) -> list[dict[str, Any]]:
        """Return the inbox, oldest first."""
        answer = await self.admin.get(
            f"/workspaces/{self.id}/activity", params={"type": "a2a_receive", "limit": 500}, headers=self.headers
        )
        rows: list[dict[str, Any]] = answer.raise_for_status().json()
        return sorted(rows, key=lambda row: row["seq"])

    async def told_the_person(self) -> list[str]:
        """Return what this workspace said in the chat."""
        return [row["response_body"]["result"] for row in await self.rows() if row["method"] == "notify"]

    async def told_by(self, peer: Member) -> list[dict[str, Any]]:
        """Return the messages that came from a peer."""
        return [
            row["request_body"]["params"]["message"] for row in await self.rows() if row.get("source_id") == peer.id
        ]

    async def acknowledged(self) -> int:
        answer = await self.admin.post(
            f"/workspaces/{self.id}/activity/ack", json={"acked_seq": 0}, headers=self.headers
        )
        return int(answer.raise_for_status().json()["last_acked_seq"])

    async def send(self, target: Member, text: str, **fields: Any) -> None:
        """Leave a message in the inbox of another workspace."""
        await deliver(self.admin, target, text, headers=self.headers, **fields)

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[WarmProcess]:
        """Run the host of this workspace."""
        environ = {
            "WORKSPACE_ID": self.id,
            "WORKSPACE_CONFIG_PATH": str(self.root),
            "CONFIGS_DIR": str(self.state),
            "PLATFORM_URL": str(self.admin.base_url).rstrip("/"),
            "MOLECULE_WORKSPACE_TOKEN": self.token,
            "MOLECULE_BIND_HOST": "127.0.0.1",
            "MOLECULE_DELIVERY_MODE": self.delivery,
            "ADAPTER_MODULE": "member_adapter",
        }
        async with molecule_runtime(self.root, environ) as process:
            yield process

    async def ready(self) -> None:
        """Wait until the host takes messages, and knows the secret by which the platform comes to it."""

        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:

            async def is_ready() -> bool:
                if not (self.state / ".platform_inbound_secret").exists():
                    return False
                try:
                    return (await http.get(f"{self.url}/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_ready, "the host is ready", self)


async def deliver(admin: httpx.AsyncClient, target: Member, text: str, headers: dict[str, str], **fields: Any) -> None:
    message = {"role": "user", "messageId": str(uuid.uuid4()), "parts": [{"kind": "text", "text": text}], **fields}
    body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}
    answer = await admin.post(f"/workspaces/{target.id}/a2a", json=body, headers=headers)
    assert answer.raise_for_status().json()["status"] == "queued", answer.text


async def person_says(target: Member, text: str, **fields: Any) -> None:
    await deliver(target.admin, target, text, headers={}, **fields)


async def member(
    admin: httpx.AsyncClient,
    root: Path,
    *,
    parent: str | None = None,
    adapter: str = ADAPTER,
    delivery: str = "poll",
    state: Path | None = None,
    config: str = "",
) -> Member:
    """Create a workspace whose host has its files in `root`, and its state there too unless said otherwise."""
    body = {"name": root.name, "external": True} | ({"parent_id": parent} if parent else {})
    made = (await admin.post("/workspaces", json=body)).raise_for_status().json()
    created = Member(
        admin, root, made["id"], made["connection"]["auth_token"], free_port(), state or root / "state", delivery
    )
    _furnish(created, adapter, config)
    return created


def _furnish(created: Member, adapter: str, config: str) -> None:
    created.root.mkdir()
    (created.root / "config.yaml").write_text(f"name: {created.root.name}\na2a: {{port: {created.port}}}\n{config}")
    (created.root / "member_adapter.py").write_text(textwrap.dedent(adapter))


async def team(admin: httpx.AsyncClient, root: Path, *names: str) -> list[Member]:
    """Create workspaces that may talk to each other, all of them with an inbox."""
    parent = (await admin.post("/workspaces", json={"name": "parent", "external": True})).raise_for_status().json()
    members: list[Member] = []
    for name in names:
        created = await member(admin, root / name, parent=parent["id"])
        card = {"id": created.id, "agent_card": {"name": name}, "delivery_mode": "poll"}
        (await admin.post("/registry/register", json=card, headers=created.headers)).raise_for_status()
        members.append(created)
    return members


async def until(condition: Callable[[], Any], what: str, *members: Member) -> None:
    with anyio.move_on_after(DEADLINE):
        while True:
            holds = condition()
            if asyncio.iscoroutine(holds):
                holds = await holds
            if holds:
                return
            await anyio.sleep(0.05)
    pytest.fail(f"never happened: {what}\n" + "\n".join(member.log() for member in members))
