"""The host's memory of tasks: a host lives for weeks and is restarted in between, and the SDK's own store neither forgets nor keeps."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from a2a.helpers import new_text_message
from a2a.server.owner_resolver import resolve_user_scope
from a2a.types import ListTasksRequest, ListTasksResponse, Task, TaskState
from a2a.utils.errors import InvalidParamsError

from molecule_runtime.a2a.errors import StateFileError

if TYPE_CHECKING:
    import sqlite3

    from a2a.server.context import ServerCallContext

    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.config import TasksConfig

logger = logging.getLogger(__name__)

FINAL_STATES = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_REJECTED,
    }
)

WAITING_STATES = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})
"""A task whose turn is over and that waits for its sender."""

RESTARTED = "Agent error: the host was restarted during this turn; send the message again"

DEFAULT_PAGE = 50
MAX_PAGE = 100
"""Tasks on one page (A2A 1.0, 3.1.4)."""

_MAX_RECENT = 64
_MAX_RECENT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLimits:
    """Which tasks that have ended can still be asked for; the one that ended last always can.

    Attributes:
        max_age: seconds since a task ended, or since one that waits for its sender was last heard of.
        max_finished: tasks.
        max_bytes: of all of them together: a task holds its messages and artifacts, and so files that were sent inline.
    """

    max_age: float = 7 * 24 * 3600.0
    max_finished: int = 1000
    max_bytes: int = 64 * 1024 * 1024


def limits_of(config: TasksConfig) -> TaskLimits:
    """Return the limits that config.yaml sets."""
    return TaskLimits(
        max_age=config.max_age_hours * 3600,
        max_finished=config.max_finished,
        max_bytes=config.max_megabytes * 1024 * 1024,
    )


class Tasks:
    """Keeps every task that runs in memory, and each change of a task's status in the state file.

    What a turn adds between two of those (pieces of an artifact) is stored with the next. A disk that cannot be written costs what
    a restart would have kept, and no turn.
    """

    def __init__(self, state: StateFile, limits: TaskLimits | None = None) -> None:
        self._state = state
        self._limits = limits or TaskLimits()
        self._live: dict[tuple[str, str], Task] = {}
        self._recent: OrderedDict[tuple[str, str], Task] = OrderedDict()
        self._recent_bytes = 0

    async def start(self) -> int:
        """End the tasks whose turn ran when the process before this one ended, and return how many there were."""
        limits = self._limits

        def begin(db: sqlite3.Connection) -> int:
            _evict(db, limits, keep_last=False)
            return _interrupt(db)

        return await self._state.run(begin)

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Save a task at each change of its status; one that has ended may push out the oldest that have.

        While its turn runs, the object itself is what others are shown a copy of.
        """
        key = (resolve_user_scope(context), task.id)
        state = task.status.state
        told = key in self._live
        self._live[key] = task
        # Its sender knows of it by now: what it says on its way need not wait for the disk.
        await self._store(key, task, wait=not told or state in FINAL_STATES or state in WAITING_STATES)
        if (state in FINAL_STATES or state in WAITING_STATES) and self._live.get(key) is task:
            del self._live[key]
            copy = Task()
            copy.CopyFrom(task)
            self._remember(key, copy)

    async def get(self, task_id: str, context: ServerCallContext) -> Task | None:
        """Return a task of this caller."""
        key = (resolve_user_scope(context), task_id)
        known = self._in_memory(key)
        if known is None:
            oldest = time.time() - self._limits.max_age
            try:
                body = await self._state.run(lambda db: _body(db, key, oldest))
            except StateFileError as exc:
                logger.error("task %s cannot be looked up: %s", task_id, exc)  # noqa: TRY400 - the reason is in the text
                return None
            return None if body is None else Task.FromString(body)
        copy = Task()
        copy.CopyFrom(known)
        return copy

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Return a page of this caller's tasks, the one that changed last first."""
        owner = resolve_user_scope(context)
        size = params.page_size or DEFAULT_PAGE
        after = _cursor(params.page_token) if params.page_token else None
        oldest = time.time() - self._limits.max_age
        total, rows = await self._state.run(lambda db: _page(db, owner, params, (size + 1, after, oldest)))
        shown = rows[:size]
        tasks: list[Task] = []
        for task_id, _, body in shown:
            known = self._in_memory((owner, task_id))
            tasks.append(known if known is not None else Task.FromString(body))
        token = _token(shown[-1][1], shown[-1][0]) if len(rows) > size else ""
        return ListTasksResponse(tasks=tasks, next_page_token=token, page_size=size, total_size=total)

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """Delete a task of this caller."""
        key = (resolve_user_scope(context), task_id)
        self._live.pop(key, None)
        self._forget(key)
        await self._state.run(lambda db: db.execute("DELETE FROM tasks WHERE owner = ? AND id = ?", key))

    async def _store(self, key: tuple[str, str], task: Task, *, wait: bool) -> None:
        body = task.SerializeToString()
        updated = _nanoseconds(task)
        final = task.status.state in FINAL_STATES
        values = (*key, task.context_id, task.status.state, updated, time.time() if final else None, len(body), body)
        limits = self._limits

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO tasks (owner, id, context_id, state, updated, ended, bytes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (owner, id) DO UPDATE SET context_id = excluded.context_id, state = excluded.state,"
                " updated = excluded.updated, ended = excluded.ended, bytes = excluded.bytes, body = excluded.body",
                values,
            )
            if final:
                _evict(db, limits, keep_last=True)

        try:
            if wait:
                await self._state.run(write)
            else:
                await self._state.later(write, "the state of a task")
        except StateFileError as exc:
            # Its answer is more than a copy of it: the turn goes on.
            logger.error("task %s is kept in memory only: %s", task.id, exc)  # noqa: TRY400 - the reason is in the text

    def _in_memory(self, key: tuple[str, str]) -> Task | None:
        return self._live.get(key) or self._recent.get(key)

    def _remember(self, key: tuple[str, str], task: Task) -> None:
        self._forget(key)
        self._recent[key] = task
        self._recent_bytes += task.ByteSize()
        # The one that has just ended stays, whatever its size: its sender is about to ask for it.
        most, most_bytes = min(_MAX_RECENT, self._limits.max_finished), min(_MAX_RECENT_BYTES, self._limits.max_bytes)
        while len(self._recent) > 1 and (len(self._recent) > most or self._recent_bytes > most_bytes):
            self._forget(next(iter(self._recent)))

    def _forget(self, key: tuple[str, str]) -> None:
        task = self._recent.pop(key, None)
        if task is not None:
            self._recent_bytes -= task.ByteSize()


