"""What the data folder remembers of a team between two starts: which workspace and which port each member had."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME = "team.json"
_VERSION = 1
_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A member as it was."""

    workspace_id: str
    port: int = 0


@dataclass(slots=True)
class Roster:
    """The members by name."""

    path: Path
    members: dict[str, Known] = field(default_factory=dict[str, Known])

    @classmethod
    def read(cls, folder: Path) -> Roster:
        """Return what is remembered; nothing when there is no file, or none that can be read (members are then found by name)."""
        roster = cls(folder / FILE_NAME)
        try:
            with roster.path.open("rb") as handle:
                data: object = json.loads(handle.read(_MAX_BYTES))
        except FileNotFoundError:
            return roster
        except (OSError, ValueError, RecursionError) as exc:
            logger.warning("%s cannot be read (%s); members are found by name", roster.path, exc)
            return roster
        for name, known in _mapping(_mapping(data).get("members")).items():
            entry = _mapping(known)
            workspace_id, port = entry.get("workspace_id"), entry.get("port")
            if isinstance(workspace_id, str):
                roster.members[name] = Known(workspace_id=workspace_id, port=port if isinstance(port, int) else 0)
        return roster

    def remember(self, name: str, known: Known) -> None:
        """Store a member, where it differs from what is stored.

        Raises:
            OSError: the file cannot be written.
        """
        if self.members.get(name) != known:
            self.members[name] = known
            self._write()

    def forget(self, name: str) -> None:
        """Drop a member.

        Raises:
            OSError: the file cannot be written.
        """
        if self.members.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        data = {"version": _VERSION, "members": {name: asdict(known) for name, known in self.members.items()}}
        write_private(self.path, json.dumps(data, indent=1) + "\n")


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
