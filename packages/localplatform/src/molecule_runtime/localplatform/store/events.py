"""The `events` table: what happened to the team, in the order in which it happened (contract 17.4); bounded."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.localplatform import timestamps

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from molecule_runtime.localplatform.events import Frame

KEPT = 10_000
"""Events that are kept."""

MAX_LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One stored event."""

    id: str
    event_type: str
    workspace_id: str
    payload_json: str
    created_at: int


def insert(connection: sqlite3.Connection, frames: Iterable[Frame]) -> None:
    """Store frames."""
    connection.executemany(
        "INSERT INTO events (id, event_type, workspace_id, payload_json, created_at) VALUES (?, ?, ?, ?, ?)",
        [
            (
                str(uuid.uuid4()),
                frame.event,
                frame.workspace_id,
                json.dumps(dict(frame.payload)),
                timestamps.parse(frame.timestamp),
            )
            for frame in frames
        ],
    )


def newest(connection: sqlite3.Connection, workspace_id: str | None, limit: int) -> list[EventRow]:
    """Return the latest events, of one workspace or (None) of all, newest first."""
    found = connection.execute(
        "SELECT id, event_type, workspace_id, payload_json, created_at FROM events WHERE ? IS NULL OR workspace_id = ?"
        " ORDER BY seq DESC LIMIT ?",
        (workspace_id, workspace_id, limit),
    )
    return [EventRow(**dict(row)) for row in found]


def prune(connection: sqlite3.Connection) -> None:
    """Delete the oldest beyond what is kept."""
    connection.execute("DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?", (KEPT,))
