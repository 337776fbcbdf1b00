"""Which workspaces a process serves."""

import itertools
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from molecule_runtime.core.errors import TargetError
from molecule_runtime.core.targets import (
    missing_variables,
    org_id_of,
    print_missing_env_help,
    read_token_file,
    resolve_target_for_adapter,
    resolve_targets,
    resolve_workspaces,
)

SECRET = "Secret0fW0rkspaceOne"  # noqa: S105 - made up
OTHER = "Secret0fW0rkspaceTwo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "configs"


@pytest.fixture
def base(folder: Path) -> dict[str, str]:
    """An environment that keeps to the test's own folder."""
    return {"CONFIGS_DIR": str(folder)}


def many(*entries: object) -> dict[str, str]:
    return {"MOLECULE_WORKSPACES": json.dumps(entries)}


def entry(identifier: str = "ws-1", token: str = SECRET, **more: Any) -> dict[str, Any]:
    return {"id": identifier, "token": token, **more}


def errors_of(environ: dict[str, str]) -> list[str]:
    workspaces, errors = resolve_workspaces(environ)
    assert workspaces == []
    assert errors
    with pytest.raises(TargetError) as caught:
        resolve_targets(environ | {"PLATFORM_URL": "https://acme.example.com"})
    assert caught.value.errors == errors
    return errors


# The array


def test_the_array_gives_every_workspace_with_its_own_platform(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{OTHER}\n", encoding="utf-8")
    environ = many(
        entry(platform_url="https://acme.example.com/"),
        {"id": " ws-2 ", "token_file": str(tmp_path / "token")},
        entry("ws-3", token=f" {SECRET} ", platform_url=None, note="unknown keys that resemble nothing are left alone"),
    )
    assert resolve_workspaces(environ) == (
        [("ws-1", SECRET, "https://acme.example.com"), ("ws-2", OTHER, ""), ("ws-3", SECRET, "")],
        [],
    )


def test_the_array_wins_outright_over_the_single_variables(base: dict[str, str]) -> None:
    single = base | {
        "WORKSPACE_ID": "NOT VALID",
        "MOLECULE_WORKSPACE_TOKEN": "x",
        "MOLECULE_WORKSPACE_TOKEN_FILE": "/x",
    }
    assert resolve_workspaces(single | many(entry())) == ([("ws-1", SECRET, "")], [])


def test_a_blank_array_counts_as_absent(base: dict[str, str]) -> None:
    environ = base | {"MOLECULE_WORKSPACES": " \n", "WORKSPACE_ID": "ws-9", "MOLECULE_WORKSPACE_TOKEN": SECRET}
    assert resolve_workspaces(environ) == ([("ws-9", SECRET, "")], [])


def test_values_are_coerced_to_stripped_text() -> None:
    assert resolve_workspaces(many({"id": 42, "token": 12345678})) == ([("42", "12345678", "")], [])


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({}, "missing 'id' or 'token'"),
        ({"id": "ws-1"}, "missing 'id' or 'token'"),
        ({"token": SECRET}, "missing 'id' or 'token'"),
        ({"id": " ", "token": " "}, "missing 'id' or 'token'"),
        ({"id": None, "token": None}, "missing 'id' or 'token'"),
        ("ws-1", "not str"),
        (7, "not int"),
        (None, "not NoneType"),
        ([], "not list"),
        ({"id": ["ws-1"], "token": SECRET}, "'id' must be a string, not list"),
        ({"id": "ws-1", "token": {"value": SECRET}}, "'token' must be a string, not dict"),
        ({"id": "ws-1", "token": True}, "'token' must be a string, not bool"),
        ({"id": "Ws-1", "token": SECRET}, "not valid"),
        ({"id": "ws/1", "token": SECRET}, "not valid"),
        ({"id": "ws-1", "token": SECRET, "platform_url": "acme.example.com"}, "platform_url"),
        ({"id": "ws-1", "token": SECRET, "platform_url": f"https://u:{SECRET}@acme.example.com"}, "platform_url"),
        ({"id": "ws-1", "token": SECRET, "token_file": "/x"}, "both 'token' and 'token_file'"),
        ({"id": "ws-1", "token_file": "/no/such/file"}, "'/no/such/file' not found"),
        ({"id": "ws-1", "token_file": "/"}, "regular file"),
        ({"id": "ws-1", "token_file": "~no-such-user/token"}, "not found"),
        ({"id": "ws-1", "token_file": "a\x00b"}, "token_file"),
        ({"id": "ws-1", "token_file": "\ud800"}, "token_file"),
        ({"id": "ws-1", "token": f"{SECRET} {OTHER}"}, "whitespace"),
        ({"id": "ws-1", "token": f"{SECRET}\x00"}, "printable ASCII"),
        ({"id": "ws-1", "token": f"{SECRET}é"}, "printable ASCII"),
        ({"id": "ws-1", "token": f"{SECRET}\ud800"}, "printable ASCII"),
        ({"id": "ws-1", "tokens": SECRET}, "did you mean 'token'?"),
        ({"id": "ws-1", "tokenfile": "/x"}, "did you mean 'token_file'?"),
        ({"id": "ws-1", "token": SECRET, "platform-url": "https://b.example"}, "did you mean 'platform_url'?"),
        ({"id": "ws-1", "token": SECRET, "platformUrl": "https://b.example"}, "did you mean 'platform_url'?"),
        ({"id": "ws-1", "token": SECRET, "url": "https://b.example"}, "did you mean 'platform_url'?"),
        ({"workspace_id": "ws-1", "token": SECRET}, "did you mean 'id'?"),
    ],
    ids=lambda value: ascii(value)[:120],
)
def test_an_entry_that_cannot_be_used_is_an_error_with_its_index(item: object, expected: str) -> None:
    errors = errors_of(many(entry("ws-0"), item))
    assert all(error.startswith("[1]") for error in errors)
    assert expected in " ".join(errors)


