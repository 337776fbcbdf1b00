"""Checks of the MCP clients on this machine whose configuration mentions us: can they start it, and with what."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import yaml

from molecule_runtime.core import env
from molecule_runtime.core.preflight import Outcome, fail, ok, skip, warn
from molecule_runtime.core.targets import missing_variables
from molecule_runtime.mcp.delivery.jsonc import Jsonc
from molecule_runtime.mcp.delivery.toml_text import Toml
from molecule_runtime.mcp.doctor.subject import Source
from molecule_runtime.mcp.doctor.tenants import problems_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from molecule_runtime.mcp.doctor.subject import Machine

MAX_FILE_BYTES = 16 * 1024 * 1024
"""Claude Code keeps the history of all projects in the file of its servers."""

_MAX_DEPTH = 12
_NOT_INHERITED = frozenset(
    variable.name
    for variable in (
        env.WORKSPACE_ID,
        env.PLATFORM_URL,
        env.MOLECULE_WORKSPACES,
        env.MOLECULE_WORKSPACES_FILE,
        env.MOLECULE_WORKSPACE_TOKEN,
        env.MOLECULE_WORKSPACE_TOKEN_FILE,
    )
)
_OURS = re.compile(
    r"(?:^|[/\\])molecule-mcp(?:\.exe)?$|^molecule-runtime-mcp(?:[=@<>!~\[].*)?$|^molecule_runtime\.(?:mcp|mcp_cli|a2a_mcp_server)$"
)
_PLACEHOLDER = re.compile(r"^(?:\.{3}|…|<.*>|your[-_ ].*|xxx+|changeme)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Client:
    name: str
    files: tuple[str, ...]
    """In the home directory, or (`./`) in the folder that the client was started in."""
    parse: Callable[[str], dict[str, Any]]
    inherits: bool = True
    """Whether a server gets the client's own environment."""


def _yaml(text: str) -> dict[str, Any]:
    data: object = yaml.safe_load(text)
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


CLIENTS = (
    _Client("Claude Code", (".claude.json", ".claude/settings.json", "./.mcp.json"), Jsonc().parse),
    _Client(
        "Claude Desktop",
        (
            ".config/Claude/claude_desktop_config.json",
            "Library/Application Support/Claude/claude_desktop_config.json",
        ),
        Jsonc().parse,
    ),
    _Client("codex", (".codex/config.toml",), Toml().parse, inherits=False),
    _Client("Cursor", (".cursor/mcp.json", "./.cursor/mcp.json"), Jsonc().parse),
    _Client("VS Code", (".config/Code/User/mcp.json", "./.vscode/mcp.json"), Jsonc().parse),
    _Client("Windsurf", (".codeium/windsurf/mcp_config.json",), Jsonc().parse),
    _Client("Gemini CLI", (".gemini/settings.json",), Jsonc().parse),
    _Client("OpenCode", (".config/opencode/opencode.json", "./opencode.json"), Jsonc().parse),
    _Client("OpenClaw", (".openclaw/openclaw.json",), Jsonc().parse),
    _Client("Hermes", (".hermes/config.yaml",), _yaml),
)
"""Where clients keep their servers: the predecessor's documentation (contract `consumers.md` 5.1) and the clients' own."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One declaration of our server in a client's file."""

    place: str
    command: str
    environ: Mapping[str, str] = field(repr=False)


def clients_of(machine: Machine) -> tuple[Source, ...]:
    """Return the settings that clients start us with, of those entries that are complete."""
    found: list[Source] = []
    for client, path, document in _documents(machine):
        if isinstance(document, Exception):
            continue
        for entry in _entries(document):
            environ, filled_in = _environment(client, entry, machine)
            if not filled_in and not _placeholders(entry) and not any(problems_of(environ)):
                found.append(Source(f"{client.name}: {path}", environ))
    return tuple(found)


def check_clients(machine: Machine) -> Iterator[Outcome]:
    """Whether each client that mentions us can start us, and with settings that are complete."""
    seen = 0
    for client, path, document in _documents(machine):
        if isinstance(document, Exception):
            reason = " ".join(str(document).split())[:200]
            yield warn(f"{client.name}: {path} cannot be read: {reason}", "mend it: the client cannot read it either")
            continue
        for entry in _entries(document):
            seen += 1
            yield from _judge(client, path, entry, machine)
    if not seen:
        yield skip("no client on this machine mentions molecule-mcp")


