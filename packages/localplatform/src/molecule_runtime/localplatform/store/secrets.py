"""The `secrets` table: values for the process of one workspace, or (None) of every one.

They are stored as they are: a key to encrypt them with would lie beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

MAX_KEYS = 200
"""Secrets of one scope."""

MODEL_KEY = "MODEL"
"""The secret that names a workspace's model (contract 11.3, 24.14)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """One secret without its value; moments in microseconds."""

    key: str
    workspace_id: str | None
    created_at: int
    updated_at: int


def put(connection: sqlite3.Connection, workspace_id: str | None, values: Mapping[str, str], now: int) -> None:
    """Store values of one scope, over those that are there."""
    connection.executemany(
        "INSERT INTO secrets (workspace_id, key, value, created_at, updated_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (coalesce(workspace_id, ''), key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        [(workspace_id, key, value, now, now) for key, value in values.items()],
    )


def count(connection: sqlite3.Connection, workspace_id: str | None) -> int:
    """Return how many secrets a scope has."""
    (found,) = connection.execute("SELECT count(*) FROM secrets WHERE workspace_id IS ?", (workspace_id,)).fetchone()
    return int(found)


def delete(connection: sqlite3.Connection, workspace_id: str | None, key: str) -> bool:
    """Delete one secret of one scope; False when it is not there."""
    deleted = connection.execute("DELETE FROM secrets WHERE workspace_id IS ? AND key = ?", (workspace_id, key))
    return deleted.rowcount > 0


def value_of(connection: sqlite3.Connection, workspace_id: str | None, key: str) -> str | None:
    """Return one value of one scope."""
    found = connection.execute(
        "SELECT value FROM secrets WHERE workspace_id IS ? AND key = ?", (workspace_id, key)
    ).fetchone()
    return None if found is None else str(found["value"])


def values_for(connection: sqlite3.Connection, workspace_id: str) -> dict[str, str]:
    """Return what a workspace's process is given: the values for all, overlaid by its own (contract 11.1)."""
    found = connection.execute(
        "SELECT key, value FROM secrets WHERE workspace_id IS NULL OR workspace_id = ?"
        " ORDER BY workspace_id IS NOT NULL, key",
        (workspace_id,),
    )
    return {row["key"]: row["value"] for row in found}


def of_all(connection: sqlite3.Connection) -> list[SecretRow]:
    """Return the secrets for all workspaces, by key."""
    found = connection.execute(
        "SELECT key, workspace_id, created_at, updated_at FROM secrets WHERE workspace_id IS NULL ORDER BY key"
    )
    return [SecretRow(**dict(row)) for row in found]


def seen_by(connection: sqlite3.Connection, workspace_id: str) -> list[SecretRow]:
    """Return the secrets that a workspace is given, by key: its own, and those for all that it has not overlaid."""
    found = connection.execute(
        "SELECT key, workspace_id, created_at, updated_at FROM secrets WHERE workspace_id = ? OR workspace_id IS NULL"
        " AND key NOT IN (SELECT key FROM secrets WHERE workspace_id = ?) ORDER BY key",
        (workspace_id, workspace_id),
    )
    return [SecretRow(**dict(row)) for row in found]