def _nanoseconds(task: Task) -> int:
    return task.status.timestamp.ToNanoseconds() if task.status.HasField("timestamp") else time.time_ns()


def _body(db: sqlite3.Connection, key: tuple[str, str], oldest: float) -> bytes | None:
    row = db.execute(
        "SELECT body FROM tasks WHERE owner = ? AND id = ? AND (ended IS NULL OR ended >= ?)", (*key, oldest)
    ).fetchone()
    return None if row is None else row[0]


def _page(
    db: sqlite3.Connection, owner: str, params: ListTasksRequest, page: tuple[int, tuple[int, str] | None, float]
) -> tuple[int, list[tuple[str, int, bytes]]]:
    limit, after, oldest = page
    where, values = ["owner = ?", "(ended IS NULL OR ended >= ?)"], cast("list[object]", [owner, oldest])
    if params.context_id:
        where.append("context_id = ?")
        values.append(params.context_id)
    if params.status:
        where.append("state = ?")
        values.append(params.status)
    if params.HasField("status_timestamp_after"):
        where.append("updated >= ?")
        # SQLite counts to the year 2262, and the protocol to 9999.
        values.append(min(params.status_timestamp_after.ToNanoseconds(), 2**63 - 1))
    # The clauses are the ones above; every value goes in as a parameter.
    (total,) = db.execute(f"SELECT count(*) FROM tasks WHERE {' AND '.join(where)}", values).fetchone()  # noqa: S608 - constants only; every value is a parameter
    if after is not None:
        where.append("(updated, id) < (?, ?)")
        values += after
    rows = db.execute(
        f"SELECT id, updated, body FROM tasks WHERE {' AND '.join(where)} ORDER BY updated DESC, id DESC LIMIT ?",  # noqa: S608 - constants only; every value is a parameter
        [*values, limit],
    ).fetchall()
    return total, rows


def _evict(db: sqlite3.Connection, limits: TaskLimits, *, keep_last: bool) -> None:
    now = time.time()
    count, size = db.execute(
        "SELECT count(*), total(bytes) FROM tasks WHERE ended IS NOT NULL AND ended >= ?", (now - limits.max_age,)
    ).fetchone()
    # The one that has just ended stays, whatever its size.
    while count > (1 if keep_last else 0) and (count > limits.max_finished or size > limits.max_bytes):
        number, freed = db.execute(
            "SELECT number, bytes FROM tasks WHERE ended >= ? ORDER BY ended, number LIMIT 1", (now - limits.max_age,)
        ).fetchone()
        db.execute("DELETE FROM tasks WHERE number = ?", (number,))
        count, size = count - 1, size - freed
    db.execute("DELETE FROM tasks WHERE ended < ?", (now - limits.max_age,))
    db.execute(
        "DELETE FROM tasks WHERE ended IS NULL AND state IN (?, ?) AND updated < ?",
        (*sorted(WAITING_STATES), int((now - limits.max_age) * 1e9)),
    )


def _interrupt(db: sqlite3.Connection) -> int:
    rows = db.execute(
        "SELECT number, body FROM tasks WHERE ended IS NULL AND state NOT IN (?, ?)", sorted(WAITING_STATES)
    ).fetchall()
    for number, body in rows:
        try:
            task = Task.FromString(body)
        except Exception:  # protobuf's own error, of a module without types: half a row is no task
            db.execute("DELETE FROM tasks WHERE number = ?", (number,))
            continue
        if task.status.HasField("message"):
            task.history.append(task.status.message)
        task.status.state = TaskState.TASK_STATE_FAILED
        task.status.message.CopyFrom(new_text_message(RESTARTED, context_id=task.context_id, task_id=task.id))
        task.status.timestamp.GetCurrentTime()
        changed = task.SerializeToString()
        db.execute(
            "UPDATE tasks SET state = ?, updated = ?, ended = ?, bytes = ?, body = ? WHERE number = ?",
            (task.status.state, _nanoseconds(task), time.time(), len(changed), changed, number),
        )
    return len(rows)


def _token(updated: int, task_id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([updated, task_id]).encode()).decode().rstrip("=")


def _cursor(token: str) -> tuple[int, str]:
    try:
        updated, task_id = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        if isinstance(updated, bool) or not isinstance(updated, int) or not isinstance(task_id, str):
            raise TypeError
        if not -(2**63) <= updated < 2**63:
            raise ValueError
    except (ValueError, TypeError):
        raise InvalidParamsError(message="pageToken is not one that this agent gave out") from None
    return updated, task_id
