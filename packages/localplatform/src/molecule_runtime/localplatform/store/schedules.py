"""The `schedules` table, and what the engine does with it (contract 12).

A run passes through three states, each stored before the next begins: claimed, when it is due and `next_run_at` moves on; sent, when the
prompt leaves; recorded, when the claim is given up. What a stopped process leaves is therefore plain: claimed but not sent is sent later,
sent but not recorded may have been done and is not repeated.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MAX_ROWS = 100
"""Schedules of one workspace."""

MAX_HISTORY = 20
"""Contract 12.5."""

_COLUMNS = (
    "id, workspace_id, name, cron_expr, timezone, prompt, enabled, source, next_run_at, last_run_at, run_count, last_status, last_error,"
    " consecutive_empty_runs, claimed_due_at, claimed_at, sent_at, created_at, updated_at"
)
_QUALIFIED = ", ".join(f"schedules.{column.strip()}" for column in _COLUMNS.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """One schedule; moments in microseconds.

    Attributes:
        claimed_due_at: when the run that is under way was due.
        claimed_at: since when it is.
        sent_at: when its prompt left.
    """

    id: str
    workspace_id: str
    name: str
    cron_expr: str
    timezone: str
    prompt: str = field(repr=False)
    enabled: int
    source: str
    next_run_at: int | None
    last_run_at: int | None
    run_count: int
    last_status: str
    last_error: str
    consecutive_empty_runs: int
    claimed_due_at: int | None
    claimed_at: int | None
    sent_at: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of the past."""

    created_at: int
    duration_ms: int | None
    status: str
    error_detail: str | None
    request_json: str | None


def of_workspace(connection: sqlite3.Connection, workspace_id: str) -> list[ScheduleRow]:
    """Return the schedules of a workspace, oldest first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM schedules WHERE workspace_id = ? ORDER BY created_at, rowid",  # noqa: S608
        (workspace_id,),
    )
    return [_row(row) for row in found]


def get(connection: sqlite3.Connection, workspace_id: str, schedule_id: str) -> ScheduleRow | None:
    """Return one schedule of a workspace."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM schedules WHERE id = ? AND workspace_id = ?",  # noqa: S608
        (schedule_id, workspace_id),
    ).fetchone()
    return None if found is None else _row(found)


def named(connection: sqlite3.Connection, workspace_id: str, name: str) -> str | None:
    """Return the id of the schedule of this name; a workspace has one at most (12.2)."""
    found = connection.execute(
        "SELECT id FROM schedules WHERE workspace_id = ? AND name = ?", (workspace_id, name)
    ).fetchone()
    return None if found is None else str(found["id"])


def insert(
    connection: sqlite3.Connection,
    *,
    workspace_id: str,
    name: str,
    cron_expr: str,
    timezone: str,
    prompt: str,
    enabled: bool,
    next_run_at: int | None,
    now: int,
) -> str:
    """Add a schedule and return its id."""
    identifier = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO schedules (id, workspace_id, name, cron_expr, timezone, prompt, enabled, next_run_at, created_at, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (identifier, workspace_id, name, cron_expr, timezone, prompt, enabled, next_run_at, now, now),
    )
    return identifier


def update(connection: sqlite3.Connection, row: ScheduleRow, now: int) -> None:
    """Store what its owner may change; one that is switched off gives up a run whose prompt has not left."""
    connection.execute(
        "UPDATE schedules SET name = ?, cron_expr = ?, timezone = ?, prompt = ?, enabled = ?, next_run_at = ?, updated_at = ? WHERE id = ?",
        (row.name, row.cron_expr, row.timezone, row.prompt, row.enabled, row.next_run_at, now, row.id),
    )
    if not row.enabled and row.sent_at is None:
        release(connection, row.id)


def delete(connection: sqlite3.Connection, workspace_id: str, schedule_id: str) -> bool:
    """Delete a schedule; False when the workspace has no such one."""
    deleted = connection.execute("DELETE FROM schedules WHERE id = ? AND workspace_id = ?", (schedule_id, workspace_id))
    return deleted.rowcount > 0


def due(connection: sqlite3.Connection, *, now: int, known_since: int | None, limit: int) -> list[ScheduleRow]:
    """Return the schedules that are due and have no run under way, the longest due first.

    Those of workspaces that are there but sent no heartbeat since `known_since` wait, unless that is None.
    """
    found = connection.execute(
        f"SELECT {_QUALIFIED} FROM schedules JOIN workspaces ON workspaces.id = schedules.workspace_id"  # noqa: S608
        " WHERE schedules.enabled = 1 AND schedules.claimed_due_at IS NULL AND schedules.next_run_at <= ?"
        " AND workspaces.status NOT IN ('removed', 'paused')"
        " AND NOT (? IS NOT NULL AND workspaces.status IN ('online', 'degraded') AND coalesce(workspaces.last_heartbeat_at, 0) < ?)"
        " ORDER BY schedules.next_run_at, schedules.rowid LIMIT ?",
        (now, known_since, known_since, limit),
    )
    return [_row(row) for row in found]


