"""The file of workspaces beside the variables."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from molecule_runtime.core.errors import TargetError
from molecule_runtime.core.targets import (
    examine_targets,
    fingerprint,
    missing_variables,
    resolve_targets,
    resolve_workspaces,
    workspaces_file,
)

SECRET = "Secret0fW0rkspaceOne"  # noqa: S105 - made up
URL = "https://acme.example.com"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "workspaces.json"


@pytest.fixture
def environ(tmp_path: Path, path: Path) -> dict[str, str]:
    return {"CONFIGS_DIR": str(tmp_path / "configs"), "MOLECULE_WORKSPACES_FILE": str(path)}


def write(path: Path, content: object, mode: int = 0o600) -> None:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)


def entry(identifier: str, **more: Any) -> dict[str, Any]:
    return {"id": identifier, "token": SECRET, "platform_url": URL, **more}


def errors_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(TargetError) as caught:
        resolve_targets(environ)
    assert SECRET not in str(caught.value)
    return caught.value.errors


def test_a_file_alone_is_enough(environ: dict[str, str], path: Path) -> None:
    write(path, [entry("ws-1"), entry("ws-2", platform_url="https://other.example.com")])
    found = [(target.id, target.platform_url, target.source) for target in resolve_targets(environ)]
    assert found == [("ws-1", URL, f"{path}[0]"), ("ws-2", "https://other.example.com", f"{path}[1]")]
    assert missing_variables(environ) == []


@pytest.mark.parametrize(
    "beside",
    [
        {"WORKSPACE_ID": "ws-0", "MOLECULE_WORKSPACE_TOKEN": SECRET},
        {"MOLECULE_WORKSPACES": json.dumps([entry("ws-0")]), "WORKSPACE_ID": "NOT VALID"},
    ],
)
def test_its_workspaces_come_after_those_of_the_environment(
    environ: dict[str, str], path: Path, beside: dict[str, str]
) -> None:
    write(path, [entry("ws-1", platform_url=None)])
    environ |= beside | {"PLATFORM_URL": URL}
    assert [target.id for target in resolve_targets(environ)] == ["ws-0", "ws-1"]
    assert resolve_workspaces(environ)[0] == [
        ("ws-0", SECRET, URL if "MOLECULE_WORKSPACES" in beside else ""),
        ("ws-1", SECRET, ""),
    ]


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN": SECRET, "PLATFORM_URL": URL}, "WORKSPACE_ID"),
        ({"MOLECULE_WORKSPACES": json.dumps([entry("ws-1")])}, "MOLECULE_WORKSPACES[0]"),
    ],
)
def test_a_workspace_that_both_give_is_refused_and_both_are_named(
    environ: dict[str, str], path: Path, beside: dict[str, str], named: str
) -> None:
    write(path, [entry("ws-0"), entry("ws-1")])
    (error,) = errors_of(environ | beside)
    assert f"'ws-1' is given by {named} and by {path}[1]" in error


def test_a_workspace_that_stands_twice_in_the_file_is_refused(environ: dict[str, str], path: Path) -> None:
    write(path, [entry("ws-1"), entry("ws-1")])
    (error,) = errors_of(environ)
    assert error.startswith(f"{path}[1] duplicate workspace id 'ws-1', already given at [0]")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_that_is_open_to_others_is_refused_with_the_remedy(
    environ: dict[str, str], path: Path, mode: int
) -> None:
    write(path, [entry("ws-1")], mode)
    (error,) = errors_of(environ)
    assert f"mode {mode:04o}" in error
    assert f"chmod 600 {str(path)!r}" in error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"id": "ws-1", "tok', "is not valid JSON"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe[]", "is not UTF-8 text"),
        (b'{"id": "ws-1"}', "must be a JSON array"),
        (b"[" * 100_000, "is nested too deeply"),
        ([entry("ws-1"), {"id": "ws-2"}], "[1] missing 'id' or 'token'"),
        ([{"id": "ws-1", "token_file": "missing", "platform_url": URL}], "[0] token_file"),
        ([{"id": "ws-1", "token": SECRET, "url": URL}], "[0] unknown key 'url'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(
    environ: dict[str, str], path: Path, content: object, expected: str
) -> None:
    write(path, content)
    errors = errors_of(environ)
    assert any(str(path) in error and expected in error for error in errors), errors


def test_a_file_that_is_missing_a_folder_or_a_pipe_is_refused(environ: dict[str, str], path: Path) -> None:
    assert "not found" in errors_of(environ)[0]
    path.mkdir()
    assert str(path) in errors_of(environ)[0]
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "is not a regular file" in errors_of(environ)[0]


def test_a_huge_file_is_refused_without_reading_it_whole(environ: dict[str, str], path: Path) -> None:
    with path.open("wb") as handle:
        handle.truncate(1 << 40)
    path.chmod(0o600)
    assert "is larger than" in errors_of(environ)[0]


def test_token_files_are_looked_for_beside_it(environ: dict[str, str], path: Path) -> None:
    (path.parent / "tokens").mkdir()
    (path.parent / "tokens" / "one").write_text(SECRET, encoding="utf-8")
    write(path, [{"id": "ws-1", "token_file": "tokens/one", "platform_url": URL}])
    (target,) = resolve_targets(environ)
    assert target.token.read() == SECRET


def test_an_empty_list_is_a_list(environ: dict[str, str], path: Path) -> None:
    write(path, [])
    assert resolve_targets(environ) == []


def test_an_examination_shows_the_good_beside_the_bad(environ: dict[str, str], path: Path) -> None:
    write(path, [entry("ws-1"), {"id": "ws-2"}, entry("ws-3", platform_url="ftp://x")])
    found = examine_targets(environ)
    assert [target.id for target in found.targets] == ["ws-1"]
    assert len(found.errors) == 2


def test_only_what_makes_a_difference_makes_a_target_different(environ: dict[str, str], path: Path) -> None:
    write(path, [entry("ws-1"), entry("ws-2")])
    first = resolve_targets(environ)
    write(path, [entry("ws-2"), entry("ws-1", token="another-token")])  # noqa: S106 - made up
    second: dict[str, object] = {target.id: target for target in resolve_targets(environ)}
    assert second["ws-2"] == first[1]
    assert second["ws-1"] != first[0]


def test_a_change_shows_without_opening_the_file(environ: dict[str, str], path: Path) -> None:
    assert workspaces_file(environ) == path
    assert workspaces_file({}) is None
    assert fingerprint(path) is None
    write(path, [])
    first = fingerprint(path)
    assert first == fingerprint(path)
    replacement = path.with_suffix(".new")
    write(replacement, [])
    replacement.replace(path)
    assert fingerprint(path) not in {first, None}
    second = fingerprint(path)
    path.chmod(0o640)
    assert fingerprint(path) != second
