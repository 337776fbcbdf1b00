"""The `a2a_queue` table: messages for a workspace that was busy (contract 5.6)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MAX_ATTEMPTS = 5

_COLUMNS = (
    "id, workspace_id, caller_id, priority, body_json, method, idempotency_key, status, attempts, last_error, response_body, enqueued_at,"
    " dispatched_at, completed_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One queued message; moments in microseconds."""

    id: str
    workspace_id: str
    caller_id: str | None
    priority: int
    body_json: str = field(repr=False)
    method: str
    idempotency_key: str | None
    status: str
    attempts: int
    last_error: str | None
    response_body: bytes | None = field(repr=False)
    enqueued_at: int
    dispatched_at: int | None
    completed_at: int | None


def enqueue(
    connection: sqlite3.Connection,
    *,
    workspace_id: str,
    caller_id: str | None,
    body_json: str,
    method: str,
    idempotency_key: str | None,
    now: int,
) -> tuple[str, int]:
    """Store a message once per key; returns the queue id and how many wait."""
    found = None
    if idempotency_key is not None:
        found = connection.execute(
            "SELECT id FROM a2a_queue WHERE workspace_id = ? AND idempotency_key = ? AND status IN ('queued', 'dispatched')",
            (workspace_id, idempotency_key),
        ).fetchone()
    identifier = str(uuid.uuid4()) if found is None else str(found["id"])
    if found is None:
        connection.execute(
            "INSERT INTO a2a_queue (id, workspace_id, caller_id, body_json, method, idempotency_key, enqueued_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (identifier, workspace_id, caller_id, body_json, method, idempotency_key, now),
        )
    (depth,) = connection.execute(
        "SELECT count(*) FROM a2a_queue WHERE workspace_id = ? AND status = 'queued'", (workspace_id,)
    ).fetchone()
    return identifier, int(depth)


def depths(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many messages wait for each workspace that has any."""
    found = connection.execute(
        "SELECT workspace_id, count(*) FROM a2a_queue WHERE status = 'queued' GROUP BY workspace_id"
    )
    return {row[0]: row[1] for row in found}


def claim(connection: sqlite3.Connection, workspace_id: str, *, capacity: int, now: int) -> list[QueueRow]:
    """Take the oldest messages for delivery, as many as the workspace has room for beside those already on their way."""
    (underway,) = connection.execute(
        "SELECT count(*) FROM a2a_queue WHERE workspace_id = ? AND status = 'dispatched'", (workspace_id,)
    ).fetchone()
    room = capacity - int(underway)
    if room <= 0:
        return []
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM a2a_queue WHERE workspace_id = ? AND status = 'queued'"  # noqa: S608
        " ORDER BY priority DESC, enqueued_at, rowid LIMIT ?",
        (workspace_id, room),
    ).fetchall()
    connection.executemany(
        "UPDATE a2a_queue SET status = 'dispatched', attempts = attempts + 1, dispatched_at = ? WHERE id = ?",
        [(now, row["id"]) for row in found],
    )
    return [QueueRow(**dict(row)) for row in found]


def complete(connection: sqlite3.Connection, queue_id: str, response_body: bytes, now: int) -> None:
    """Record the answer."""
    connection.execute(
        "UPDATE a2a_queue SET status = 'completed', response_body = ?, last_error = NULL, completed_at = ? WHERE id = ?",
        (response_body, now, queue_id),
    )


def fail(connection: sqlite3.Connection, queue_id: str, error: str, *, final: bool, now: int) -> bool:
    """Record a failed attempt: back into the queue, or, when `final` or tried too often, failed. Returns whether it failed."""
    connection.execute(
        "UPDATE a2a_queue SET status = CASE WHEN ? OR attempts >= ? THEN 'failed' ELSE 'queued' END, last_error = ?,"
        " completed_at = CASE WHEN ? OR attempts >= ? THEN ? ELSE NULL END WHERE id = ?",
        (final, MAX_ATTEMPTS, error, final, MAX_ATTEMPTS, now, queue_id),
    )
    row = get(connection, queue_id)
    return row is None or row.status == "failed"


def drop_stale(connection: sqlite3.Connection, *, workspace_id: str | None, before: int, now: int) -> int:
    """Drop what has waited since before a moment, for one workspace or (None) all; returns how many."""
    return connection.execute(
        "UPDATE a2a_queue SET status = 'dropped', completed_at = ? WHERE status = 'queued' AND enqueued_at <= ?"
        " AND (? IS NULL OR workspace_id = ?)",
        (now, before, workspace_id, workspace_id),
    ).rowcount


def prune(connection: sqlite3.Connection, before: int) -> None:
    """Delete what ended before a moment."""
    connection.execute(
        "DELETE FROM a2a_queue WHERE status IN ('completed', 'failed', 'dropped') AND completed_at < ?", (before,)
    )


def requeue_interrupted(connection: sqlite3.Connection) -> int:
    """Put back what was on its way when the last process ended; returns how many."""
    return connection.execute("UPDATE a2a_queue SET status = 'queued' WHERE status = 'dispatched'").rowcount


def get(connection: sqlite3.Connection, queue_id: str) -> QueueRow | None:
    """Return one message."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM a2a_queue WHERE id = ?", (queue_id,)).fetchone()  # noqa: S608
    return None if found is None else QueueRow(**dict(found))
