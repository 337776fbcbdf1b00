"""The scripts that CI runs find what they are for, and say so in their exit status."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .example import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Script = Callable[..., subprocess.CompletedProcess[str]]

# Put together here, so that no line of this file looks like a credential itself.
GITHUB_TOKEN = "ghp_" + "a1B2c3D4e5" * 4
RANDOM = "q7Zk" + "9fX2mVb8Lr4T" * 4
PRIVATE_KEY = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIabc\ndef\n-----END " + "RSA PRIVATE KEY-----\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return an empty repository with one commit."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    write(tmp_path / "README.md", "Nothing to see.\n")
    commit(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    return result.stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "change")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def scan(repository: Path) -> Script:
    return _runner(repository / ".gitea" / "scripts" / "scan_secrets.py")


@pytest.fixture(scope="module")
def check_fragments(repository: Path) -> Script:
    return _runner(repository / ".gitea" / "scripts" / "check_fragments.py")


def _runner(script: Path) -> Script:
    def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", script, "--root", root, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


# --- scan_secrets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (GITHUB_TOKEN, "github_pat"),
        (f"GITHUB_TOKEN={GITHUB_TOKEN}", "github_pat"),
        (f'{{"token": "{GITHUB_TOKEN}"}}', "github_pat"),
        (f"Authorization: Bearer {GITHUB_TOKEN}", "github_pat"),
        (f"MOLECULE_WORKSPACE_TOKEN={RANDOM}", "env_assignment"),
        (f'{{"auth_token": "{RANDOM}"}}', "json_secret"),
        ("AWS = 'AKIA" + "ABCDEFGHIJKLMNOP'", "aws_access_key"),
    ],
)
def test_a_committed_credential_is_reported_by_place_and_kind_but_not_shown(
    line: str, kind: str, clone: Path, scan: Script
) -> None:
    write(clone / "src" / "settings.txt", f"first line\n{line}\n")
    commit(clone)
    result = scan(clone)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"src/settings.txt:2: {kind}" in result.stdout
    assert GITHUB_TOKEN not in result.stdout + result.stderr
    assert RANDOM not in result.stdout + result.stderr


def test_a_private_key_is_reported_at_the_line_where_it_begins(clone: Path, scan: Script) -> None:
    write(clone / "key.pem", f"some text\n\n{PRIVATE_KEY}")
    commit(clone)
    result = scan(clone)
    assert result.returncode == 1
    assert "key.pem:3: private_key" in result.stdout


@pytest.mark.parametrize(
    "line",
    [
        "WORKSPACE_TOKEN=tok-workspace-1",
        '{"token": "tok-workspace-1"}',
        "send it as Bearer credentials",
        f"sha256 = {RANDOM}",
        "commit 11bd71901bbe5b1630ceea73d27597364c9af683",
        f"{GITHUB_TOKEN}  # secret-scan: allow (not a real token)",
    ],
)
def test_what_is_not_a_credential_or_is_waived_is_not_reported(line: str, clone: Path, scan: Script) -> None:
    write(clone / "notes.txt", f"{line}\n")
    commit(clone)
    result = scan(clone)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("0 credential-shaped strings in ")


def test_a_waiver_covers_its_own_line_only(clone: Path, scan: Script) -> None:
    write(clone / "notes.txt", f"{GITHUB_TOKEN} secret-scan: allow\n{GITHUB_TOKEN}\n")
    commit(clone)
    result = scan(clone)
    assert "notes.txt:2: github_pat" in result.stdout
    assert "notes.txt:1:" not in result.stdout


def test_an_untracked_file_is_not_scanned(clone: Path, scan: Script) -> None:
    write(clone / "notes.txt", GITHUB_TOKEN)
    assert scan(clone).returncode == 0


def test_a_scan_against_a_base_reports_only_what_was_added(clone: Path, scan: Script) -> None:
    write(clone / "old.txt", f"{GITHUB_TOKEN}\n")
    base = commit(clone)
    # A line of content that looks like a header of the diff must not move the place.
    write(clone / "new file.txt", f"++ b/elsewhere.txt\nplain\n{GITHUB_TOKEN}\n")
    (clone / "old.txt").unlink()
    commit(clone)
    result = scan(clone, "--base", base)
    assert result.returncode == 1
    assert result.stdout.splitlines()[0] == "new file.txt:3: github_pat"
    assert "old.txt" not in result.stdout


def test_a_scan_against_a_base_ignores_what_the_base_gained_meanwhile(clone: Path, scan: Script) -> None:
    git(clone, "checkout", "--quiet", "-b", "feature")
    write(clone / "feature.txt", "plain\n")
    commit(clone)
    git(clone, "checkout", "--quiet", "main")
    write(clone / "main.txt", f"{GITHUB_TOKEN}\n")
    commit(clone)
    git(clone, "checkout", "--quiet", "feature")
    assert scan(clone, "--base", "main").returncode == 0


def test_a_scan_that_cannot_run_is_an_error_and_not_a_pass(clone: Path, tmp_path: Path, scan: Script) -> None:
    assert scan(clone, "--base", "no-such-revision").returncode == 2
    assert scan(tmp_path / "nowhere").returncode == 2
    git(clone, "rm", "--quiet", "README.md")
    assert scan(clone).returncode == 2


@pytest.mark.parametrize("script", ["scan", "check_fragments"])
def test_help_explains_the_script(script: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    runner: Script = request.getfixturevalue(script)
    result = runner(tmp_path, "--help")
    assert result.returncode == 0
    assert "--base REV" in result.stdout


def test_the_scan_holds_no_patterns_of_its_own(repository: Path) -> None:
    source = (repository / ".gitea" / "scripts" / "scan_secrets.py").read_text(encoding="utf-8")
    assert "from molecule_runtime.core.redaction import redact" in source
    assert source.count("re.compile(") == 2, "one splits words, one reads diff headers"


# --- check_fragments ---------------------------------------------------------------------------------------------------


@pytest.fixture
def members(clone: Path) -> Path:
    """Return a repository with two members, each with a good fragment."""
    for name in ("one", "two"):
        write(clone / "packages" / name / "pyproject.toml", f'[project]\nname = "dist-{name}"\n')
        write(clone / "packages" / name / "src" / "x.py", "")
        write(clone / "packages" / name / "changes" / "1.added.md", f"`dist-{name}`: first version.\n")
    commit(clone)
    return clone


def test_well_named_fragments_pass(members: Path, check_fragments: Script) -> None:
    write(members / "packages" / "one" / "changes" / "12.security.1.md", "`dist-one`: fixed a hole.\n")
    write(members / "packages" / "two" / "changes" / ".gitkeep", "")
    result = check_fragments(members)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("name", "text", "report"),
    [
        ("2.feature.md", "`dist-one`: new.\n", "the name is not"),
        ("added.md", "`dist-one`: new.\n", "the name is not"),
        ("2.added", "`dist-one`: new.\n", "the name is not"),
        ("2.added.md", "New.\n", "does not begin with `dist-one`"),
        ("2.added.md", "`dist-two`: new.\n", "does not begin with `dist-one`"),
    ],
)
def test_a_fragment_that_would_get_lost_is_reported(
    name: str, text: str, report: str, members: Path, check_fragments: Script
) -> None:
    write(members / "packages" / "one" / "changes" / name, text)
    result = check_fragments(members)
    assert result.returncode == 1
    assert f"packages/one/changes/{name}" in result.stdout
    assert report in result.stdout


def test_a_member_that_changed_without_a_fragment_is_reported(members: Path, check_fragments: Script) -> None:
    base = git(members, "rev-parse", "HEAD")
    write(members / "packages" / "one" / "src" / "x.py", "changed = True\n")
    write(members / "packages" / "two" / "tests" / "test_x.py", "")
    commit(members)
    result = check_fragments(members, "--base", base)
    assert result.returncode == 1
    assert "packages/one: changed, but has no new fragment" in result.stdout
    assert "packages/two" not in result.stdout


@pytest.mark.parametrize("told", ["changes/2.fixed.md", "CHANGELOG.md"])
def test_a_member_that_changed_and_says_so_passes(told: str, members: Path, check_fragments: Script) -> None:
    base = git(members, "rev-parse", "HEAD")
    write(members / "packages" / "one" / "src" / "x.py", "changed = True\n")
    write(members / "packages" / "one" / told, "`dist-one`: mended.\n")
    commit(members)
    result = check_fragments(members, "--base", base)
    assert result.returncode == 0, result.stdout


def test_a_check_that_cannot_run_is_an_error_and_not_a_pass(
    members: Path, tmp_path: Path, check_fragments: Script
) -> None:
    assert check_fragments(members, "--base", "no-such-revision").returncode == 2
    assert check_fragments(tmp_path / "nowhere").returncode == 2
