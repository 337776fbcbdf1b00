"""A host that reads its messages from the platform's inbox, against a real `molecule-local`: killed at any time, it loses none."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap
import uuid
from collections import Counter
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

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

DEADLINE = 90.0
COMMAND = str(Path(sys.executable).with_name("molecule-runtime"))
KILLS = 3
MESSAGES = 12

ADAPTER = """
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
                handle.write(turn.text + chr(10))
            if turn.text == "crash":
                import os
                os._exit(9)
            while turn.text.startswith("hold") and not (FOLDER / "go").exists():
                await anyio.sleep(0.02)
            return "done: " + turn.text
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def platform(folder: Path) -> AsyncGenerator[httpx.AsyncClient]:
    """Run `molecule-local`, and yield a client with the admin token."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "molecule_runtime.localplatform", "up", "--port", "0", "--data", str(folder), "--json",
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
        return path.read_text().splitlines() if path.exists() else []

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


async def test_a_person_and_a_peer_are_answered_and_answers_are_not_answered_in_turn(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        host, peer = await team(admin, tmp_path, "host", "peer")
        # Sent before the host ever ran.
        await person_says(host, "hello")
        async with host.at_work(), peer.at_work():

            async def person_is_answered() -> bool:
                return await host.told_the_person() == ["done: hello"]

            await until(person_is_answered, "an answer in the chat", host, peer)
            await peer.send(host, "sum", contextId="c-1", messageId="m-1", metadata={"source_workspace_id": "liar"})

            async def peer_is_answered() -> bool:
                return bool(await peer.told_by(host))

            await until(peer_is_answered, "an answer to the peer", host, peer)
            (answer,) = await peer.told_by(host)
            assert answer["parts"] == [{"kind": "text", "text": "done: sum"}]
            assert answer["contextId"] == "c-1"
            assert answer["metadata"] == {"in_reply_to": "m-1", "source_workspace_id": host.id}
            # The peer's agent hears the answer, and that is the end of it.
            await until(lambda: peer.runs() == ["done: sum"], "the peer hears it", host, peer)
            last = (await peer.rows())[-1]["seq"]

            async def peer_let_go() -> bool:
                return bool(await peer.acknowledged() >= last)

            await until(peer_let_go, "the peer let go of it", host, peer)
            assert host.runs() == ["hello", "sum"]
            assert len(await host.told_by(peer)) == 1
            assert await peer.told_the_person() == []


async def test_a_host_that_is_killed_again_and_again_handles_every_message(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        host, peer = await team(admin, tmp_path, "host", "peer")
        for number in range(MESSAGES):
            await person_says(host, f"hold person {number}", contextId=f"c-{number % 4}")
            await peer.send(host, f"hold peer {number}")
        go = host.root / "go"
        for number in range(KILLS):
            before = len(host.runs())
            async with host.at_work() as process:
                await until(lambda seen=before: len(host.runs()) >= seen + 2, "turns begin", host)  # type: ignore[misc]
                if number == KILLS - 1:
                    # This time some answers leave before the end.
                    go.touch()
                    await until(lambda seen=before: len(host.runs()) >= seen + 8, "turns end", host)  # type: ignore[misc]
                process.kill()
        async with host.at_work() as process:

            async def all_answered() -> bool:
                told = set(await host.told_the_person())
                answers = {message["parts"][0]["text"] for message in await peer.told_by(host)}
                return len(told) >= MESSAGES and len(answers) >= MESSAGES

            await until(all_answered, "an answer to every message", host)

            async def all_let_go() -> bool:
                rows = [row for row in await host.rows() if row["method"] != "notify"]
                return bool(await host.acknowledged() >= rows[-1]["seq"])

            await until(all_let_go, "every row is acknowledged", host)
            process.terminate()
            with anyio.fail_after(DEADLINE):
                assert await anyio.to_thread.run_sync(process.wait) == 0
        told = Counter(await host.told_the_person())
        assert set(told) == {f"done: hold person {number}" for number in range(MESSAGES)}
        answers = Counter(message["messageId"] for message in await peer.told_by(host))
        # A peer that is told twice is told the same message: the platform and its host know it by its id.
        assert len(answers) == MESSAGES
        runs = len(host.runs())
        # Nothing comes again after all of it was let go of.
        await person_says(host, "one more")
        async with host.at_work():

            async def last_is_answered() -> bool:
                return "done: one more" in await host.told_the_person()

            await until(last_is_answered, "an answer to the last message", host)
        assert host.runs()[runs:] == ["one more"]


async def test_a_message_with_which_the_host_ends_each_time_is_given_up_in_the_end(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        (host,) = await team(admin, tmp_path, "host")
        await person_says(host, "crash")
        for _ in range(5):
            async with host.at_work() as process:
                with anyio.fail_after(DEADLINE):
                    assert await anyio.to_thread.run_sync(process.wait) == 9
        await person_says(host, "hello")
        async with host.at_work():

            async def answered() -> bool:
                return "done: hello" in await host.told_the_person()

            await until(answered, "the next message is answered", host)
        assert host.runs() == ["crash"] * 5 + ["hello"]
        assert any("given up" in said for said in await host.told_the_person())


async def test_a_stop_in_the_midst_of_a_turn_leaves_the_message_for_the_next_start(tmp_path: Path) -> None:
    async with platform(tmp_path / "data") as admin:
        (host,) = await team(admin, tmp_path, "host")
        await person_says(host, "hold")
        async with host.at_work() as process:
            await until(lambda: host.runs() == ["hold"], "the turn begins", host)
            process.terminate()
            with anyio.fail_after(DEADLINE):
                assert await anyio.to_thread.run_sync(process.wait) == 0
        assert await host.told_the_person() == []
        (host.root / "go").touch()
        async with host.at_work():

            async def answered() -> bool:
                return await host.told_the_person() == ["done: hold"]

            await until(answered, "it is answered", host)
        assert host.runs() == ["hold", "hold"]
