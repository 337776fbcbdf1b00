from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.skills import SkillError, SkillFormatError, SkillUnreadableError, discover, read_skill
from molecule_runtime.skills.loader import MAX_SKILL_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def add(skills_dir: Path, name: str, text: str | bytes) -> Path:
    folder = skills_dir / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


GOOD = "---\nname: report\ndescription: Write the weekly report.\n---\n# Report\n\nBegin with the numbers.\n"


def test_a_skill_has_its_name_description_folder_and_instructions(tmp_path: Path) -> None:
    folder = add(tmp_path, "report", GOOD)
    (skill,) = discover(tmp_path)
    assert (skill.id, skill.name, skill.description) == ("report", "report", "Write the weekly report.")
    assert skill.path == folder
    assert skill.instructions == "# Report\n\nBegin with the numbers."
    assert skill.tags == skill.examples == ()
    assert skill.suits("anything")


def test_skills_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        add(tmp_path, name, GOOD)
    assert [skill.id for skill in discover(tmp_path)] == ["a", "b", "c"]


def test_known_keys_are_typed_and_unknown_keys_are_kept(tmp_path: Path) -> None:
    add(
        tmp_path,
        "medo-tools",
        "---\nname: MeDo Tools\ndescription: >\n  Folded\n  text.\ntags: [build, ship]\nexamples:\n- Make a page\n"
        "runtime: langgraph\nlicense: MIT\nmetadata:\n  openclaw: {emoji: x}\n---\nbody",
    )
    (skill,) = discover(tmp_path)
    assert (skill.name, skill.description) == ("MeDo Tools", "Folded text.")
    assert (skill.tags, skill.examples, skill.runtimes) == (("build", "ship"), ("Make a page",), ("langgraph",))
    assert skill.frontmatter["license"] == "MIT"
    assert skill.frontmatter["metadata"] == {"openclaw": {"emoji": "x"}}


def test_a_skill_without_frontmatter_takes_its_name_from_the_folder(tmp_path: Path) -> None:
    add(tmp_path, "triage-operator", "\n## Triage operator\n\nLook at new issues.\n")
    (skill,) = discover(tmp_path)
    assert (skill.name, skill.description) == ("triage-operator", "Triage operator")
    assert skill.instructions.startswith("## Triage operator")


def test_an_empty_skill_file_is_a_skill_without_description(tmp_path: Path) -> None:
    add(tmp_path, "empty", "")
    (skill,) = discover(tmp_path)
    assert (skill.name, skill.description, skill.instructions) == ("empty", "", "")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("weekly report.", "weekly report. --- And more."),
        GOOD.replace("weekly report.", "weekly report.\nnote: |\n  a\n  --- b"),
    ],
    ids=["byte order mark", "Windows line ends", "dashes in a value", "dashes in a block"],
)
def test_frontmatter_is_found_however_an_editor_wrote_it(text: str, tmp_path: Path) -> None:
    add(tmp_path, "report", text)
    (skill,) = discover(tmp_path)
    assert skill.name == "report"
    assert skill.description.startswith("Write the weekly report.")
    assert "Begin with the numbers." in skill.instructions


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("---\nname: [\n---\n", "not YAML"),
        ("---\ndate: 2026-13-45\n---\n", "not YAML"),
        ("---\n" + "[" * 5000 + "\n---\n", "not YAML"),
        ("---\nname: !!python/object/apply:os.getcwd []\ndescription: x\n---\n", "not YAML"),
        ("---\n- a\n- b\n---\n", "not a mapping"),
        ("---\n---\n", "not a mapping"),
        ("---\nname: x\ndescription: y\n", "no closing"),
        ("---\ndescription: y\n---\n", "'name' is missing"),
        ("---\nname: x\n---\n", "'description' is missing"),
        ("---\nname: ''\ndescription: y\n---\n", "'name' is empty"),
        ("---\nname: 7\ndescription: y\n---\n", "'name' is 7"),
        ("---\nname: " + "x" * 65 + "\ndescription: y\n---\n", "65 characters"),
        ("---\nname: x\ndescription: " + "y" * 1025 + "\n---\n", "1025 characters"),
        ("---\nname: x\ndescription: y\ntags: {a: b}\n---\n", "'tags' is"),
        ("---\nname: x\ndescription: y\nruntime: [1]\n---\n", "'runtime' is"),
    ],
)
def test_a_broken_frontmatter_is_an_error_with_the_reason(text: str, reason: str, tmp_path: Path) -> None:
    add(tmp_path, "broken", text)
    found = discover(tmp_path)
    assert found == []
    (error,) = found.errors
    assert isinstance(error, SkillFormatError)
    assert (error.skill, error.path) == ("broken", tmp_path / "broken" / "SKILL.md")
    assert reason in error.reason
    assert "\n" not in str(error)


def test_one_bad_skill_never_hides_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path, "a-good", GOOD)
    add(tmp_path, "b-latin", b"---\nname: caf\xe9\ndescription: x\n---\n")
    add(tmp_path, "c-huge", b"x" * (MAX_SKILL_BYTES + 1))
    (tmp_path / "d-folder" / "SKILL.md").mkdir(parents=True)
    (tmp_path / "e-dangling").mkdir()
    (tmp_path / "e-dangling" / "SKILL.md").symlink_to(tmp_path / "nowhere")
    add(tmp_path, "f-good", GOOD)
    with caplog.at_level(logging.WARNING):
        found = discover(tmp_path)
    assert [skill.id for skill in found] == ["a-good", "f-good"]
    assert [error.skill for error in found.errors] == ["b-latin", "c-huge", "d-folder", "e-dangling"]
    assert all(isinstance(error, SkillUnreadableError) for error in found.errors)
    assert len(caplog.records) == 4


def test_files_hidden_folders_and_folders_without_a_skill_file_are_not_skills(tmp_path: Path) -> None:
    add(tmp_path, ".git", GOOD)
    (tmp_path / "drafts").mkdir()
    (tmp_path / "SKILL.md").write_text(GOOD, encoding="utf-8")
    found = discover(tmp_path)
    assert (found, found.errors) == ([], ())


def test_a_missing_skills_folder_holds_no_skill(tmp_path: Path) -> None:
    assert discover(tmp_path / "skills") == []


def test_skills_of_other_runtimes_are_left_out_when_a_runtime_is_named(tmp_path: Path) -> None:
    add(tmp_path, "any", GOOD)
    add(tmp_path, "both", GOOD.replace("---\n#", "runtime: [langgraph, claude-code]\n---\n#"))
    add(tmp_path, "other", GOOD.replace("---\n#", "runtime: hermes\n---\n#"))
    add(tmp_path, "star", GOOD.replace("---\n#", "runtime: '*'\n---\n#"))
    assert [skill.id for skill in discover(tmp_path, runtime="claude-code")] == ["any", "both", "star"]
    assert len(discover(tmp_path)) == 4


def test_reading_one_skill_raises_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(SkillUnreadableError) as caught:
        read_skill(tmp_path / "nowhere")
    assert isinstance(caught.value, SkillError)
    assert isinstance(caught.value, MoleculeError)


def test_scripts_of_a_skill_are_never_run(tmp_path: Path) -> None:
    folder = add(tmp_path, "report", GOOD)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "tool.py").write_text("raise SystemExit('ran')\n", encoding="utf-8")
    assert len(discover(tmp_path)) == 1
