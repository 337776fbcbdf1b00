"""MCP servers reach the file that each engine reads, and nothing else in that file changes."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from molecule_runtime.core.adapter.mcp_port import KNOWN_RUNTIMES, client_for
from molecule_runtime.mcp.delivery.errors import DeliveryError
from molecule_runtime.mcp.delivery.jsonc import Jsonc

if TYPE_CHECKING:
    from collections.abc import Callable

SPEC: dict[str, Any] = {"command": "npx", "args": ["-y", "@molecule-ai/mcp-server"], "env": {"MODE": "management"}}
OTHER: dict[str, Any] = {"command": "other", "args": ["--flag"]}

PLACES = {
    "claude_code": (".claude/settings.json", ("mcpServers",)),
    "codex": (".codex/config.toml", ("mcp_servers",)),
    "gemini_cli": (".gemini/settings.json", ("mcpServers",)),
    "hermes": (".hermes/config.yaml", ("mcp_servers",)),
    "openclaw": (".openclaw/openclaw.json", ("mcp", "servers")),
}

every_engine = pytest.mark.parametrize("engine", PLACES)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CODEX_HOME", "HERMES_HOME"):
        monkeypatch.delenv(name, raising=False)


def parse(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".toml":
            return tomllib.loads(text)
        case ".yaml":
            return yaml.safe_load(text)
        case _:
            return Jsonc().parse(text)


def declared(path: Path, keys: tuple[str, ...]) -> Any:
    node = parse(path)
    for key in keys:
        node = node[key]
    return node


def test_every_engine_of_the_contract_has_a_client() -> None:
    announced = {entry.name for entry in metadata.entry_points(group="molecule_runtime.mcp_clients")}
    assert announced == set(KNOWN_RUNTIMES) == set(PLACES)


@every_engine
def test_a_server_is_written_where_the_engine_reads_it_and_nowhere_else(engine: str, tmp_path: Path) -> None:
    """RCA #2970 and #3159: path, key and shape are those of the contract, and no other engine's file appears."""
    file, keys = PLACES[engine]
    client = client_for(engine)
    assert client.servers(str(tmp_path)) == {}
    path = client.register(str(tmp_path), "molecule-platform", SPEC)
    assert path == client.settings_path(str(tmp_path)) == tmp_path / file
    assert declared(path, keys) == {"molecule-platform": SPEC}
    assert client.servers(str(tmp_path)) == {"molecule-platform": SPEC}
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]


@every_engine
def test_the_file_is_private_and_replaced_as_a_whole(engine: str, tmp_path: Path) -> None:
    client = client_for(engine)
    path = client.register(str(tmp_path), "one", SPEC)
    path.chmod(0o644)
    before = path.stat().st_ino
    client.register(str(tmp_path), "two", SPEC)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != before
    assert sorted(entry.name for entry in path.parent.iterdir()) == [path.name]


@every_engine
@pytest.mark.parametrize(
    "name",
    ["plain", "with.dot", "with space", 'with "quotes"', "ümläut", "1", "true", "a: b", "#x", "'", "[x]", "a\\b"],
)
def test_any_name_and_value_survives_and_is_written_once(engine: str, name: str, tmp_path: Path) -> None:
    spec = {
        "command": "run me",
        "args": ["", "two\nlines", "tab\there", "\x01\x1b[0m\x7f", "'single' \"double\"", "# no comment", "ünïcode ✓"],
        "env": {
            "EMPTY": "",
            "YES": "yes",
            "NUMBER": "1.0",
            "NULL": "null",
            "MULTI": "a\n  b\n\nc\n",
            "DOLLAR": "${HOME}",
        },
    }
    client = client_for(engine)
    client.register(str(tmp_path), "neighbour", OTHER)
    path = client.register(str(tmp_path), name, spec)
    once = path.read_bytes()
    assert client.servers(str(tmp_path)) == {"neighbour": OTHER, name: spec}
    client.register(str(tmp_path), name, spec)
    assert path.read_bytes() == once
    assert client.remove(str(tmp_path), name)
    assert client.servers(str(tmp_path)) == {"neighbour": OTHER}
    assert not client.remove(str(tmp_path), name)


@every_engine
def test_a_changed_server_replaces_the_old_one(engine: str, tmp_path: Path) -> None:
    client = client_for(engine)
    client.register(str(tmp_path), "before", OTHER)
    client.register(str(tmp_path), "it", SPEC)
    path = client.register(str(tmp_path), "after", OTHER)
    client.register(str(tmp_path), "it", {"command": "new", "env": {"A": "1"}})
    assert client.servers(str(tmp_path)) == {
        "before": OTHER,
        "it": {"command": "new", "env": {"A": "1"}},
        "after": OTHER,
    }
    assert b"npx" not in path.read_bytes()


@every_engine
def test_removing_what_was_added_gives_the_file_back(engine: str, tmp_path: Path) -> None:
    """Contract runtime.md 20.1 item 16: nothing stays behind after an uninstall."""
    client = client_for(engine)
    path = client.register(str(tmp_path), "kept", OTHER)
    before = path.read_bytes()
    client.register(str(tmp_path), "it", SPEC)
    client.remove(str(tmp_path), "it")
    assert path.read_bytes() == before


