"""Workspaces on a real `molecule-local`, each with a host that can be started, killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

DEADLINE = 90.0
COMMAND = str(Path(sys.executable).with_name("molecule-runtime"))

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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "molecule_runtime.localplatform", "up", "--port", "0", "--data", str(folder), "--json", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        with anyio.fail_after(DEADLINE):
            started = json.loads(await process.stdout.readline())
        token = (await anyio.Path(started["admin_token_file"]).read_text(encoding="utf-8")).strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=started["url"], headers=headers, trust_env=False, timeout=DEADLINE
        ) as admin:
            yield admin
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True), anyio.move_on_after(DEADLINE):
            await process.wait()


@dataclass
class Member:
    """A workspace on the platform, and its host where it has one."""

    admin: httpx.AsyncClient
    root: Path
    id: str
    token: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list["subprocess.Popen[bytes]"])

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
    async def at_work(self) -> AsyncGenerator[subprocess.Popen[bytes]]:
        """Run the host of this workspace."""
        environ = {
            "WORKSPACE_ID": self.id,
            "WORKSPACE_CONFIG_PATH": str(self.root),
            "CONFIGS_DIR": str(self.root / "state"),
            "PLATFORM_URL": str(self.admin.base_url).rstrip("/"),
            "MOLECULE_WORKSPACE_TOKEN": self.token,
            "MOLECULE_BIND_HOST": "127.0.0.1",
            "MOLECULE_DELIVERY_MODE": "poll",
            "ADAPTER_MODULE": "slow_adapter",
            "PYTHONPATH": str(self.root),
            "HOME": str(self.root),
            "PATH": os.environ["PATH"],
        }
        with (self.root / "stderr.txt").open("ab") as stderr:
            popen = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time that a test would miss
                [COMMAND], env=environ, cwd=self.root, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr
            )
        try:
            yield popen
        finally:
            if popen.poll() is None:
                popen.kill()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(popen.wait)


async def deliver(admin: httpx.AsyncClient, target: Member, text: str, headers: dict[str, str], **fields: Any) -> None:
    message = {"role": "user", "messageId": str(uuid.uuid4()), "parts": [{"kind": "text", "text": text}], **fields}
    body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}
    answer = await admin.post(f"/workspaces/{target.id}/a2a", json=body, headers=headers)
    assert answer.raise_for_status().json()["status"] == "queued", answer.text


async def person_says(target: Member, text: str, **fields: Any) -> None:
    await deliver(target.admin, target, text, headers={}, **fields)


async def team(admin: httpx.AsyncClient, root: Path, *names: str) -> list[Member]:
    """Create workspaces that may talk to each other, all of them with an inbox."""
    parent = (await admin.post("/workspaces", json={"name": "parent", "external": True})).raise_for_status().json()
    members: list[Member] = []
    for name in names:
        body = {"name": name, "external": True, "parent_id": parent["id"]}
        made = (await admin.post("/workspaces", json=body)).raise_for_status().json()
        member = Member(admin, root / name, made["id"], made["connection"]["auth_token"])
        member.root.mkdir()
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        (member.root / "config.yaml").write_text(f"name: {name}\na2a: {{port: {port}}}\n")
        (member.root / "slow_adapter.py").write_text(textwrap.dedent(ADAPTER))
        card = {"id": member.id, "agent_card": {"name": name}, "delivery_mode": "poll"}
        (await admin.post("/registry/register", json=card, headers=member.headers)).raise_for_status()
        members.append(member)
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
