"""Hermes: `mcp_servers` in `$HERMES_HOME/config.yaml` (contract `consumers.md` 6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.mcp.delivery.client import FileClient, folder_of
from molecule_runtime.mcp.delivery.yaml_text import Yaml

if TYPE_CHECKING:
    from pathlib import Path


class Hermes(FileClient):
    """The client of Hermes. Its gateway reloads when the block changes, so equal content is never written again."""

    format = Yaml()
    keys = ("mcp_servers",)

    def settings_path(self, config_path: str) -> Path:
        """Return the settings of this user."""
        return folder_of(env.HERMES_HOME, ".hermes") / "config.yaml"


CLIENT = Hermes()