def test_every_error_of_every_entry_is_reported_at_once() -> None:
    errors = errors_of(
        many(
            {"id": "BAD", "token": f"{SECRET} {OTHER}", "platform_url": "nowhere"},
            entry("ws-1"),
            "text",
            entry("ws-1", platform_url="ftp://x"),
            {},
        )
    )
    assert [error.partition("]")[0] for error in errors] == ["[0", "[0", "[0", "[2", "[3", "[3", "[4"]
    assert sum("duplicate workspace id 'ws-1', already given at [1]" in error for error in errors) == 1


def test_a_duplicate_is_found_although_its_first_entry_has_an_error() -> None:
    errors = errors_of(many(entry("ws-1", platform_url="nowhere"), entry("ws-1")))
    assert [error.partition("]")[0] for error in errors] == ["[0", "[1"]
    assert "duplicate" in errors[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{", "not valid JSON"),
        ('[{"id": "ws-1",\n "token": }]', "line 2 column 11"),
        ("ws-1", "not valid JSON"),
        ("[]", "non-empty JSON array"),
        ("{}", "non-empty JSON array"),
        ("null", "non-empty JSON array"),
        ('"ws-1"', "non-empty JSON array"),
        ("[" * 100_000, "nested too deeply"),
        (f'[{{"id": {"1" * 5000}, "token": "x"}}]', "huge number"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_text_that_is_not_an_array_is_one_error_with_an_example(text: str, expected: str) -> None:
    [error] = errors_of({"MOLECULE_WORKSPACES": text})
    assert "MOLECULE_WORKSPACES" in error
    assert expected in error
    assert '"id": "ws-1"' in error


# The single variables


def test_one_workspace_comes_from_the_single_variables(base: dict[str, str]) -> None:
    environ = base | {"WORKSPACE_ID": " ws-1\n", "MOLECULE_WORKSPACE_TOKEN": f" {SECRET} "}
    assert resolve_workspaces(environ) == ([("ws-1", SECRET, "")], [])


def test_a_named_token_file_comes_before_the_one_in_the_configs_folder(
    base: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    folder.mkdir()
    (folder / ".auth_token").write_text(OTHER, encoding="utf-8")
    assert resolve_workspaces(base | {"WORKSPACE_ID": "ws-1"}) == ([("ws-1", OTHER, "")], [])
    assert read_token_file(base) == OTHER
    named = tmp_path / "named"
    named.write_text(SECRET, encoding="utf-8")
    environ = base | {"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN_FILE": str(named)}
    assert resolve_workspaces(environ) == ([("ws-1", SECRET, "")], [])
    environ |= {"MOLECULE_WORKSPACE_TOKEN": "from-env"}
    assert resolve_workspaces(environ) == ([("ws-1", "from-env", "")], [])


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff", b"x" * 70_000], ids=lambda v: repr(v)[:20])
def test_a_named_token_file_that_fails_is_an_error_and_never_fallen_through(
    content: bytes | None, base: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    folder.mkdir()
    (folder / ".auth_token").write_text(OTHER, encoding="utf-8")
    named = tmp_path / "named"
    if content is not None:
        named.write_bytes(content)
    [error] = errors_of(base | {"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN_FILE": str(named)})
    assert "MOLECULE_WORKSPACE_TOKEN_FILE" in error
    assert str(named) in error


def test_without_id_and_token_both_are_reported_and_every_source_is_named(base: dict[str, str], folder: Path) -> None:
    identifier, token = errors_of(base)
    assert "WORKSPACE_ID (or MOLECULE_WORKSPACES)" in identifier
    for source in ("MOLECULE_WORKSPACE_TOKEN ", "MOLECULE_WORKSPACE_TOKEN_FILE", str(folder / ".auth_token")):
        assert source in token


@pytest.mark.parametrize("token", [f"{SECRET} {OTHER}", f"{SECRET}\n{OTHER}", f"{SECRET}é"], ids=["space", "line", "é"])
def test_a_token_that_no_header_can_carry_is_an_error(token: str, base: dict[str, str]) -> None:
    [error] = errors_of(base | {"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN": token})
    assert error.startswith("MOLECULE_WORKSPACE_TOKEN ")


def test_a_configs_folder_that_cannot_be_used_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    environ = {"CONFIGS_DIR": str(tmp_path / "file" / "x")}
    [error] = errors_of(environ | {"WORKSPACE_ID": "ws-1"})
    assert "CONFIGS_DIR" in error
    assert read_token_file(environ) == ""


# Targets


def test_a_platform_url_is_needed_only_where_an_entry_names_none() -> None:
    own = many(entry(platform_url="https://a.example"), entry("ws-2", platform_url="https://b.example"))
    assert [target.platform_url for target in resolve_targets(own)] == ["https://a.example", "https://b.example"]
    mixed = many(entry(platform_url="https://a.example"), entry("ws-2"), entry("ws-3"))
    with pytest.raises(TargetError) as caught:
        resolve_targets(mixed)
    assert len(caught.value.errors) == 2
    assert all("PLATFORM_URL" in error for error in caught.value.errors)
    found = resolve_targets(mixed | {"PLATFORM_URL": "https://default.example/"})
    assert [target.platform_url for target in found] == [
        "https://a.example",
        "https://default.example",
        "https://default.example",
    ]


def test_a_platform_url_that_cannot_be_used_is_an_error_beside_the_others() -> None:
    with pytest.raises(TargetError) as caught:
        resolve_targets(many({}) | {"PLATFORM_URL": f"https://u:{SECRET}@acme.example.com"})
    assert [error.partition(" ")[0] for error in caught.value.errors] == ["[0]", "PLATFORM_URL:"]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["MOLECULE_ORG_ID", "MOLECULE_ORGANIZATION_ID"])
def test_the_organisation_goes_only_with_the_tenant_of_platform_url(name: str) -> None:
    environ = many(
        entry("ws-1"),
        entry("ws-2", platform_url="https://default.example/"),
        entry("ws-3", platform_url="https://other.example"),
        entry("ws-4", platform_url="https://default.example:8443"),
    )
    targets = resolve_targets(environ | {"PLATFORM_URL": "https://default.example", name: "org-1"})
    assert [target.org_id for target in targets] == ["org-1", "org-1", None, None]


def test_an_organisation_that_no_header_can_carry_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert org_id_of({"MOLECULE_ORG_ID": "x" * 128}) == "x" * 128
    assert org_id_of({"MOLECULE_ORG_ID": "new", "MOLECULE_ORGANIZATION_ID": "old"}) == "new"
    assert org_id_of({}) is None
    assert caplog.records == []
    for value in ("x" * 129, "a b", "a\nb", "é", "a\x7f"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert org_id_of({"MOLECULE_ORG_ID": value}) is None
        assert "MOLECULE_ORG_ID" in caplog.text


def test_a_target_reads_its_token_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first-token", encoding="utf-8")
    [target] = resolve_targets(many({"id": "ws-1", "token_file": str(path), "platform_url": "https://a.example"}))
    assert target.token.read() == "first-token"
    path.write_text("second-token", encoding="utf-8")
    assert target.token.read() == "second-token"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("CONFIGS_DIR", str(folder))
    monkeypatch.setenv("WORKSPACE_ID", "ws-1")
    monkeypatch.setenv("MOLECULE_WORKSPACE_TOKEN", SECRET)
    assert resolve_workspaces() == ([("ws-1", SECRET, "")], [])
    assert resolve_target_for_adapter() == {"id": "ws-1", "token": SECRET, "platform_url": ""}


# What people see


def test_no_error_shows_a_token_whatever_is_wrong_beside_it() -> None:
    wrong: dict[str, list[Any]] = {
        "id": ["ws-1", "BAD", "", None, [], 7, f"{SECRET}", "a" * 200],
        "token": [SECRET, f"{SECRET} {OTHER}", f"{SECRET}\n", f"{SECRET}\x00", [SECRET], {"x": SECRET}, None],
        "platform_url": [None, "nowhere", f"https://u:{SECRET}@h", f"https://h/?{SECRET}", f"https://{SECRET}@h:x"],
        "tokn": [None, SECRET],
    }
    # An id is shown to the person who mistyped it, so a token in its place shows at most when it could be an id.
    wrong["id"][6] = f"{SECRET}{OTHER}{SECRET}"
    for identifier, token, url, typo in itertools.product(*wrong.values()):
        item = {"id": identifier, "token": token, "platform_url": url, "tokn": typo}
        given = {key: value for key, value in item.items() if value is not None}
        _, errors = resolve_workspaces(many(given, given))
        shown = " ".join(errors)
        assert SECRET not in shown, (given, shown)
        assert OTHER not in shown, (given, shown)


def test_no_representation_of_a_target_shows_its_token(base: dict[str, str]) -> None:
    url = {"PLATFORM_URL": "https://a.example"}
    for environ in (
        many(entry()),
        base | {"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN": SECRET},
    ):
        [target] = resolve_targets(environ | url)
        assert target.token.read() == SECRET
        assert SECRET not in repr(target)
        assert SECRET not in str(target)
        assert SECRET not in target.token.description


@pytest.mark.parametrize("have_token_file", [True, False])
def test_the_help_is_three_lines_on_stderr_of_which_each_helps(
    have_token_file: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    print_missing_env_help(["WORKSPACE_ID", "PLATFORM_URL"], have_token_file)
    output = capsys.readouterr()
    assert output.out == ""
    first, second, third = output.err.splitlines()
    assert "missing: WORKSPACE_ID, PLATFORM_URL" in first
    assert "WORKSPACE_ID" in second
    assert "PLATFORM_URL" in second
    assert ("MOLECULE_WORKSPACE_TOKEN" in second) is not have_token_file
    assert "MOLECULE_WORKSPACES" in third


def test_what_is_missing_is_named(base: dict[str, str], folder: Path) -> None:
    assert missing_variables(base) == ["WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_WORKSPACE_TOKEN"]
    assert missing_variables(base | {"WORKSPACE_ID": "ws-1", "MOLECULE_WORKSPACE_TOKEN_FILE": "/x"}) == ["PLATFORM_URL"]
    folder.mkdir(exist_ok=True)
    (folder / ".auth_token").write_text(SECRET, encoding="utf-8")
    assert missing_variables(base | {"PLATFORM_URL": "https://a.example"}) == ["WORKSPACE_ID"]
    assert missing_variables(base | {"MOLECULE_WORKSPACES": "[]"}) == []


def test_the_first_workspace_is_the_adapters_and_settings_with_errors_give_none(base: dict[str, str]) -> None:
    found = resolve_target_for_adapter(many(entry(platform_url="https://a.example"), entry("ws-2")))
    assert found == {"id": "ws-1", "token": SECRET, "platform_url": "https://a.example"}
    assert resolve_target_for_adapter(many(entry(), {})) is None
    assert resolve_target_for_adapter(base) is None
