"""The `instructions` table: rules that the admin gives to every agent or to one (contract 11.5)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sqlite3

MAX_ROWS = 500

_COLUMNS = "id, scope, scope_target, title, content, priority, enabled, created_at, updated_at"
_ORDER = "scope, priority DESC, created_at, rowid"
"""`global` comes before `workspace`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionRow:
    """One rule; moments in microseconds."""

    id: str
    scope: Literal["global", "workspace"]
    scope_target: str | None
    title: str
    content: str
    priority: int
    enabled: int
    created_at: int
    updated_at: int


def every(connection: sqlite3.Connection) -> list[InstructionRow]:
    """Return every rule, those for all first."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM instructions ORDER BY {_ORDER}")  # noqa: S608
    return [InstructionRow(**dict(row)) for row in found]


def in_force(connection: sqlite3.Connection, workspace_id: str) -> list[InstructionRow]:
    """Return the enabled rules for a workspace: those for all, then its own, each by descending priority."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM instructions WHERE enabled = 1 AND (scope_target IS NULL OR scope_target = ?) ORDER BY {_ORDER}",  # noqa: S608
        (workspace_id,),
    )
    return [InstructionRow(**dict(row)) for row in found]


def get(connection: sqlite3.Connection, instruction_id: str) -> InstructionRow | None:
    """Return one rule."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM instructions WHERE id = ?", (instruction_id,)).fetchone()  # noqa: S608
    return None if found is None else InstructionRow(**dict(found))


def count(connection: sqlite3.Connection) -> int:
    """Return how many rules there are."""
    (found,) = connection.execute("SELECT count(*) FROM instructions").fetchone()
    return int(found)


def insert(
    connection: sqlite3.Connection,
    *,
    scope: str,
    scope_target: str | None,
    title: str,
    content: str,
    priority: int,
    enabled: bool,
    now: int,
) -> str:
    """Add a rule and return its id."""
    identifier = str(uuid.uuid4())
    connection.execute(
        f"INSERT INTO instructions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (identifier, scope, scope_target, title, content, priority, enabled, now, now),
    )
    return identifier


def update(connection: sqlite3.Connection, row: InstructionRow, now: int) -> None:
    """Store a rule that was changed."""
    connection.execute(
        "UPDATE instructions SET scope = ?, scope_target = ?, title = ?, content = ?, priority = ?, enabled = ?, updated_at = ?"
        " WHERE id = ?",
        (row.scope, row.scope_target, row.title, row.content, row.priority, row.enabled, now, row.id),
    )


def delete(connection: sqlite3.Connection, instruction_id: str) -> bool:
    """Delete a rule; False when it is not there."""
    return connection.execute("DELETE FROM instructions WHERE id = ?", (instruction_id,)).rowcount > 0
