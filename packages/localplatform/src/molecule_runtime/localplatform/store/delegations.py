"""The `delegations` table: the June ledger, one row per delegation (contract 24.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from molecule_runtime.localplatform import timestamps

if TYPE_CHECKING:
    import sqlite3

MAX_LISTED = 50
PREVIEW_CHARS = 300

_DEADLINE = 6 * 3600 * timestamps.SECOND
_COLUMNS = (
    "caller_id, delegation_id, callee_id, task, origin, status, idempotency_key, result_preview, error_detail, retry_count, sent_at,"
    " deadline, created_at, updated_at, metadata"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRow:
    """One delegation; moments in microseconds."""

    caller_id: str
    delegation_id: str
    callee_id: str
    task: str
    origin: str
    status: str
    idempotency_key: str | None
    result_preview: str | None
    error_detail: str | None
    retry_count: int
    sent_at: int | None
    deadline: int
    created_at: int
    updated_at: int
    metadata: str | None
    """JSON: what the caller wants in the metadata of the message."""


def insert(
    connection: sqlite3.Connection,
    *,
    caller_id: str,
    delegation_id: str,
    callee_id: str,
    task: str,
    origin: Literal["platform", "agent"],
    idempotency_key: str | None,
    now: int,
    metadata: str | None = None,
) -> bool:
    """Add a delegation; False when the caller already has one of this id."""
    changed = connection.execute(
        "INSERT INTO delegations (caller_id, delegation_id, callee_id, task, origin, status, idempotency_key, deadline, created_at,"
        " updated_at, metadata) VALUES (?, ?, ?, ?, ?, 'dispatched', ?, ?, ?, ?, ?) ON CONFLICT (caller_id, delegation_id) DO NOTHING",
        (caller_id, delegation_id, callee_id, task, origin, idempotency_key, now + _DEADLINE, now, now, metadata),
    )
    return changed.rowcount > 0


def by_key(connection: sqlite3.Connection, caller_id: str, idempotency_key: str) -> DelegationRow | None:
    """Return the delegation that has this key, if it has not failed. A failed one gives its key up: the call proceeds as new."""
    connection.execute(
        "UPDATE delegations SET idempotency_key = NULL WHERE caller_id = ? AND idempotency_key = ? AND status = 'failed'",
        (caller_id, idempotency_key),
    )
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE caller_id = ? AND idempotency_key = ?",  # noqa: S608
        (caller_id, idempotency_key),
    ).fetchone()
    return None if found is None else DelegationRow(**dict(found))


def get(connection: sqlite3.Connection, caller_id: str, delegation_id: str) -> DelegationRow | None:
    """Return one delegation of a caller."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE caller_id = ? AND delegation_id = ?",  # noqa: S608
        (caller_id, delegation_id),
    ).fetchone()
    return None if found is None else DelegationRow(**dict(found))


def newest(connection: sqlite3.Connection, caller_id: str) -> list[DelegationRow]:
    """Return the caller's latest delegations, newest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE caller_id = ? ORDER BY created_at DESC, rowid DESC LIMIT ?",  # noqa: S608
        (caller_id, MAX_LISTED),
    )
    return [DelegationRow(**dict(row)) for row in found]


def newest_of_all(connection: sqlite3.Connection, status: str | None, limit: int) -> list[DelegationRow]:
    """Return the latest delegations of every workspace, newest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE ? IS NULL OR status = ? ORDER BY created_at DESC, rowid DESC LIMIT ?",  # noqa: S608
        (status, status, limit),
    )
    return [DelegationRow(**dict(row)) for row in found]


def count_by_status(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many delegations there are of each status."""
    found = connection.execute("SELECT status, count(*) AS number FROM delegations GROUP BY status")
    return {row["status"]: int(row["number"]) for row in found}


def set_sent(connection: sqlite3.Connection, caller_id: str, delegation_id: str, sent_at: int | None, now: int) -> None:
    """Note that the message left, or (None) that it certainly did not arrive and will be tried again."""
    connection.execute(
        "UPDATE delegations SET sent_at = ?, retry_count = retry_count + ?, updated_at = ? WHERE caller_id = ? AND delegation_id = ?",
        (sent_at, int(sent_at is None), now, caller_id, delegation_id),
    )


def settle(
    connection: sqlite3.Connection,
    *,
    caller_id: str,
    delegation_id: str,
    status: Literal["queued", "completed", "failed"],
    now: int,
    result: str | None = None,
    error: str | None = None,
) -> bool:
    """Move a delegation on; False when there is none or it has already ended, since an end is final."""
    changed = connection.execute(
        "UPDATE delegations SET status = ?, result_preview = ?, error_detail = ?, updated_at = ?"
        " WHERE caller_id = ? AND delegation_id = ? AND status NOT IN ('completed', 'failed')",
        (status, _preview(result), error, now, caller_id, delegation_id),
    )
    return changed.rowcount > 0


def interrupted(connection: sqlite3.Connection) -> list[DelegationRow]:
    """Return what the last process was sending when it ended; delegations that agents send themselves are not among them."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE origin = 'platform' AND status = 'dispatched' ORDER BY created_at"  # noqa: S608
    )
    return [DelegationRow(**dict(row)) for row in found]


def prune(connection: sqlite3.Connection, before: int) -> None:
    """Delete what ended before a moment; its keys end with it (contract 6.1)."""
    connection.execute(
        "DELETE FROM delegations WHERE status IN ('completed', 'failed', 'stuck') AND updated_at < ?", (before,)
    )


def mark_stuck(connection: sqlite3.Connection, now: int) -> None:
    """Mark what is past its deadline."""
    connection.execute(
        "UPDATE delegations SET status = 'stuck', updated_at = ? WHERE deadline < ? AND status IN ('queued', 'dispatched', 'in_progress')",
        (now, now),
    )


def _preview(text: str | None) -> str | None:
    if text is None or len(text) <= PREVIEW_CHARS:
        return text
    return text[:PREVIEW_CHARS] + "..."
