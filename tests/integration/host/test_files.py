"""Files, end to end: a `molecule-local` process, a `molecule-runtime` process, and nothing between them but sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

DEADLINE = 60.0

ADAPTER = """
from molecule_runtime.a2a.executor import ReplyExecutor
from molecule_runtime.core.adapter import BaseAdapter


class Adapter(BaseAdapter):
    name = staticmethod(lambda: "files")
    display_name = staticmethod(lambda: "Files")
    description = staticmethod(lambda: "Says which files it was sent.")

    async def setup(self, config):
        pass

    async def create_executor(self, config):
        return ReplyExecutor(self.answer)

    async def answer(self, turn):
        return f"{turn.text}: {[file.uri for file in turn.files]}"

    async def transcript_lines(self, since=0, limit=100):
        return {"runtime": "files", "supported": True, "lines": ["one", "two"][since : since + limit],
                "cursor": since + limit, "more": False, "source": None}
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A platform and a host at work on it, with a child that may ask for what they share."""

    admin: httpx.AsyncClient
    folder: Path
    workspace: str
    token: str
    child: str
    child_token: str
    host: str

    def path(self, route: str) -> str:
        return f"/workspaces/{self.workspace}/{route}"

    def as_child(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.child_token}"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def running(command: list[str], environ: dict[str, str], folder: Path) -> AsyncGenerator[anyio.abc.Process]:
    """Run a module of ours as a process; its log is a file, since a full pipe would stop it."""
    with (folder / f"{command[0].rpartition('.')[2]}.log").open("wb") as log:
        process = await anyio.open_process(
            [sys.executable, "-m", *command], env=environ, cwd=folder, stdin=subprocess.DEVNULL, stderr=log
        )
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(DEADLINE):
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
                with anyio.move_on_after(20):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                await process.aclose()


async def first_line(process: anyio.abc.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = b""
    with anyio.fail_after(DEADLINE):
        while b"\n" not in line:
            line += await process.stdout.receive()
    parsed: dict[str, Any] = json.loads(line.partition(b"\n")[0])
    return parsed


@asynccontextmanager
async def site(folder: Path) -> AsyncGenerator[Site]:
    base = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    (folder / "agent").mkdir()
    (folder / "files_adapter.py").write_text(ADAPTER)
    port = free_port()
    (folder / "agent" / "config.yaml").write_text(f"a2a:\n  port: {port}\nshared_context: [shared.md, .auth_token]\n")
    (folder / "agent" / "shared.md").write_text("what the team shares")
    up = ["molecule_runtime.localplatform", "up", "--port", "0", "--data", str(folder / "platform"), "--json"]
    async with running(up, base, folder) as platform:
        started = await first_line(platform)
        token = (await anyio.Path(started["admin_token_file"]).read_text()).strip()
        async with httpx.AsyncClient(
            base_url=started["url"], headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=DEADLINE
        ) as admin:
            made = (await admin.post("/workspaces", json={"name": "agent", "external": True})).raise_for_status().json()
            child = (
                (await admin.post("/workspaces", json={"name": "child", "external": True, "parent_id": made["id"]}))
                .raise_for_status()
                .json()
            )
            environ = {
                **base,
                "WORKSPACE_ID": made["id"],
                "MOLECULE_WORKSPACE_TOKEN": made["connection"]["auth_token"],
                "WORKSPACE_CONFIG_PATH": str(folder / "agent"),
                # One folder for configuration and state, as in a container: the secrets are where files may be read.
                "CONFIGS_DIR": str(folder / "agent"),
                "PLATFORM_URL": started["url"],
                "MOLECULE_BIND_HOST": "127.0.0.1",
                "ADAPTER_MODULE": "files_adapter",
            }
            async with running(["molecule_runtime.a2a"], environ, folder):
                host = f"http://127.0.0.1:{port}"
                await ready(host, folder)
                yield Site(
                    admin=admin,
                    folder=folder,
                    workspace=made["id"],
                    token=made["connection"]["auth_token"],
                    child=child["id"],
                    child_token=child["connection"]["auth_token"],
                    host=host,
                )


async def ready(host: str, folder: Path) -> None:
    """Wait until a host is ready and knows the platform's secret."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with anyio.move_on_after(DEADLINE):
            while True:
                try:
                    known = (folder / "agent" / ".platform_inbound_secret").exists()
                    if known and (await client.get(f"{host}/ready")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await anyio.sleep(0.05)
    pytest.fail((folder / "a2a.log").read_text())


async def test_files_go_through_the_platform_to_the_agent_and_back(tmp_path: Path) -> None:
    contents = {"notes for you.txt": b"hello", "large.bin": os.urandom(5 * 1024 * 1024), "empty.json": b""}
    async with site(tmp_path) as at:
        sent = await at.admin.post(
            at.path("chat/uploads"), files=[("files", (name, content)) for name, content in contents.items()]
        )
        assert sent.status_code == 200, sent.text
        stored = sent.json()["files"]
        assert [file["size"] for file in stored] == [len(content) for content in contents.values()]
        folder = at.folder / "agent" / "workspace" / ".molecule" / "chat-uploads"
        assert {entry.stat().st_mode & 0o777 for entry in folder.iterdir()} == {0o600}
        for file, content in zip(stored, contents.values(), strict=True):
            path = file["uri"].removeprefix("workspace:")
            got = await at.admin.get(at.path("chat/download"), params={"path": path})
            assert (got.status_code, got.content == content) == (200, True)

        # And a message names it, as the person's page sends it.
        message = {
            "role": "user",
            "messageId": "m-1",
            "parts": [{"kind": "text", "text": "read"}, {"kind": "file", "file": {"uri": stored[0]["uri"]}}],
        }
        body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}
        answer = await at.admin.post(at.path("a2a"), json=body)
        assert stored[0]["uri"] in answer.text

        # The platform gives the agent's refusals on.
        too_large = await at.admin.post(
            at.path("chat/uploads"), files=[("files", ("x", b"x" * (25 * 1024 * 1024 + 1)))]
        )
        assert too_large.status_code == 413
        nothing = await at.admin.post(at.path("chat/uploads"), files=[("other", ("x", b"x"))])
        assert nothing.status_code == 400
        assert len(list(folder.iterdir())) == len(contents)


