"""AGENTS.md: what it says, and whose file it is."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.a2a import agents_md

from .support import ready, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .support import Workspace

pytestmark = pytest.mark.anyio

CONFIG = """
    name: Ada
    role: Engineer
    description: Writes code. API_KEY=sk-not-for-anybodys-eyes-1234  # secret-scan: allow, made up
    tools: [deploy]
    mcp_servers:
      - name: browser
        command: browse
"""


async def test_a_workspace_is_described_where_its_agent_works_and_only_while_nobody_edited_it(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(config=CONFIG)
    folder = workspace.state / "workspace"
    async with serving(workspace):
        await ready(workspace)
    # It makes no folder of its own.
    assert not folder.exists()
    folder.mkdir(parents=True)
    path = folder / "AGENTS.md"
    async with serving(workspace):
        await ready(workspace)
        text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for part in ("# Ada\n", "**Role:** Engineer\n", f"\n{workspace.url}\n", "- deploy\n", "- browser\n", "## Skills\n"):
        assert part in text
    assert "sk-not" not in text
    # Its own file is brought up to date; one that somebody edited is theirs.
    config = workspace.root / "configs" / "config.yaml"
    config.write_text(config.read_text().replace("Engineer", "Architect"))
    async with serving(workspace):
        await ready(workspace)
    assert "**Role:** Architect\n" in path.read_text()
    edited = path.read_text() + "Be kind.\n"
    path.write_text(edited)
    config.write_text(config.read_text().replace("Architect", "Manager"))
    async with serving(workspace):
        await ready(workspace)
    assert path.read_text() == edited


def test_a_file_of_somebody_else_and_a_link_are_left_alone_and_a_failure_only_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = agents_md.AgentFacts(name="", role="", description="", url="http://127.0.0.1:1")
    path = tmp_path / "AGENTS.md"
    for content in (b"# Our repository\n", b"", b"\xff\xfe", agents_md.render(facts).encode() + b"x"):
        path.write_bytes(content)
        assert not agents_md.write(tmp_path, facts)
        assert path.read_bytes() == content
    path.unlink()
    elsewhere = tmp_path / "CLAUDE.md"
    path.symlink_to(elsewhere)
    assert not agents_md.write(tmp_path, facts)
    assert not elsewhere.exists()
    path.unlink()
    path.mkdir()
    assert not agents_md.write(tmp_path, facts)
    path.rmdir()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(agents_md, "write_private", refuse)
        assert not agents_md.write(tmp_path, facts)
    assert "AGENTS.md cannot be written: Permission denied" in caplog.text
    assert agents_md.write(tmp_path, facts)
    assert agents_md.write(tmp_path, facts)
    assert "# Agent\n" in path.read_text()
