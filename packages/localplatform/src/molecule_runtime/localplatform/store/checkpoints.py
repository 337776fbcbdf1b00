"""The `checkpoints` table: steps of workflows that are done (contract 13.2)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

MAX_STEPS = 1000
MAX_BYTES = 8 * 1024 * 1024
"""Of all payloads of one workflow: its steps are listed at once, and clients stop reading at 10 MiB."""

_COLUMNS = "id, workspace_id, workflow_id, step_name, step_index, payload_json, completed_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """One step; moments in microseconds."""

    id: str
    workspace_id: str
    workflow_id: str
    step_name: str
    step_index: int
    payload_json: str
    completed_at: int


def put(
    connection: sqlite3.Connection,
    *,
    workspace_id: str,
    workflow_id: str,
    step_name: str,
    step_index: int,
    payload_json: str,
    now: int,
) -> str:
    """Store a step, or store it anew, and return its id."""
    found = connection.execute(
        "INSERT INTO checkpoints (id, workspace_id, workflow_id, step_name, step_index, payload_json, completed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (workspace_id, workflow_id, step_name) DO UPDATE SET"
        " step_index = excluded.step_index, payload_json = excluded.payload_json, completed_at = excluded.completed_at RETURNING id",
        (str(uuid.uuid4()), workspace_id, workflow_id, step_name, step_index, payload_json, now),
    ).fetchone()
    return str(found["id"])


def of_workflow(connection: sqlite3.Connection, workspace_id: str, workflow_id: str) -> list[CheckpointRow]:
    """Return the steps of a workflow, the last first."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM checkpoints WHERE workspace_id = ? AND workflow_id = ?"  # noqa: S608
        " ORDER BY step_index DESC, completed_at DESC LIMIT ?",
        (workspace_id, workflow_id, MAX_STEPS),
    )
    return [CheckpointRow(**dict(row)) for row in found]


def latest(connection: sqlite3.Connection, workspace_id: str) -> CheckpointRow | None:
    """Return the step that was done last, of any workflow."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM checkpoints WHERE workspace_id = ? ORDER BY completed_at DESC, step_index DESC LIMIT 1",  # noqa: S608
        (workspace_id,),
    ).fetchone()
    return None if found is None else CheckpointRow(**dict(found))


def delete(connection: sqlite3.Connection, workspace_id: str, workflow_id: str) -> int:
    """Delete a workflow's steps and return how many."""
    return connection.execute(
        "DELETE FROM checkpoints WHERE workspace_id = ? AND workflow_id = ?", (workspace_id, workflow_id)
    ).rowcount


def has_room(connection: sqlite3.Connection, workspace_id: str, workflow_id: str, step_name: str, size: int) -> bool:
    """Tell whether a workflow may have this step, with a payload of so many bytes, beside its others."""
    count, total = connection.execute(
        "SELECT count(*), coalesce(sum(length(CAST(payload_json AS BLOB))), 0) FROM checkpoints"
        " WHERE workspace_id = ? AND workflow_id = ? AND step_name <> ?",
        (workspace_id, workflow_id, step_name),
    ).fetchone()
    return int(count) < MAX_STEPS and int(total) + size <= MAX_BYTES