async def test_what_the_platform_may_not_have_it_does_not_get(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        (at.folder / "outside").mkdir()
        (at.folder / "outside" / "a.txt").write_text("outside")
        (at.folder / "agent" / "link").symlink_to(at.folder / "outside")
        for path, status in (
            ("/configs/shared.md", 200),
            ("/configs/.auth_token", 502),
            ("/configs/.platform_inbound_secret", 502),
            ("/configs/link/a.txt", 404),
            ("/configs/missing", 404),
            ("/home/somebody", 502),
        ):
            got = await at.admin.get(at.path("chat/download"), params={"path": path})
            assert (got.status_code, path) == (status, path)
            assert "outside" not in got.text
        shared = await at.admin.get(f"/workspaces/{at.child}/shared-context", headers=at.as_child())
        assert shared.json() == [{"path": "shared.md", "content": "what the team shares"}]

        # Whoever asks the agent itself is no platform.
        async with httpx.AsyncClient(base_url=at.host, trust_env=False) as direct:
            for headers in ({}, at.as_child()):
                read = await direct.get("/internal/file/read", params={"path": "/configs/shared.md"}, headers=headers)
                assert read.status_code == 401


async def test_the_transcript_comes_through_the_platform_with_the_workspaces_own_token(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        own = {"Authorization": f"Bearer {at.token}"}
        got = await at.admin.get(at.path("transcript"), params={"since": 1, "limit": 5}, headers=own)
        assert (got.status_code, got.json()["lines"]) == (200, ["two"]), got.text
        wrong = await at.admin.get(at.path("transcript"), params={"since": "x"}, headers=own)
        assert wrong.status_code == 400
        # Whoever the platform lets in with another credential, the agent does not.
        assert (await at.admin.get(at.path("transcript"))).status_code == 401
