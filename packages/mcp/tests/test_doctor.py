"""`molecule-mcp doctor`: what is wrong with an installation is found, named and mended by what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support import warm
from tests.support.tenants import Member, Tenant

from molecule_runtime.mcp import cli

from .processes import one

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
TOKEN = "token-that-nobody-may-see"  # noqa: S105


@dataclass(frozen=True)
class Report:
    code: int
    text: str
    found: list[dict[str, str]]

    def of(self, check: str, status: str) -> list[str]:
        return [row["reason"] for row in self.found if (row["check"], row["status"]) == (check, status)]

    def fixes(self, check: str) -> str:
        return "\n".join(row["fix"] for row in self.found if row["check"] == check)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own, and an environment that names no workspace."""
    for name in list(os.environ):
        if name.startswith(("MOLECULE_", "WORKSPACE", "PLATFORM_URL", "CONFIGS_DIR")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def doctor(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    assert home.is_dir()

    async def examine(*arguments: str) -> Report:
        with anyio.fail_after(60):
            code = await anyio.to_thread.run_sync(cli.main, ["doctor", "--json", *arguments])
        out = capsys.readouterr()
        return Report(code, out.out + out.err, json.loads(out.out)["results"])

    return examine


def entry(url: str, member: Member, **more: str) -> dict[str, Any]:
    environ = {"WORKSPACE_ID": member.id, "PLATFORM_URL": url, "MOLECULE_WORKSPACE_TOKEN": member.token, **more}
    return {"command": sys.executable, "args": ["-m", "molecule_runtime.mcp"], "env": environ}


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


async def test_a_client_that_is_set_up_well_is_found_and_its_token_tried(
    acme: Tenant, home: Path, doctor: Callable[..., Any]
) -> None:
    _, ours = await acme.family()
    servers = {"mcpServers": {"molecule": entry(acme.url, ours)}}
    write(home / ".claude.json", json.dumps({"projects": {"/src": servers}}))
    report = await doctor()
    assert report.code == 0, report.text
    assert report.of("workspaces", "ok") == [
        f"{ours.id} at {acme.url}, token from environment variable MOLECULE_WORKSPACE_TOKEN"
    ]
    assert report.of("token", "ok")[0].startswith(f"{ours.id}: the platform takes the token")
    assert report.of("clock", "ok")
    assert report.of("clients", "ok") == [
        f"Claude Code: projects./src.mcpServers.molecule in {home / '.claude.json'} starts {sys.executable}"
    ]
    assert ours.token not in report.text
    # The other way round: the settings of this shell, for people.
    plain = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [*warm.stand_in("molecule-mcp", home / "pid"), "doctor"],
            env=one(home / "p", acme.url, ours).environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )
    assert plain.returncode == 0, plain.stdout + plain.stderr
    assert f"OK    token: {ours.id}: the platform takes the token" in plain.stdout


async def test_a_revoked_token_and_a_platform_that_is_down_are_told_apart(
    acme: Tenant, home: Path, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ours = await acme.family()
    entries = [
        {"id": ours.id, "token": TOKEN, "platform_url": acme.url},
        {"id": "elsewhere", "token": TOKEN, "platform_url": NOWHERE},
        {"id": "in-the-open", "token": TOKEN, "platform_url": "http://platform.invalid"},
    ]
    monkeypatch.setenv("MOLECULE_WORKSPACES", json.dumps(entries))
    report = await doctor()
    assert report.code == 1
    assert [reason.split(":")[0] for reason in report.of("token", "fail")] == [ours.id]
    assert "Connect dialog" in report.fixes("token")
    assert set(report.of("token", "skip")) == {
        "elsewhere: the platform cannot be reached",
        "in-the-open: the platform cannot be reached",
    }
    assert any(NOWHERE in reason for reason in report.of("platform", "fail"))
    assert report.of("platform", "warn") == ["http://platform.invalid is not encrypted, and tokens travel over it"]
    assert TOKEN not in report.text


async def test_what_is_wrong_in_the_files_of_clients_is_said_with_the_place(
    home: Path, doctor: Callable[..., Any]
) -> None:
    alice = Member("alice", TOKEN)
    well = entry(NOWHERE, alice)
    write(home / ".codex/config.toml", '[mcp_servers.molecule]\ncommand = "/nowhere/molecule-mcp"\n', 0o644)
    write(home / ".cursor/mcp.json", json.dumps({"mcpServers": {"m": entry("...", alice)}}))
    write(home / ".gemini/settings.json", '{"mcpServers": {"molecule": ')
    write(home / ".claude.json", json.dumps({"mcpServers": {"molecule": well, "other": {"command": "npx"}}}), 0o644)
    write(
        home / ".config/opencode/opencode.json",
        '{\n// hers\n"mcp": {"m": {"command": ["molecule-mcp"], "environment": {"WORKSPACE_ID": "alice", '
        '"PLATFORM_URL": "http://127.0.0.1:9", "MOLECULE_WORKSPACE_TOKEN": "${TOKEN}"}}}}',
    )
    write(
        home / ".hermes/config.yaml",
        "mcp_servers:\n  molecule:\n    command: molecule-mcp\n    env: {WORKSPACE_ID: Not Valid}\n",
    )
    report = await doctor("--offline")
    assert report.code == 1
    failures = "\n".join(report.of("clients", "fail"))
    assert "codex: mcp_servers.molecule in" in failures
    assert "command '/nowhere/molecule-mcp' is not found" in failures
    assert "WORKSPACE_ID, PLATFORM_URL, MOLECULE_WORKSPACE_TOKEN missing" in failures
    assert "Cursor: mcpServers.m in" in failures
    assert "PLATFORM_URL still has the value of an example" in failures
    assert "Hermes: mcp_servers.molecule" in failures
    warnings = "\n".join(report.of("clients", "warn"))
    assert "Gemini CLI" in warnings
    assert "the file holds a token (MOLECULE_WORKSPACE_TOKEN) and is open to other users (mode 0644)" in warnings
    assert "other" not in failures.replace("other users", "")
    # Only the entry that is complete is a workspace to look at.
    assert [reason.split(" ")[0] for reason in report.of("workspaces", "ok")] == ["alice"]
    assert TOKEN not in report.text


async def test_open_files_a_damaged_inbox_and_wrong_values_are_found(
    home: Path, doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = home / ".molecule-workspace"
    write(state / ".auth_token", TOKEN, 0o644)
    write(state / "molecule-mcp.db", "not a database" * 100)
    write(state / "config.yaml", "rbac:\n  roles: [emperor]\n")
    state.chmod(0o777)
    monkeypatch.setenv("WORKSPACE_ID", "alice")
    monkeypatch.setenv("PLATFORM_URL", NOWHERE)
    monkeypatch.setenv("LOG_FORMAT", "loud")
    report = await doctor("--offline")
    assert report.code == 1
    assert any("can be written by other users (mode 0777)" in reason for reason in report.of("folder", "fail"))
    assert any(".auth_token is open to other users (mode 0644)" in reason for reason in report.of("folder", "warn"))
    assert f"chmod 600 {state / '.auth_token'}" in report.fixes("folder")
    assert any("is damaged" in reason for reason in report.of("inbox", "fail"))
    assert report.of("environment", "fail") == ["LOG_FORMAT is 'loud'"]
    assert any("'emperor' is no role" in reason for reason in report.of("config", "warn"))
    assert TOKEN not in report.text


async def test_without_any_workspace_it_says_where_to_begin(doctor: Callable[..., Any]) -> None:
    report = await doctor("--offline")
    assert report.code == 1
    assert [reason[:26] for reason in report.of("workspaces", "fail")] == ["no workspace is configured"]
    assert report.of("clients", "skip")
    assert all(row["fix"] for row in report.found if row["status"] in {"fail", "warn"})


@pytest.mark.parametrize("arguments", [["doctr"], ["doctor", "--everything"], ["--offline"], ["doctor", "--off"]])
async def test_arguments_that_nobody_knows_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""
