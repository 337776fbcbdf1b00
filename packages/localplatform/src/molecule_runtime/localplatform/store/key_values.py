"""The `key_values` table (contract 8.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MAX_KEYS = 1000
MAX_BYTES = 8 * 1024 * 1024
"""Of all values of one workspace: they are listed at once, and clients stop reading at 10 MiB."""

_COLUMNS = "key, value_json, version, expires_at, updated_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRow:
    """One entry; moments in microseconds."""

    key: str
    value_json: str
    version: int
    expires_at: int | None
    updated_at: int


def listed(connection: sqlite3.Connection, workspace_id: str, now: int) -> list[ValueRow]:
    """Return what has not expired, by key."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM key_values WHERE workspace_id = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY key",  # noqa: S608
        (workspace_id, now),
    )
    return [ValueRow(**dict(row)) for row in found]


def get(connection: sqlite3.Connection, workspace_id: str, key: str, now: int) -> ValueRow | None:
    """Return one entry that has not expired."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM key_values WHERE workspace_id = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",  # noqa: S608
        (workspace_id, key, now),
    ).fetchone()
    return None if found is None else ValueRow(**dict(found))


def put(
    connection: sqlite3.Connection,
    workspace_id: str,
    key: str,
    value_json: str,
    *,
    version: int,
    expires_at: int | None,
    now: int,
) -> None:
    """Store an entry under this version."""
    connection.execute(
        "INSERT INTO key_values (workspace_id, key, value_json, version, expires_at, updated_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (workspace_id, key) DO UPDATE SET value_json = excluded.value_json, version = excluded.version,"
        " expires_at = excluded.expires_at, updated_at = excluded.updated_at",
        (workspace_id, key, value_json, version, expires_at, now),
    )


def delete(connection: sqlite3.Connection, workspace_id: str, key: str) -> None:
    """Delete an entry."""
    connection.execute("DELETE FROM key_values WHERE workspace_id = ? AND key = ?", (workspace_id, key))


def has_room(connection: sqlite3.Connection, workspace_id: str, key: str, size: int, now: int) -> bool:
    """Tell whether a workspace may keep a value of so many bytes under this key, beside its others."""
    count, total = connection.execute(
        "SELECT count(*), coalesce(sum(length(CAST(value_json AS BLOB))), 0) FROM key_values"
        " WHERE workspace_id = ? AND key <> ? AND (expires_at IS NULL OR expires_at > ?)",
        (workspace_id, key, now),
    ).fetchone()
    return int(count) < MAX_KEYS and int(total) + size <= MAX_BYTES


def expire(connection: sqlite3.Connection, now: int) -> None:
    """Delete what has expired."""
    connection.execute("DELETE FROM key_values WHERE expires_at <= ?", (now,))
