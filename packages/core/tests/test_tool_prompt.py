"""What a system prompt says about the tools. A change of wording is a change of the golden files, which somebody reviews.

They are written by `uv run python -m molecule_runtime.core.registry.prompt packages/core/tests/golden/tools`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core.adapter.prompt import assemble
from molecule_runtime.core.registry import MEMORY_SECTION, TOOLS, prompt, tool_names

if TYPE_CHECKING:
    import pytest

GOLDEN = Path(__file__).parent / "golden" / "tools"
SECTIONS = prompt.tool_sections()


def test_the_sections_are_those_of_the_golden_files() -> None:
    assert {path.stem: path.read_text(encoding="utf-8") for path in GOLDEN.glob("*.md")} == {
        name: f"{text}\n" for name, text in SECTIONS.items()
    }


def test_every_tool_is_named_first_and_explained_once() -> None:
    for spec in TOOLS:
        assert f"`{spec.name}`" in SECTIONS[prompt.CAPABILITIES]
        explained = [name for name, text in SECTIONS.items() if f"- `{spec.name}`: {spec.when_to_use}" in text]
        assert explained == [spec.section]


def test_only_tools_that_exist_are_named_and_in_a_part_only_those_that_the_agent_has() -> None:
    known = {*tool_names(), *(name for spec in TOOLS for name in spec.input_schema["properties"])}
    mentioned = set(re.findall(r"`([a-z]+_[a-z_]+)`", "\n".join(SECTIONS.values())))
    assert mentioned - known == set()
    part = prompt.tool_sections({"recall_memory", "no_tool_of_ours"})
    assert list(part) == [prompt.CAPABILITIES, MEMORY_SECTION]
    assert "commit_memory" not in "\n".join(part.values())
    assert "send_message_to_user" not in part[prompt.CAPABILITIES]
    assert prompt.tool_sections(()) == {}


def test_all_of_it_takes_less_than_three_thousand_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    assert prompt.main([]) == 0
    *sections, whole = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in sections] == list(SECTIONS)
    assert int(whole.split()[-2]) == prompt.estimated_tokens("\n\n".join(SECTIONS.values())) < 3000


def test_the_golden_files_are_written_by_the_command(tmp_path: Path) -> None:
    assert prompt.main([str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in GOLDEN.iterdir())


def test_a_workspaces_prompt_explains_the_tools_that_it_has_before_its_peers(tmp_path: Path) -> None:
    peers = [{"id": "ws-2", "agent_card": {"name": "Two"}}]
    text = assemble(str(tmp_path), peers=peers, tool_names=["delegate_task"]).text
    marks = ("## Your Team and Your Tools", "- `delegate_task`: ", "DELEGATION FAILED", "## Your Peers", "## Handling")
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "## Your Memory" not in text
    assert "## Your Team and Your Tools" not in assemble(str(tmp_path), peers=peers).text
