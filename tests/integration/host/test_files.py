"""Files, end to end: a `molecule-local` process, a `molecule-runtime` process, and nothing between them but sockets."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from .members import Member, member, platform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

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

    agent: Member
    child: Member

    @property
    def admin(self) -> httpx.AsyncClient:
        return self.agent.admin

    @property
    def folder(self) -> Path:
        return self.agent.root

    def path(self, route: str) -> str:
        return f"/workspaces/{self.agent.id}/{route}"


@asynccontextmanager
async def site(folder: Path) -> AsyncGenerator[Site]:
    async with platform(folder / "platform") as admin:
        # One folder for configuration and state, as in a container: the secrets are where files may be read.
        agent = await member(
            admin,
            folder / "agent",
            adapter=ADAPTER,
            delivery="push",
            state=folder / "agent",
            config="shared_context: [shared.md, .auth_token]\n",
        )
        (agent.root / "shared.md").write_text("what the team shares")
        child = await member(admin, folder / "child", parent=agent.id)
        async with agent.at_work():
            await agent.ready()
            yield Site(agent=agent, child=child)


async def test_files_go_through_the_platform_to_the_agent_and_back(tmp_path: Path) -> None:
    contents = {"notes for you.txt": b"hello", "large.bin": os.urandom(5 * 1024 * 1024), "empty.json": b""}
    async with site(tmp_path) as at:
        sent = await at.admin.post(
            at.path("chat/uploads"), files=[("files", (name, content)) for name, content in contents.items()]
        )
        assert sent.status_code == 200, sent.text
        stored = sent.json()["files"]
        assert [file["size"] for file in stored] == [len(content) for content in contents.values()]
        folder = at.folder / "workspace" / ".molecule" / "chat-uploads"
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
        outside = at.folder.parent / "outside"
        outside.mkdir()
        (outside / "a.txt").write_text("outside")
        (at.folder / "link").symlink_to(outside)
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
        shared = await at.admin.get(f"/workspaces/{at.child.id}/shared-context", headers=at.child.headers)
        assert shared.json() == [{"path": "shared.md", "content": "what the team shares"}]

        # Whoever asks the agent itself is no platform.
        async with httpx.AsyncClient(base_url=at.agent.url, trust_env=False) as direct:
            for headers in ({}, at.child.headers):
                read = await direct.get("/internal/file/read", params={"path": "/configs/shared.md"}, headers=headers)
                assert read.status_code == 401


async def test_the_transcript_comes_through_the_platform_with_the_workspaces_own_token(tmp_path: Path) -> None:
    async with site(tmp_path) as at:
        own = at.agent.headers
        got = await at.admin.get(at.path("transcript"), params={"since": 1, "limit": 5}, headers=own)
        assert (got.status_code, got.json()["lines"]) == (200, ["two"]), got.text
        wrong = await at.admin.get(at.path("transcript"), params={"since": "x"}, headers=own)
        assert wrong.status_code == 400
        # Whoever the platform lets in with another credential, the agent does not.
        assert (await at.admin.get(at.path("transcript"))).status_code == 401
