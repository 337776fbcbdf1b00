"""Gemini CLI: `mcpServers` in `~/.gemini/settings.json` (contract `consumers.md` 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.mcp.delivery.client import FileClient, home
from molecule_runtime.mcp.delivery.jsonc import Jsonc

if TYPE_CHECKING:
    from pathlib import Path


class GeminiCli(FileClient):
    """The client of Gemini CLI, which calls a streamable HTTP address `httpUrl`."""

    format = Jsonc()
    keys = ("mcpServers",)
    fields = {**FileClient.fields, "url": "httpUrl"}  # noqa: RUF012 - a ClassVar of the base

    def settings_path(self, config_path: str) -> Path:
        """Return the settings of this user."""
        return home() / ".gemini" / "settings.json"


CLIENT = GeminiCli()
