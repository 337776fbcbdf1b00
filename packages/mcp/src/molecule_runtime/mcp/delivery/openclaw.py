"""OpenClaw: `mcp.servers` in `~/.openclaw/openclaw.json` (contract `consumers.md` 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.mcp.delivery.client import FileClient, home
from molecule_runtime.mcp.delivery.jsonc import Jsonc

if TYPE_CHECKING:
    from pathlib import Path


class OpenClaw(FileClient):
    """The client of OpenClaw."""

    format = Jsonc()
    keys = ("mcp", "servers")

    def settings_path(self, config_path: str) -> Path:
        """Return the settings of this user."""
        return home() / ".openclaw" / "openclaw.json"


CLIENT = OpenClaw()