@every_engine
def test_a_server_that_is_reached_by_url_is_declared_in_the_words_of_the_engine(engine: str, tmp_path: Path) -> None:
    client = client_for(engine)
    spec = {"url": "http://127.0.0.1:9100/mcp"}
    path = client.register(str(tmp_path), "remote", spec)
    assert client.servers(str(tmp_path)) == {"remote": spec}
    key = "httpUrl" if engine == "gemini_cli" else "url"
    assert declared(path, PLACES[engine][1])["remote"] == {key: spec["url"]}


@every_engine
def test_what_the_engine_does_not_know_is_left_out(engine: str, tmp_path: Path) -> None:
    client = client_for(engine)
    path = client.register(str(tmp_path), "it", {**OTHER, "audience": "org", "made_up": 1})
    assert declared(path, PLACES[engine][1])["it"] == OTHER


MALFORMED: dict[str, list[str]] = {
    "claude_code": ['{"mcpServers": ', "not json", "[]", '{"a": 1, "a": 2}', '{"mcpServers": []}', "{'a': 1}", "{} {}"],
    "codex": ["[mcp_servers", "a = 1\na = 2", "mcp_servers = 3", '[mcp_servers.x]\ncommand = "a"\n[mcp_servers.x]'],
    "hermes": ["a: b: c", "- a list", "mcp_servers: text", "\ta: 1", "mcp_servers: [", "just text"],
}


@pytest.mark.parametrize(("engine", "text"), [(engine, text) for engine, texts in MALFORMED.items() for text in texts])
def test_a_malformed_file_is_refused_and_left_as_it_is(engine: str, text: str, tmp_path: Path) -> None:
    """Contract runtime.md 20.1 item 12: the predecessor replaced it by an empty object."""
    client = client_for(engine)
    path = client.settings_path(str(tmp_path))
    path.parent.mkdir(parents=True)
    path.write_text(text)
    for change in (
        lambda: client.register(str(tmp_path), "it", SPEC),
        lambda: client.remove(str(tmp_path), "it"),
        lambda: client.servers(str(tmp_path)),
    ):
        with pytest.raises(DeliveryError, match=path.name if "mcp_servers: text" not in text else "mapping"):
            change()
    assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def not_utf8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{}")


@every_engine
@pytest.mark.parametrize("make", [not_utf8, Path.mkdir], ids=["not UTF-8", "a folder"])
def test_an_unreadable_file_is_refused(engine: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    client = client_for(engine)
    path = client.settings_path(str(tmp_path))
    path.parent.mkdir(parents=True)
    make(path)
    with pytest.raises(DeliveryError):
        client.register(str(tmp_path), "it", SPEC)
    assert path.is_dir() or path.read_bytes() == b"\xff\xfe{}"


@every_engine
def test_a_file_that_is_a_link_stays_a_link(engine: str, tmp_path: Path) -> None:
    client = client_for(engine)
    path = client.settings_path(str(tmp_path))
    real = tmp_path / "dotfiles" / path.name
    real.parent.mkdir()
    real.write_text("")
    path.parent.mkdir(parents=True)
    path.symlink_to(real)
    client.register(str(tmp_path), "it", SPEC)
    assert path.is_symlink()
    assert client.servers(str(tmp_path)) == {"it": SPEC}
    assert real.read_text()


def test_the_engines_own_home_variables_are_read_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, variable, file in (("codex", "CODEX_HOME", "config.toml"), ("hermes", "HERMES_HOME", "config.yaml")):
        assert client_for(engine).settings_path("/configs") == tmp_path / f".{engine}" / file
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
        assert client_for(engine).settings_path("/configs") == tmp_path / "elsewhere" / file
        monkeypatch.setenv("HOME", str(tmp_path / "moved"))
        monkeypatch.delenv(variable)
        assert client_for(engine).settings_path("/configs") == tmp_path / "moved" / f".{engine}" / file
        monkeypatch.setenv("HOME", str(tmp_path))


def test_codex_names_the_variables_to_pass_on_and_the_others_inherit_them(tmp_path: Path) -> None:
    for engine in PLACES:
        client_for(engine).register(str(tmp_path), "it", {**OTHER, "env_vars": ["SOME_TOKEN"]})
    assert client_for("codex").servers("")["it"]["env_vars"] == ["SOME_TOKEN"]
    assert "env_vars" not in client_for("hermes").servers("")["it"]


def test_processes_that_register_at_once_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from molecule_runtime.core.adapter.mcp_port import client_for\n"
        "for number in range(5): client_for('codex').register('', f'{sys.argv[1]}-{number}', {'command': 'x'})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(index)]) for index in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    expected = {f"{index}-{number}" for index in range(4) for number in range(5)}
    assert set(client_for("codex").servers("")) == expected


def test_importing_the_clients_does_not_import_the_sdk() -> None:
    names = ", ".join(f"molecule_runtime.mcp.delivery.{engine}" for engine in PLACES)
    code = f"import sys, {names}; print([n for n in ('mcp.client', 'pydantic', 'httpx') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(result.stdout.replace("'", '"')) == []
