"""Codex: tables `[mcp_servers.<name>]` in `$CODEX_HOME/config.toml` (contract `runtime.md` 9.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.mcp.delivery.client import FileClient, folder_of
from molecule_runtime.mcp.delivery.toml_text import Toml

if TYPE_CHECKING:
    from pathlib import Path


class Codex(FileClient):
    """The client of Codex. It starts servers with a clean environment, so variables are passed on by name in `env_vars`."""

    format = Toml()
    keys = ("mcp_servers",)
    fields = {  # noqa: RUF012 - a ClassVar of the base
        "command": "command",
        "args": "args",
        "cwd": "cwd",
        "url": "url",
        "headers": "http_headers",
        "bearer_token_env_var": "bearer_token_env_var",
        "env_vars": "env_vars",
        "startup_timeout_sec": "startup_timeout_sec",
        "tool_timeout_sec": "tool_timeout_sec",
        "enabled": "enabled",
        "env": "env",
    }

    def settings_path(self, config_path: str) -> Path:
        """Return the settings of this user."""
        return folder_of(env.CODEX_HOME, ".codex") / "config.toml"


CLIENT = Codex()
