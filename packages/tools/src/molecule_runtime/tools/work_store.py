"""The goal and the tasks of workspaces on disk: one SQLite file (0600), each row under its workspace and platform."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.tools.errors import ToolRefusedError, ToolsError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

FILE_NAME: Final = "work.db"
STATUSES: Final = ("open", "in_progress", "blocked", "completed")
MAX_TASKS: Final = 1000
"""Of one workspace; completed ones make room, the oldest first."""

_VERSION: Final = 1
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE goals (owner TEXT PRIMARY KEY, goal TEXT NOT NULL, cadence_seconds INTEGER NOT NULL, set_at TEXT NOT NULL) STRICT;
CREATE TABLE tasks (
    owner TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, next_action TEXT NOT NULL, status TEXT NOT NULL,
    created_at TEXT NOT NULL, updated_at TEXT NOT NULL, number INTEGER PRIMARY KEY AUTOINCREMENT, UNIQUE (owner, id)
) STRICT;
"""


class WorkStoreError(ToolsError):
    """The file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class WorkStore:
    """What one workspace keeps for itself. Every method blocks, and opens the file anew: processes share it."""

    path: Path
    owner: str

    def goal(self) -> dict[str, Any] | None:
        """Return the standing goal, or None."""
        with self._transaction() as db:
            row = db.execute(
                "SELECT goal, cadence_seconds, set_at FROM goals WHERE owner = ?", (self.owner,)
            ).fetchone()
        return None if row is None else dict(row)

    def set_goal(self, goal: str, cadence_seconds: int) -> dict[str, Any]:
        """Set the goal in place of the old one and return it."""
        row = {"goal": goal, "cadence_seconds": cadence_seconds, "set_at": _now()}
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO goals (owner, goal, cadence_seconds, set_at) VALUES (?, ?, ?, ?)",
                (self.owner, *row.values()),
            )
        return row

    def clear_goal(self) -> bool:
        """Remove the goal; tell whether there was one."""
        with self._transaction() as db:
            return db.execute("DELETE FROM goals WHERE owner = ?", (self.owner,)).rowcount > 0

    def tasks(self, status: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return tasks, what is not completed first and the last changed first, and how many there are in all."""
        where = "owner = ? AND (? = '' OR status = ?)"
        values = (self.owner, status, status)
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT * FROM tasks WHERE {where} ORDER BY status = 'completed', updated_at DESC, number DESC LIMIT ?",  # noqa: S608 - no value is in it
                (*values, limit),
            ).fetchall()
            count: int = db.execute(f"SELECT count(*) FROM tasks WHERE {where}", values).fetchone()[0]  # noqa: S608 - the same
        return [_task(row) for row in rows], count

    def add(self, title: str, next_action: str) -> dict[str, Any]:
        """Add a task and return it.

        Raises:
            ToolRefusedError: there are `MAX_TASKS`, and none is completed.
        """
        now = _now()
        with self._transaction() as db:
            count: int = db.execute("SELECT count(*) FROM tasks WHERE owner = ?", (self.owner,)).fetchone()[0]
            if count >= MAX_TASKS:
                oldest = "SELECT number FROM tasks WHERE owner = ? AND status = 'completed' ORDER BY updated_at, number LIMIT 1"
                if not db.execute(f"DELETE FROM tasks WHERE number = ({oldest})", (self.owner,)).rowcount:  # noqa: S608 - no value is in it
                    raise ToolRefusedError(f"there are {MAX_TASKS} tasks; complete some before you add more")
            task_id = f"t-{secrets.token_hex(6)}"
            db.execute(
                "INSERT INTO tasks (owner, id, title, next_action, status, created_at, updated_at) VALUES (?, ?, ?, ?, 'open', ?, ?)",
                (self.owner, task_id, title, next_action, now, now),
            )
            return self._get(db, task_id)

    def update(self, task_id: str, *, status: str | None = None, next_action: str | None = None) -> dict[str, Any]:
        """Change a task, what is None stays, and return it.

        Raises:
            ToolRefusedError: this workspace has no such task.
        """
        with self._transaction() as db:
            db.execute(
                "UPDATE tasks SET status = coalesce(?, status), next_action = coalesce(?, next_action), updated_at = ?"
                " WHERE owner = ? AND id = ?",
                (status, next_action, _now(), self.owner, task_id),
            )
            return self._get(db, task_id)

    def _get(self, db: sqlite3.Connection, task_id: str) -> dict[str, Any]:
        row = db.execute("SELECT * FROM tasks WHERE owner = ? AND id = ?", (self.owner, task_id)).fetchone()
        if row is None:
            raise ToolRefusedError(
                f"task_id: this workspace has no task {task_id[:80]!r}; task_list shows those it has"
            )
        return _task(row)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made here, because SQLite would make it readable by others.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("BEGIN IMMEDIATE")
                self._prepare(db)
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
        except (OSError, sqlite3.Error) as exc:
            reason = (exc.strerror if isinstance(exc, OSError) else str(exc)) or type(exc).__name__
            raise WorkStoreError(
                f"the goal and the tasks in {self.path} cannot be used: {reason}; see that this user may write it, or move the file away"
            ) from exc

    def _prepare(self, db: sqlite3.Connection) -> None:
        version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer version (format {version})")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")


def _task(row: sqlite3.Row) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "title", "status", "next_action", "created_at", "updated_at")}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
