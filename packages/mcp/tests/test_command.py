"""The command: what it does with a wrong environment, and what it keeps to itself."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support import warm
from tests.support.tenants import Member

from molecule_runtime.core.config import FILE_NAME, load_config
from molecule_runtime.mcp.opening import load_configured

from .processes import INITIALIZE, INITIALIZED, MODULE, Place, one, place, several

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NOWHERE = "http://127.0.0.1:9"
TOKEN = "token-that-nobody-may-see"  # noqa: S105
ALICE = Member("alice", TOKEN)


COLD = (sys.executable, *MODULE)


def command(
    where: Place, *arguments: str, stdin: str = "", program: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(program or warm.stand_in("molecule-mcp", where.home / "pid")), *arguments],
        env=where.environ,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_any_setting_three_lines_say_what_is_missing(tmp_path: Path) -> None:
    ran = command(place(tmp_path), program=COLD)
    assert (ran.returncode, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert len(lines) == 3
    assert "WORKSPACE_ID, PLATFORM_URL, MOLECULE_WORKSPACE_TOKEN" in lines[0]


@pytest.mark.parametrize("missing", ["WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_WORKSPACE_TOKEN"])
def test_the_one_missing_setting_is_named(tmp_path: Path, missing: str) -> None:
    where = one(tmp_path, NOWHERE, ALICE)
    ran = command(place(tmp_path, **{name: value for name, value in where.variables.items() if name != missing}))
    assert (ran.returncode, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(f"Currently missing: {missing}")


def test_a_token_in_the_state_folder_is_a_token(tmp_path: Path) -> None:
    where = place(tmp_path, WORKSPACE_ID="alice", PLATFORM_URL=NOWHERE)
    where.state.mkdir()
    (where.state / ".auth_token").write_text(TOKEN)
    ran = command(where, stdin=json.dumps(INITIALIZE) + "\n")
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["result"]["serverInfo"]["name"] == "molecule"


def test_a_variable_with_a_wrong_value_is_refused_and_a_wrong_hint_only_warned_about(tmp_path: Path) -> None:
    settings = {**one(tmp_path, NOWHERE, ALICE).variables, "MOLECULE_MCP_POLL_TIMEOUT_SECS": "often"}
    hinted = command(place(tmp_path, **settings), stdin=json.dumps(INITIALIZE) + "\n")
    assert hinted.returncode == 0
    assert "MOLECULE_MCP_POLL_TIMEOUT_SECS is 'often'" in hinted.stderr
    ran = command(place(tmp_path, **settings, DELEGATION_TIMEOUT="soon"))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "DELEGATION_TIMEOUT is 'soon'; it must be a number" in ran.stderr
    assert "POLL_TIMEOUT" not in ran.stderr


def test_every_error_of_several_workspaces_is_listed_with_its_index(tmp_path: Path) -> None:
    entries = [
        {"id": "ws-1", "token": TOKEN, "platform_url": NOWHERE},
        {"id": "ws-2", "platform_url": NOWHERE},
        7,
        {"id": "WS 4", "token": TOKEN, "platform_url": NOWHERE},
        {"id": "ws-1", "token": TOKEN, "platform_url": NOWHERE},
        {"id": "ws-6", "token": f"{TOKEN} {TOKEN}", "platform_url": "ftp://x"},
        {"id": "ws-7", "token_file": "/does/not/exist", "platform_url": NOWHERE},
        {"id": "ws-8", "tokn": TOKEN, "platform_url": NOWHERE},
    ]
    ran = command(place(tmp_path, MOLECULE_WORKSPACES=json.dumps(entries)))
    assert (ran.returncode, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert lines[0] == "molecule-mcp: invalid MOLECULE_WORKSPACES:"
    assert {line.split("]")[0] for line in lines[1:]} == {f"  - [{index}" for index in range(1, 8)}
    assert TOKEN not in ran.stderr


@pytest.mark.parametrize(
    "value", ["[", "{}", "[]", '"x"', "[" * 100_000], ids=["cut", "object", "empty", "text", "deep"]
)
def test_workspaces_that_are_no_list_are_one_error(tmp_path: Path, value: str) -> None:
    ran = command(place(tmp_path, MOLECULE_WORKSPACES=value))
    assert (ran.returncode, ran.stdout) == (2, "")
    lines = ran.stderr.splitlines()
    assert lines[0] == "molecule-mcp: invalid MOLECULE_WORKSPACES:"
    assert len(lines) == 2


def test_a_workspace_without_any_platform_is_an_error(tmp_path: Path) -> None:
    ran = command(several(tmp_path, {"id": "ws-1", "token": TOKEN}))
    assert ran.returncode == 2
    assert "workspace 'ws-1' names no platform_url" in ran.stderr


def test_a_wrong_log_level_is_a_configuration_error(tmp_path: Path) -> None:
    ran = command(one(tmp_path, NOWHERE, ALICE, LOG_LEVEL="LOUD"))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "LOG_LEVEL" in ran.stderr


def test_an_inbox_that_cannot_be_opened_ends_the_process_with_one_line(tmp_path: Path) -> None:
    where = one(tmp_path, NOWHERE, ALICE)
    (where.state / "molecule-mcp.db").mkdir(parents=True)
    ran = command(where)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines()[-1].startswith("molecule-mcp: the inbox file ")
    assert "Traceback" not in ran.stderr


def test_a_state_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    ran = command(one(tmp_path, NOWHERE, ALICE))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "CONFIGS_DIR" in ran.stderr


def test_help_names_every_variable_and_exit_code_and_needs_no_setting(tmp_path: Path) -> None:
    ran = command(place(tmp_path), "--help", program=COLD)
    assert ran.returncode == 0
    for word in (
        "MOLECULE_WORKSPACES",
        "PLATFORM_URL",
        "CONFIGS_DIR",
        "claude mcp add",
        "Exit codes: 0 ",
        "1 the",
        "2 the",
    ):
        assert word in ran.stdout, word
    assert command(place(tmp_path), "--version").stdout.startswith("molecule-mcp ")


def test_the_first_start_writes_a_configuration_for_an_operator(tmp_path: Path) -> None:
    where = one(tmp_path, NOWHERE, ALICE)
    assert command(where).returncode == 0
    path = where.state / FILE_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(load_config(where.state, {}).rbac.roles) == ["operator"]


def test_a_configuration_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    for text in ("rbac:\n  roles: [read-only]\n", "", "name: mine\n"):
        path.write_text(text)
        permissions = load_configured(tmp_path, {}).permissions
        assert path.read_text() == text
        assert permissions.allows("delegate") is ("read-only" not in text)


@pytest.mark.parametrize(
    "content", [b"rbac: [", b"- a list", b"\xff\xfe", b"rbac:\n  roles: operator\n", b"rbac:\n  roles: [{}]\n"]
)
def test_a_configuration_that_cannot_be_read_allows_only_reading(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    permissions = load_configured(tmp_path, {}).permissions
    assert not permissions.allows("delegate")
    assert not permissions.allows("approve")
    assert permissions.allows("memory.read")
    assert "the tools are read-only" in caplog.text


def test_a_folder_that_cannot_hold_a_configuration_allows_only_reading(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not load_configured(tmp_path / "file", {}).permissions.allows("delegate")
    (tmp_path / FILE_NAME).mkdir()
    assert not load_configured(tmp_path, {}).permissions.allows("delegate")


def test_every_line_of_a_file_as_stdin_is_answered(tmp_path: Path) -> None:
    where = one(tmp_path, NOWHERE, ALICE)
    requests: list[dict[str, Any]] = [
        INITIALIZE,
        INITIALIZED,
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        {
            "jsonrpc": "2.0",
            "id": 3,
            "method": "tools/call",
            "params": {"name": "get_runtime_identity", "arguments": {}},
        },
        {"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "list_peers", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 5, "method": "ping"},
    ]
    script = tmp_path / "requests"
    script.write_text("".join(json.dumps(request) + "\n" for request in requests))
    output = tmp_path / "answers"
    with script.open() as stdin, output.open("w") as stdout:
        ran = subprocess.run(
            warm.stand_in("molecule-mcp", where.home / "pid"),
            env=where.environ,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert ran.returncode == 0
    answers = {message["id"]: message for message in map(json.loads, output.read_text().splitlines())}
    assert sorted(answers) == [1, 2, 3, 4, 5]
    assert all("result" in message for message in answers.values())
    assert answers[4]["result"]["isError"] is True


def test_a_request_that_takes_for_ever_does_not_keep_the_process_when_stdin_has_ended(tmp_path: Path) -> None:
    wait = {"name": "wait_for_message", "arguments": {"timeout_secs": 300}}
    requests: list[dict[str, Any]] = [
        INITIALIZE,
        INITIALIZED,
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": wait},
    ]
    ran = command(one(tmp_path, NOWHERE, ALICE), stdin="".join(json.dumps(request) + "\n" for request in requests))
    assert ran.returncode == 0
    assert next(json.loads(line)["id"] for line in ran.stdout.splitlines()) == 1
    assert "Traceback" not in ran.stderr


def test_a_client_that_reads_no_more_ends_the_process_quietly(tmp_path: Path) -> None:
    where = one(tmp_path, NOWHERE, ALICE, MOLECULE_MCP_DISABLE_HEARTBEAT="1", MOLECULE_MCP_DISABLE_INBOX="1")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        warm.stand_in("molecule-mcp", where.home / "pid"), env=where.environ, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline()
            process.stdout.close()
            # stdin stays open, as when only the reading half of a client has failed.
            process.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "ping"}).encode() + b"\n")
            process.stdin.flush()
            assert process.wait(30) == 0
            assert process.stderr.read() == b""
        finally:
            process.kill()


def test_no_other_environment_is_needed_than_what_a_plugin_passes(tmp_path: Path) -> None:
    where = one(tmp_path, NOWHERE, ALICE)
    variables = {
        name: where.environ[name]
        for name in ("WORKSPACE_ID", "PLATFORM_URL", "MOLECULE_WORKSPACE_TOKEN", "CONFIGS_DIR")
    }
    ran = subprocess.run(COLD, env=variables, input=b"", capture_output=True, timeout=60, check=False, cwd=os.sep)
    assert (ran.returncode, ran.stdout) == (0, b"")
