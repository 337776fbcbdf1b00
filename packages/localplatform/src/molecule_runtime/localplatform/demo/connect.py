"""The configuration that puts an MCP client on the team, ready to paste. It names the token's file, never the token."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.localplatform.demo.team import script

if TYPE_CHECKING:
    from molecule_runtime.localplatform.team.seats import Seat


def _settings(place: Seat, platform_url: str) -> dict[str, str]:
    return {
        env.WORKSPACE_ID.name: place.workspace_id,
        env.PLATFORM_URL.name: platform_url,
        env.MOLECULE_WORKSPACE_TOKEN_FILE.name: str(place.token_file),
        env.CONFIGS_DIR.name: str(place.folder),
        env.MOLECULE_AGENT_NAME.name: place.member.name,
    }


def claude_code(place: Seat, platform_url: str) -> str:
    """Return the `claude mcp add` command."""
    variables = [f"-e {shlex.quote(f'{name}={value}')}" for name, value in _settings(place, platform_url).items()]
    return " \\\n  ".join(["claude mcp add molecule -s user", *variables, f"-- {shlex.join(script('molecule-mcp'))}"])


def codex(place: Seat, platform_url: str) -> str:
    """Return the block for `~/.codex/config.toml`."""
    command, *arguments = script("molecule-mcp")
    # JSON strings are TOML basic strings: the same quotes and escapes.
    variables = [f"{name} = {json.dumps(value)}" for name, value in _settings(place, platform_url).items()]
    return "\n".join(
        [
            "[mcp_servers.molecule]",
            f"command = {json.dumps(command)}",
            f"args = {json.dumps(arguments)}",
            "startup_timeout_sec = 30",
            "",
            "[mcp_servers.molecule.env]",
            *variables,
        ]
    )
