"""`molecule-local connect`: the configuration that puts a client on the team works, and shows no token."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import yaml

from molecule_runtime.localplatform import clients

from .shell import SECONDS, Shell, environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from .support import Member, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)


@pytest.fixture
async def alice(world: World) -> Member:
    return await world.create("alice", delivery_mode="poll")


def token_in(shell: Shell, member: Member) -> str:
    file = shell.folder / "clients" / member.id / ".auth_token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return file.read_text()


async def is_live(world: World, member: Member, token: str) -> bool:
    answer = await world.http.get(f"/workspaces/{member.id}/activity", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code == 200


def assert_leads_there(spec: dict[str, Any], world: World, shell: Shell, member: Member) -> None:
    assert spec["env"]["WORKSPACE_ID"] == member.id
    assert spec["env"]["PLATFORM_URL"] == world.platform.url
    assert spec["env"]["MOLECULE_AGENT_NAME"] == "alice"
    assert Path(spec["env"]["MOLECULE_WORKSPACE_TOKEN_FILE"]).read_text() == token_in(shell, member)
    assert [spec["command"], *spec["args"]] == clients.server_command()


async def test_without_a_client_it_is_an_environment_that_a_shell_reads(
    world: World, shell: Shell, alice: Member
) -> None:
    done = await shell.run("connect", "alice")
    assert done.err == ""
    token = token_in(shell, alice)
    assert await is_live(world, alice, token)
    assert token not in done.out
    script = f"{done.said}\nenv"
    printed = await anyio.run_process(["sh", "-c", script], env={"PATH": os.environ["PATH"]})
    variables = dict(line.split("=", 1) for line in printed.stdout.decode().splitlines())
    assert variables["WORKSPACE_ID"] == alice.id
    assert variables["MOLECULE_WORKSPACE_TOKEN_FILE"] == str(shell.folder / "clients" / alice.id / ".auth_token")
    for client in ("claude-code", "codex", "gemini-cli", "hermes", "openclaw", "cursor", "json"):
        assert f"#   {client}" in done.out


async def test_with_that_environment_the_real_server_puts_the_agent_online(
    world: World, shell: Shell, alice: Member
) -> None:
    data = (await shell.run("connect", alice.id, "--json")).data
    async with world.platform.bus.subscribe() as frames:
        process = await anyio.open_process(
            data["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**environment(shell.folder), **data["variables"]},
        )
        async with process:
            with anyio.fail_after(SECONDS):
                async for frame in frames:
                    if (frame.event, frame.workspace_id) == ("WORKSPACE_ONLINE", alice.id):
                        break
            process.terminate()
    assert await world.status(alice) == "online"


async def test_a_token_that_still_counts_is_used_again_and_a_revoked_one_is_not(
    world: World, shell: Shell, alice: Member
) -> None:
    await shell.run("connect", "alice")
    first = token_in(shell, alice)
    await shell.run("connect", "alice", "--client", "codex")
    assert token_in(shell, alice) == first
    live = (await shell.run("token", "list", "alice", "--json")).data["tokens"]
    (token_id,) = [token["id"] for token in live if token["prefix"] == first[:8]]
    assert (await shell.run("token", "revoke", "alice", token_id)).code == 0
    await shell.run("connect", "alice")
    second = token_in(shell, alice)
    assert second != first
    assert await is_live(world, alice, second)


async def test_claude_code_gets_its_command(world: World, shell: Shell, alice: Member) -> None:
    done = await shell.run("connect", "alice", "--client", "claude-code")
    words = shlex.split(done.said.replace("\\\n", " "))
    assert words[:6] == ["claude", "mcp", "add", "molecule", "-s", "user"]
    end = words.index("--")
    variables = dict(word.split("=", 1) for word in words[6:end] if word != "-e")
    command, *arguments = words[end + 1 :]
    assert_leads_there({"command": command, "args": arguments, "env": variables}, world, shell, alice)
    assert token_in(shell, alice) not in done.out + done.err


async def test_codex_gets_a_table_of_its_toml_file(world: World, shell: Shell, alice: Member) -> None:
    done = await shell.run("connect", "alice", "--client", "codex", "--name", 'the "team" of ä')
    spec = tomllib.loads(done.said)["mcp_servers"]['the "team" of ä']
    assert_leads_there(spec, world, shell, alice)
    assert "~/.codex/config.toml" in done.err


async def test_hermes_gets_a_mapping_of_its_yaml_file(world: World, shell: Shell, alice: Member) -> None:
    done = await shell.run("connect", "alice", "--client", "hermes")
    assert_leads_there(yaml.safe_load(done.said)["mcp_servers"]["molecule"], world, shell, alice)


async def test_openclaw_gets_its_command(world: World, shell: Shell, alice: Member) -> None:
    done = await shell.run("connect", "alice", "--client", "openclaw")
    words = shlex.split(done.said)
    assert words[:4] == ["openclaw", "mcp", "set", "molecule"]
    assert_leads_there(json.loads(words[4]), world, shell, alice)


@pytest.mark.parametrize("client", ["gemini-cli", "cursor", "json"])
async def test_the_others_get_the_object_that_most_clients_read(
    world: World, shell: Shell, alice: Member, client: str
) -> None:
    done = await shell.run("connect", "alice", "--client", client)
    assert_leads_there(json.loads(done.said)["mcpServers"]["molecule"], world, shell, alice)


@pytest.mark.parametrize(
    ("client", "file"),
    [
        ("claude-code", ".claude/settings.json"),
        ("codex", ".codex/config.toml"),
        ("gemini-cli", ".gemini/settings.json"),
        ("hermes", ".hermes/config.yaml"),
        ("openclaw", ".openclaw/openclaw.json"),
    ],
)
async def test_the_clients_own_file_is_written_and_the_rest_of_it_kept(
    world: World, shell: Shell, alice: Member, client: str, file: str
) -> None:
    path = shell.folder.parent / file
    path.parent.mkdir()
    path.write_text({".toml": 'model = "x"\n', ".yaml": "model: x\n", ".json": '{"model": "x"}\n'}[path.suffix])
    done = await shell.run("connect", "alice", "--client", client, "--write")
    assert str(path) in done.said
    text = path.read_text()
    assert token_in(shell, alice) not in text
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".yaml": yaml.safe_load, ".json": json.loads}
    document = readers[path.suffix](text)
    assert document["model"] == "x"
    servers = document.get("mcpServers") or document.get("mcp_servers") or document["mcp"]["servers"]
    assert_leads_there(servers["molecule"], world, shell, alice)
    assert (await shell.run("connect", "alice", "--client", client, "--write", "--json")).data["path"] == str(path)
    assert path.read_text() == text


async def test_a_project_may_have_the_file(shell: Shell, alice: Member, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    done = await shell.run(
        "connect", "alice", "--client", "claude-code", "--write", "--config-path", str(project), "--name", "team"
    )
    assert "team" in json.loads((project / ".claude" / "settings.json").read_text())["mcpServers"]
    assert str(project) in done.said


async def test_a_file_that_cannot_be_understood_is_left_alone(shell: Shell, alice: Member) -> None:
    path = shell.folder.parent / ".gemini" / "settings.json"
    path.parent.mkdir()
    path.write_text("{ this is not json")
    done = await shell.run("connect", "alice", "--client", "gemini-cli", "--write")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert str(path) in done.err
    assert path.read_text() == "{ this is not json"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--client", "emacs"], "'emacs' is not known; use one of claude-code"),
        (["--write"], "--client"),
        (["--client", "cursor", "--write"], "cursor"),
        (["--name", "a\nb"], "--name"),
    ],
)
async def test_wrong_usage_is_exit_code_2_and_mints_nothing(
    world: World, shell: Shell, alice: Member, arguments: list[str], said: str
) -> None:
    done = await shell.run("connect", "alice", *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err


def test_without_the_mcp_wheel_it_names_the_command_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(clients, "_MODULE", "molecule_runtime.nothing")
    assert clients.server_command() == ["molecule-mcp"]
    assert not clients.is_server_there()
