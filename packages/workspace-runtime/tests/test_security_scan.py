"""The scan of what a skill depends on, with scanners that are programs on PATH."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

scan: Any = importlib.import_module("molecule_runtime.builtin_tools.security_scan")

AUDITED = """{"dependencies": [
    {"name": "jinja2", "version": "2.4", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]},
    {"name": "anyio", "version": "4.9", "vulns": []},
    {"name": "local", "skip_reason": "not on an index"}
]}"""
SNYK: Any = {"vulnerabilities": [{"id": "SNYK-1", "packageName": "jinja2", "version": "2.4", "severity": "low"}]}


@pytest.fixture
def skill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "skill"
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts" / "requirements.txt").write_text("jinja2==2.4\n")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("AUDIT_LOG_PATH", str(tmp_path / "events.jsonl"))
    return folder


def install(skill: Path, name: str, code: int, output: object) -> None:
    """Put a scanner on PATH that writes `output`, and what it was asked."""
    program = skill.parent / "bin" / name
    text = output if isinstance(output, str) else json.dumps(output)
    body = f"import sys; open({str(skill.parent / 'asked')!r}, 'w').write(' '.join(sys.argv[1:])); print({text!r}); sys.exit({code})"
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(0o755)


def events(skill: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (skill.parent / "events.jsonl").read_text().splitlines()]


def test_a_known_hole_is_reported_and_with_block_the_skill_is_refused(skill: Path) -> None:
    install(skill, "pip-audit", 1, AUDITED)
    result = scan.scan_skill_dependencies("tea", skill)
    assert (result.status, result.scanner) == ("vulnerable", "pip-audit")
    assert [(each.package, each.version, each.identifier, each.severity) for each in result.findings] == [
        ("jinja2", "2.4", "PYSEC-1", "high")
    ]
    asked = (skill.parent / "asked").read_text()
    assert asked.endswith(f"--requirement={os.path.join(skill, 'scripts', 'requirements.txt')}")  # noqa: PTH118 - text
    with pytest.raises(scan.SkillSecurityError, match=r"'tea' depends on 1 packages .*jinja2 2\.4 \(PYSEC-1\)"):
        scan.scan_skill_dependencies("tea", skill, "block")
    assert [(row["resource"], row["outcome"]) for row in events(skill)] == [("tea", "vulnerable")] * 2


def test_snyk_is_asked_first_and_a_low_finding_blocks_nothing(skill: Path) -> None:
    install(skill, "pip-audit", 2, "")
    install(skill, "snyk", 1, SNYK)
    result = scan.scan_skill_dependencies("tea", skill, mode="block")
    assert (result.scanner, result.findings[0].severity) == ("snyk", "low")


def test_nothing_to_scan_and_nothing_found_are_told_apart(skill: Path) -> None:
    install(skill, "pip-audit", 0, {"dependencies": []})
    assert scan.scan_skill_dependencies("tea", skill, "block").status == "clean"
    assert scan.scan_skill_dependencies("tea", skill, "off").status == "skipped"
    assert scan.scan_skill_dependencies("empty", skill.parent / "bin", "block").status == "skipped"


@pytest.mark.parametrize(("code", "output"), [(2, ""), (0, "no json"), (1, "[]"), (0, {"other": 1})])
def test_a_scanner_that_does_not_say_lets_nothing_through_where_it_is_to_block(
    skill: Path, code: int, output: object
) -> None:
    install(skill, "pip-audit", code, output)
    assert scan.scan_skill_dependencies("tea", skill).status == "error"
    with pytest.raises(scan.SkillSecurityError, match="could not be looked up: pip-audit failed"):
        scan.scan_skill_dependencies("tea", skill, "block")


def test_without_a_scanner_it_is_the_callers_choice(skill: Path) -> None:
    assert scan.scan_skill_dependencies("tea", skill, "block").status == "skipped"
    with pytest.raises(scan.SkillSecurityError, match="pip install pip-audit"):
        scan.scan_skill_dependencies("tea", skill, "block", fail_open_if_no_scanner=False)


def test_a_scanner_that_hangs_is_ended_with_its_children(skill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SECONDS", 1.0)
    program, pid_file = skill.parent / "bin" / "pip-audit", skill.parent / "pid"
    program.write_text(f"#!/bin/sh\n/bin/sleep 600 &\necho $! > {pid_file}\nwait\n")
    program.chmod(0o755)
    assert "did not end within" in scan.scan_skill_dependencies("tea", skill).detail
    # It may be a zombie until somebody reaps it, and those have no command line.
    process = Path("/proc") / pid_file.read_text().strip() / "cmdline"
    assert not process.exists() or process.read_bytes() == b""


def test_a_scanner_gets_no_credential_of_the_workspace(skill: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLECULE_WORKSPACE_TOKEN", "token-of-ours-0001")
    program, seen = skill.parent / "bin" / "pip-audit", skill.parent / "seen"
    program.write_text(f"#!/bin/sh\nexport > {seen}\necho '{{\"dependencies\": []}}'\n")
    program.chmod(0o755)
    assert scan.scan_skill_dependencies("tea", skill).status == "clean"
    assert "PATH" in seen.read_text()
    assert "token-of-ours" not in seen.read_text()
