"""The `activity` table: what happened to a workspace, and the inbox of those that poll."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

MAX_STORED_BODY = 1024 * 1024
"""Bytes of one stored body; the proxy lets replies of 10 MiB through, which would make the list unreadable for its clients."""

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Bytes of bodies in one page: clients stop reading at 10 MiB. A cursor picks up where the page ended."""

MAX_SEARCHED = 5000
MAX_SEARCHED_BYTES = 8 * 1024 * 1024
"""Rows, and bytes of them, that a search looks through: it takes a moment, in which the database does nothing else."""

_COLUMNS = (
    "seq, id, workspace_id, activity_type, source_id, target_id, method, summary, request_json, response_json, tool_trace_json,"
    " duration_ms, status, error_detail, created_at"
)
_NULL = "null"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityRow:
    """One row; JSON columns as text, moments in microseconds."""

    seq: int
    id: str
    workspace_id: str
    activity_type: str
    source_id: str | None
    target_id: str | None
    method: str | None
    summary: str | None
    request_json: str | None
    response_json: str | None
    tool_trace_json: str | None
    duration_ms: int | None
    status: str
    error_detail: str | None
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewActivity:
    """A row to be stored; bodies are any JSON value, None for none."""

    workspace_id: str
    activity_type: str
    source_id: str | None = None
    target_id: str | None = None
    method: str | None = None
    summary: str | None = None
    request_body: Any = None
    response_body: Any = None
    tool_trace: Any = None
    duration_ms: int | None = None
    status: str = "ok"
    error_detail: str | None = None
    message_id: str | None = None
    """Of a message that is left in an inbox: there it stands once for each sender, however often it is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which rows of a workspace to list (contract 7.1, 24.4)."""

    limit: int = 100
    activity_type: str | None = None
    from_human: bool | None = None
    after_seq: int | None = None
    not_before: int | None = None
    before: int | None = None
    peer_id: str | None = None


def insert(connection: sqlite3.Connection, row: NewActivity, now: int) -> str | None:
    """Store a row and return its id, or None when a message of this id is there already."""
    identifier = str(uuid.uuid4())
    added = connection.execute(
        "INSERT INTO activity (id, workspace_id, activity_type, source_id, target_id, method, summary, request_json, response_json,"
        " tool_trace_json, duration_ms, status, error_detail, message_id, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            identifier,
            row.workspace_id,
            row.activity_type,
            row.source_id,
            row.target_id,
            row.method,
            row.summary,
            encode(row.request_body),
            encode(row.response_body),
            encode(row.tool_trace),
            row.duration_ms,
            row.status,
            row.error_detail,
            row.message_id,
            now,
        ),
    )
    return identifier if added.rowcount else None


def seq_of(connection: sqlite3.Connection, workspace_id: str, row_id: str) -> int | None:
    """Return the place of a row of this workspace, or None when it is unknown, pruned or another's."""
    found = connection.execute(
        "SELECT seq FROM activity WHERE id = ? AND workspace_id = ?", (row_id, workspace_id)
    ).fetchone()
    return None if found is None else int(found["seq"])


def select(connection: sqlite3.Connection, workspace_id: str, query: Query) -> list[ActivityRow]:
    """Return a page: ascending behind `after_seq`, newest first without it."""
    clauses = ["workspace_id = ?"]
    values: list[str | int] = [workspace_id]
    if query.activity_type is not None:
        clauses.append("activity_type = ?")
        values.append(query.activity_type)
    if query.from_human is not None:
        clauses.append("source_id IS NULL" if query.from_human else "source_id IS NOT NULL")
    if query.after_seq is not None:
        clauses.append("seq > ?")
        values.append(query.after_seq)
    if query.not_before is not None:
        clauses.append("created_at >= ?")
        values.append(query.not_before)
    if query.before is not None:
        clauses.append("created_at < ?")
        values.append(query.before)
    if query.peer_id is not None:
        clauses.append("(source_id = ? OR target_id = ?)")
        values += [query.peer_id, query.peer_id]
    order = "ASC" if query.after_seq is not None else "DESC"
    return _page(
        connection.execute(
            f"SELECT {_COLUMNS} FROM activity WHERE {' AND '.join(clauses)} ORDER BY seq {order} LIMIT ?",  # noqa: S608
            (*values, query.limit),
        )
    )


