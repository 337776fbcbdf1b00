"""The `uploads` tables: files that wait for a workspace that polls (contract 24.9)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow:
    """One file; sizes in bytes, moments in microseconds."""

    id: str
    workspace_id: str
    name: str
    mime_type: str
    size: int
    created_at: int
    expires_at: int
    acked_at: int | None


def insert(
    connection: sqlite3.Connection,
    *,
    workspace_id: str,
    name: str,
    mime_type: str,
    data: bytes,
    now: int,
    expires_at: int,
) -> str:
    """Store a file and return its id."""
    identifier = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO uploads (id, workspace_id, name, mime_type, size, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (identifier, workspace_id, name, mime_type, len(data), now, expires_at),
    )
    view = memoryview(data)
    connection.executemany(
        "INSERT INTO upload_chunks (upload_id, number, data) VALUES (?, ?, ?)",
        ((identifier, start // _CHUNK, view[start : start + _CHUNK]) for start in range(0, len(data), _CHUNK)),
    )
    return identifier


def get(connection: sqlite3.Connection, workspace_id: str, upload_id: str) -> UploadRow | None:
    """Return a file of a workspace, acknowledged ones too."""
    found = connection.execute(
        "SELECT id, workspace_id, name, mime_type, size, created_at, expires_at, acked_at FROM uploads WHERE id = ? AND workspace_id = ?",
        (upload_id, workspace_id),
    ).fetchone()
    return None if found is None else UploadRow(**dict(found))


def content(connection: sqlite3.Connection, upload_id: str) -> bytes:
    """Return the bytes of a file."""
    found: Iterable[sqlite3.Row] = connection.execute(
        "SELECT data FROM upload_chunks WHERE upload_id = ? ORDER BY number", (upload_id,)
    )
    return b"".join(row["data"] for row in found)


def waiting(connection: sqlite3.Connection, workspace_id: str) -> tuple[int, int]:
    """Return how many files wait for a workspace, and their bytes."""
    count, size = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM uploads WHERE workspace_id = ? AND acked_at IS NULL",
        (workspace_id,),
    ).fetchone()
    return int(count), int(size)


def acknowledge(connection: sqlite3.Connection, upload_id: str, now: int) -> None:
    """Let go of a file's bytes; that it was there stays known until it expires."""
    connection.execute("UPDATE uploads SET acked_at = ? WHERE id = ? AND acked_at IS NULL", (now, upload_id))
    connection.execute("DELETE FROM upload_chunks WHERE upload_id = ?", (upload_id,))


def expire(connection: sqlite3.Connection, now: int) -> None:
    """Delete what nobody fetched in time."""
    connection.execute("DELETE FROM uploads WHERE expires_at < ?", (now,))
