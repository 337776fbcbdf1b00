"""The configuration that puts an MCP client on the team, ready to paste. It names the token's file, never the token.

With what is shown here a person configures a client by hand. Clients that have their servers in a file of their own are also written to
directly, by the mcp wheel (`core.adapter.mcp_port`).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVER = "molecule"
"""What the server is called in a client's configuration, unless it must be called otherwise."""

WHEEL = "molecule-runtime-mcp"
"""Brings the command that clients start."""

_COMMAND = "molecule-mcp"
_MODULE = "molecule_runtime.mcp"
_START_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A workspace's place, for a client that lives on this machine.

    Attributes:
        agent: the name on its agent card.
        token_file: holds its token, 0600.
        folder: where the client's server keeps its inbox.
        org_id: of the organisation, where the platform serves one only.
        server: what the server is called in the client's configuration.
    """

    workspace_id: str
    agent: str
    platform_url: str
    token_file: Path
    folder: Path
    org_id: str = ""
    server: str = SERVER

    def variables(self) -> dict[str, str]:
        """Return what the client's server is started with."""
        found = {
            env.WORKSPACE_ID.name: self.workspace_id,
            env.PLATFORM_URL.name: self.platform_url,
            env.MOLECULE_WORKSPACE_TOKEN_FILE.name: str(self.token_file),
            env.CONFIGS_DIR.name: str(self.folder),
            env.MOLECULE_AGENT_NAME.name: self.agent,
        }
        if self.org_id:
            found[env.MOLECULE_ORG_ID.name] = self.org_id
        return found

    def spec(self) -> dict[str, Any]:
        """Return the server as clients declare it in JSON."""
        command, *arguments = server_command()
        return {"command": command, "args": arguments, "env": self.variables()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An MCP client, and how it is told of a server.

    Attributes:
        key: how it is named on the command line.
        where: what is done with the text.
        runtime: its name for `core.adapter.mcp_port`, where its file can be written to.
    """

    key: str
    title: str
    where: str
    render: Callable[[Place], str]
    runtime: str = ""


def server_command() -> list[str]:
    """Return the command that a client starts: of these wheels where it is installed with them, else the one on the PATH."""
    path = os.path.join(os.path.dirname(sys.executable), _COMMAND)  # noqa: PTH118, PTH120 - keeps a symlinked venv's own path
    if os.access(path, os.X_OK):
        return [path]
    if importlib.util.find_spec(_MODULE) is not None:
        return [sys.executable, "-m", _MODULE]
    return [shutil.which(_COMMAND) or _COMMAND]


def is_server_there() -> bool:
    """Tell whether the command that clients start is on this machine."""
    return shutil.which(server_command()[0]) is not None


def environment_block(place: Place) -> str:
    """Return the variables, as a shell reads them."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in place.variables().items())


def claude_code(place: Place) -> str:
    """Return the `claude mcp add` command."""
    variables = [f"-e {shlex.quote(f'{name}={value}')}" for name, value in place.variables().items()]
    begin = f"claude mcp add {shlex.quote(place.server)} -s user"
    return " \\\n  ".join([begin, *variables, f"-- {shlex.join(server_command())}"])


def codex(place: Place) -> str:
    """Return the block for `~/.codex/config.toml`."""
    command, *arguments = server_command()
    # JSON strings are TOML basic strings: the same quotes and escapes.
    table = f"mcp_servers.{json.dumps(place.server)}" if not _is_bare(place.server) else f"mcp_servers.{place.server}"
    variables = [f"{name} = {json.dumps(value)}" for name, value in place.variables().items()]
    return "\n".join(
        [
            f"[{table}]",
            f"command = {json.dumps(command)}",
            f"args = {json.dumps(arguments)}",
            f"startup_timeout_sec = {_START_SECONDS}",
            "",
            f"[{table}.env]",
            *variables,
        ]
    )


def openclaw(place: Place) -> str:
    """Return the `openclaw mcp set` command."""
    return f"openclaw mcp set {shlex.quote(place.server)} {shlex.quote(json.dumps(place.spec()))}"


def hermes(place: Place) -> str:
    """Return the block for Hermes' YAML file."""
    import yaml

    return yaml.safe_dump({"mcp_servers": {place.server: place.spec()}}, sort_keys=False, allow_unicode=True).rstrip()


def json_object(place: Place) -> str:
    """Return the `mcpServers` object that most clients read."""
    return json.dumps({"mcpServers": {place.server: place.spec()}}, indent=2, ensure_ascii=False)


CLIENTS = (
    Client(key="claude-code", title="Claude Code", where="run", render=claude_code, runtime="claude_code"),
    Client(key="codex", title="codex", where="add to ~/.codex/config.toml", render=codex, runtime="codex"),
    Client(
        key="gemini-cli",
        title="Gemini CLI",
        where="merge into ~/.gemini/settings.json",
        render=json_object,
        runtime="gemini_cli",
    ),
    Client(key="hermes", title="Hermes", where="merge into ~/.hermes/config.yaml", render=hermes, runtime="hermes"),
    Client(key="openclaw", title="OpenClaw", where="run", render=openclaw, runtime="openclaw"),
    Client(key="cursor", title="Cursor", where="merge into ~/.cursor/mcp.json", render=json_object),
    Client(key="json", title="any other client", where="merge into its configuration", render=json_object),
)


def _is_bare(name: str) -> bool:
    return bool(name) and all(character.isascii() and (character.isalnum() or character in "-_") for character in name)