def _documents(machine: Machine) -> Iterator[tuple[_Client, Path, dict[str, Any] | Exception]]:
    for client in CLIENTS:
        for path in _paths(client, machine):
            text = _read(path)
            if text is None or "molecule" not in text:
                continue
            try:
                yield client, path, client.parse(text)
            except (ValueError, RecursionError, yaml.YAMLError) as exc:
                yield client, path, exc


def _judge(client: _Client, path: Path, entry: _Entry, machine: Machine) -> Iterator[Outcome]:
    where = f"{client.name}: {entry.place} in {path}"
    problems = list(_problems(client, entry, machine))
    for problem, fix in problems:
        yield fail(f"{where}: {problem}", fix)
    inline = [
        variable.name
        for variable in (env.MOLECULE_WORKSPACE_TOKEN, env.MOLECULE_WORKSPACES)
        if '"token"' in entry.environ.get(variable.name, "") or variable is env.MOLECULE_WORKSPACE_TOKEN
        if variable.is_set(entry.environ)
    ]
    mode = stat.S_IMODE(path.stat().st_mode)
    if inline and mode & 0o077:
        yield warn(
            f"{where}: the file holds a token ({inline[0]}) and is open to other users (mode {mode:04o})",
            f"chmod 600 {path}, or keep the token in a file of its own (MOLECULE_WORKSPACE_TOKEN_FILE, token_file)",
        )
    if not problems:
        yield ok(f"{where} starts {entry.command}")


def _problems(client: _Client, entry: _Entry, machine: Machine) -> Iterator[tuple[str, str]]:
    search = entry.environ.get("PATH") or machine.environ.get("PATH", os.defpath)
    if shutil.which(entry.command, path=search) is None:
        own = shutil.which("molecule-mcp", path=machine.environ.get("PATH", os.defpath))
        yield (
            f"command {entry.command!r} is not found",
            f"name the whole path{f': {own}' if own else ', as `which molecule-mcp` prints it'}",
        )
    if kept := _placeholders(entry):
        yield f"{', '.join(kept)} still has the value of an example", "put in your own"
        return
    environ, filled_in = _environment(client, entry, machine)
    if not filled_in:
        yield from problems_of(environ)
    elif missing := [name for name in missing_variables(environ) if name not in filled_in]:
        yield f"{', '.join(missing)} missing in its env", "add them there; `molecule-mcp --help` explains each"


def _placeholders(entry: _Entry) -> list[str]:
    return [name for name, value in entry.environ.items() if _PLACEHOLDER.fullmatch(value)]


def _environment(client: _Client, entry: _Entry, machine: Machine) -> tuple[Mapping[str, str], frozenset[str]]:
    """Return what the server would be started with, and the names of what the client fills in: ${TOKEN} cannot be seen from here."""
    environ = {name: value for name, value in entry.environ.items() if "${" not in value}
    filled_in = frozenset(entry.environ.keys() - environ.keys())
    if client.inherits:
        # What the shell of this command names is not what a client started elsewhere inherits.
        inherited = {name: value for name, value in machine.environ.items() if name not in _NOT_INHERITED}
        return {**inherited, **environ}, filled_in
    return {"HOME": str(machine.home), **environ}, filled_in


def _entries(document: object) -> Iterator[_Entry]:
    """Find our servers wherever the client keeps them: Claude Code has some for each project."""
    stack: list[tuple[object, tuple[str, ...]]] = [(document, ())]
    while stack:
        node, keys = stack.pop()
        if not isinstance(node, Mapping) or len(keys) > _MAX_DEPTH:
            continue
        mapping = cast("Mapping[object, object]", node)
        words = _words(mapping)
        if any(_OURS.search(word) for word in words):
            environ = mapping.get("env") or mapping.get("environment")
            pairs = cast("Mapping[object, object]", environ).items() if isinstance(environ, Mapping) else ()
            yield _Entry(".".join(keys), words[0], {str(key): str(value) for key, value in pairs})
            continue
        stack.extend((value, (*keys, str(key))) for key, value in mapping.items())


def _words(mapping: Mapping[object, object]) -> Sequence[str]:
    """Return the command and its arguments; OpenCode has both in one list."""
    command, arguments = mapping.get("command"), mapping.get("args")
    words: list[object] = [command] if isinstance(command, str) else []
    for more in (command, arguments):
        if isinstance(more, list):
            words += cast("list[object]", more)
    return [word for word in words if isinstance(word, str)]


def _paths(client: _Client, machine: Machine) -> Iterator[Path]:
    for name in client.files:
        if not name.startswith("./"):
            yield machine.home / name
        elif machine.cwd is not None and machine.cwd != machine.home:
            yield machine.cwd / name


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES)
    except OSError:
        return None
    return data.decode("utf-8", "replace")