def containing(connection: sqlite3.Connection, workspace_id: str, text: str, limit: int) -> list[ActivityRow]:
    """Return the latest rows of a workspace in which a text occurs, newest first; only its last rows are looked through."""
    # `instr` and not LIKE: nothing in the text is a pattern, and a text that nearly occurs everywhere costs nothing more.
    # Bodies are stored as ASCII.
    within = json.dumps(text)[1:-1]
    found = connection.execute(
        "SELECT seq, coalesce(length(summary), 0) + coalesce(length(request_json), 0) + coalesce(length(response_json), 0) AS size,"
        " instr(lower(summary), lower(?)) OR instr(lower(request_json), lower(?)) OR instr(lower(response_json), lower(?)) AS hit"
        " FROM activity WHERE workspace_id = ? ORDER BY seq DESC LIMIT ?",
        (text, within, within, workspace_id, MAX_SEARCHED),
    )
    hits: list[int] = []
    size = 0
    for row in found:  # one after the other, so that what is not looked at is not read
        if row["hit"]:
            hits.append(row["seq"])
        size += row["size"]
        if len(hits) == limit or size > MAX_SEARCHED_BYTES:
            break
    found.close()
    marks = ", ".join("?" for _ in hits)
    return _page(
        connection.execute(f"SELECT {_COLUMNS} FROM activity WHERE seq IN ({marks}) ORDER BY seq DESC", hits)  # noqa: S608
    )


def select_everywhere(
    connection: sqlite3.Connection, *, workspace_id: str | None, after_seq: int | None, limit: int
) -> list[ActivityRow]:
    """Return rows of every workspace, or of one, ascending: those behind `after_seq`, or the latest."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM activity WHERE (? IS NULL OR workspace_id = ?) AND seq > ?"  # noqa: S608
        f" ORDER BY seq {'DESC' if after_seq is None else 'ASC'} LIMIT ?",
        (workspace_id, workspace_id, after_seq or 0, limit),
    )
    rows = _page(found)
    return rows[::-1] if after_seq is None else rows


def _page(found: sqlite3.Cursor) -> list[ActivityRow]:
    rows: list[ActivityRow] = []
    size = 0
    for record in found:
        row = ActivityRow(**dict(record))
        size += sum(len(text) for text in (row.request_json, row.response_json, row.tool_trace_json) if text)
        if rows and size > MAX_PAGE_BYTES:
            break
        rows.append(row)
    found.close()
    return rows


def prune(connection: sqlite3.Connection, *, before: int, ceiling: int) -> int:
    """Delete old rows (contract 7.1, 24.4) and return how many.

    Rows before `before` go when their workspace has acknowledged them, or never acknowledged any; rows before `ceiling` go in any case.
    """
    return connection.execute(
        "DELETE FROM activity WHERE created_at < ? AND (created_at < ? OR seq <= (SELECT CASE WHEN last_acked_seq = 0 THEN activity.seq"
        " ELSE last_acked_seq END FROM workspaces WHERE workspaces.id = activity.workspace_id))",
        (before, ceiling),
    ).rowcount


def encode(value: Any) -> str | None:
    """Return a JSON value as stored text; one that is too large becomes a note of its size."""
    if value is None:
        return None
    text = json.dumps(value, separators=(",", ":"))
    if text == _NULL:
        return None
    if len(text) > 2 * MAX_STORED_BODY:
        text = json.dumps({"truncated": True, "size": len(text)})
    return text