def claim(connection: sqlite3.Connection, row: ScheduleRow, *, next_run_at: int | None, now: int) -> None:
    """Begin a run: it is no longer due."""
    connection.execute(
        "UPDATE schedules SET next_run_at = ?, claimed_due_at = ?, claimed_at = ?, sent_at = NULL WHERE id = ?",
        (next_run_at, row.next_run_at, now, row.id),
    )


def move_on(connection: sqlite3.Connection, schedule_id: str, next_run_at: int | None) -> None:
    """Let a due run pass without a trace."""
    connection.execute("UPDATE schedules SET next_run_at = ? WHERE id = ?", (next_run_at, schedule_id))


def refuse(connection: sqlite3.Connection, schedule_id: str, error: str) -> None:
    """Stop a schedule that can no longer be read, such as one in a time zone that this machine does not know."""
    connection.execute(
        "UPDATE schedules SET next_run_at = NULL, last_status = 'error', last_error = ? WHERE id = ?",
        (error, schedule_id),
    )


def claimed(connection: sqlite3.Connection) -> list[tuple[ScheduleRow, bool]]:
    """Return the runs under way, the longest first, with whether their workspace is busy now."""
    found = connection.execute(
        f"SELECT {_QUALIFIED}, workspaces.active_tasks >= workspaces.max_concurrent_tasks AS busy"  # noqa: S608
        " FROM schedules JOIN workspaces ON workspaces.id = schedules.workspace_id"
        " WHERE schedules.claimed_due_at IS NOT NULL ORDER BY schedules.claimed_at, schedules.claimed_due_at, schedules.rowid"
    )
    return [(_row(row), bool(row["busy"])) for row in found]


def set_sent(connection: sqlite3.Connection, row: ScheduleRow, now: int) -> ScheduleRow | None:
    """Record that the prompt of a run leaves; returns the schedule as it is now, or None when the run was given up meanwhile."""
    found = connection.execute(
        f"UPDATE schedules SET sent_at = ? WHERE id = ? AND claimed_due_at = ? AND sent_at IS NULL RETURNING {_COLUMNS}",  # noqa: S608
        (now, row.id, row.claimed_due_at),
    ).fetchone()
    return None if found is None else _row(found)


def release(connection: sqlite3.Connection, schedule_id: str) -> None:
    """Give up the claim of a run."""
    connection.execute(
        "UPDATE schedules SET claimed_due_at = NULL, claimed_at = NULL, sent_at = NULL WHERE id = ?", (schedule_id,)
    )


def record(
    connection: sqlite3.Connection,
    row: ScheduleRow,
    *,
    status: str,
    error: str,
    ran: bool,
    empty: bool | None,
    now: int,
) -> bool:
    """End a run; False when this very run is not under way, since its schedule was deleted or it was recorded already.

    It counts as a run when the prompt left (`ran`). `empty` says whether the answer was; None, when there was none, leaves the count of
    empty ones as it is.
    """
    recorded = connection.execute(
        "UPDATE schedules SET claimed_due_at = NULL, claimed_at = NULL, sent_at = NULL,"
        " last_run_at = CASE WHEN ? THEN ? ELSE last_run_at END, run_count = run_count + ?, last_status = ?, last_error = ?,"
        " consecutive_empty_runs = CASE ? WHEN 1 THEN consecutive_empty_runs + 1 WHEN 0 THEN 0 ELSE consecutive_empty_runs END"
        " WHERE id = ? AND claimed_due_at = ?",
        (ran, now if row.sent_at is None else row.sent_at, ran, status, error, empty, row.id, row.claimed_due_at),
    )
    return recorded.rowcount > 0


def history(connection: sqlite3.Connection, workspace_id: str, schedule_id: str) -> list[RunRow]:
    """Return the last runs of a schedule, newest first."""
    found = connection.execute(
        "SELECT created_at, duration_ms, status, error_detail, request_json FROM activity WHERE workspace_id = ?"
        " AND activity_type = 'cron_run' AND json_extract(request_json, '$.schedule_id') = ? ORDER BY seq DESC LIMIT ?",
        (workspace_id, schedule_id, MAX_HISTORY),
    )
    return [RunRow(**dict(row)) for row in found]


def _row(found: sqlite3.Row) -> ScheduleRow:
    data = dict(found)
    data.pop("busy", None)
    return ScheduleRow(**data)
