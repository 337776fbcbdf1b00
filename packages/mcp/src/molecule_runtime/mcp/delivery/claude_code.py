"""Claude Code: `mcpServers` in `<config_path>/.claude/settings.json` (contract `runtime.md` 9.1)."""

from __future__ import annotations

from pathlib import Path

from molecule_runtime.mcp.delivery.client import FileClient
from molecule_runtime.mcp.delivery.jsonc import Jsonc


class ClaudeCode(FileClient):
    """The client of Claude Code."""

    format = Jsonc()
    keys = ("mcpServers",)

    def settings_path(self, config_path: str) -> Path:
        """Return the settings of this workspace."""
        return Path(config_path, ".claude", "settings.json")


CLIENT = ClaudeCode()
