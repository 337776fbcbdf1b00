"""Counts over all tables, for whoever watches the platform (contract 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

Figure = tuple[str, str, list[tuple[dict[str, str], int]]]
"""Name, meaning, and the samples: labels and value."""

_BY_STATUS = (
    ("workspaces", "Workspaces by status.", "workspaces"),
    ("queued_messages", "Messages for busy workspaces by status.", "a2a_queue"),
    ("delegations", "Delegations by status.", "delegations"),
    ("requests", "Requests by status.", "requests"),
)


def counts(connection: sqlite3.Connection) -> list[Figure]:
    """Return every figure."""
    found: list[Figure] = []
    for name, meaning, table in _BY_STATUS:
        rows = connection.execute(f"SELECT status, count(*) FROM {table} GROUP BY status ORDER BY status")  # noqa: S608
        found.append((name, meaning, [({"status": str(status)}, int(count)) for status, count in rows]))
    (rows_of_activity,) = connection.execute("SELECT coalesce(max(seq), 0) FROM activity").fetchone()
    found.append(("activity_seq", "Number of the last row of activity.", [({}, int(rows_of_activity))]))
    return found
