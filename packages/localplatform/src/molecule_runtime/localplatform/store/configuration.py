"""The `workspace_config` table: the configuration of a workspace as the platform keeps it (contract 11.8), one JSON object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3


def get(connection: sqlite3.Connection, workspace_id: str) -> dict[str, Any]:
    """Return the configuration; an empty one where none was stored."""
    found = connection.execute(
        "SELECT data_json FROM workspace_config WHERE workspace_id = ?", (workspace_id,)
    ).fetchone()
    return {} if found is None else json.loads(found["data_json"])


def put(connection: sqlite3.Connection, workspace_id: str, data_json: str, now: int) -> None:
    """Replace the configuration."""
    connection.execute(
        "INSERT INTO workspace_config (workspace_id, data_json, updated_at) VALUES (?, ?, ?)"
        " ON CONFLICT (workspace_id) DO UPDATE SET data_json = excluded.data_json, updated_at = excluded.updated_at",
        (workspace_id, data_json, now),
    )
