"""Tools through the official client and a real process: memory, files, and the goal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.core import untrusted

from .processes import SECONDS, one, session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.tenants import Tenant

pytestmark = pytest.mark.anyio


async def test_a_client_remembers_sends_a_file_of_its_folder_and_keeps_a_goal(acme: Tenant, tmp_path: Path) -> None:
    _, ours = await acme.family()
    await acme.register(ours)
    folder = anyio.Path(tmp_path / "out")
    await folder.mkdir()
    await (folder / "report.csv").write_text("a,b\n")
    where = one(tmp_path / "p", acme.url, ours, MOLECULE_FILES_DIR=str(folder))
    with anyio.fail_after(SECONDS):
        async with session(where) as mcp, acme.platform.bus.subscribe() as frames:
            kept = await mcp.json("commit_memory", content="the user likes tea", source="user")
            await mcp.json("commit_memory", content="tea is bad", source="peer 7")
            recalled = await mcp.text("recall_memory", query="tea")
            assert f"[LOCAL] the user likes tea (id: {kept['id']})" in recalled.splitlines()
            assert [block.content for block in untrusted.parse(recalled)] == ["tea is bad"]
            # Tier 1 where nobody says another.
            refused = await mcp.call("commit_memory", content="x", scope="GLOBAL")
            assert refused.is_error

            said = await mcp.text("send_message_to_user", message="here", attachments=["report.csv"])
            assert said == "Message sent to user with 1 attachment"
            frame = await anext(frames)
            while frame.event != "AGENT_MESSAGE":
                frame = await anext(frames)
            [file] = frame.payload["attachments"]
            assert (file["name"], file["mimeType"], file["size"]) == ("report.csv", "text/csv", 4)

            await mcp.json("goal_set", goal="ship it")
            assert (await mcp.json("goal_get"))["goal"] == "ship it"
    assert await anyio.Path(where.state / "work.db").exists()
