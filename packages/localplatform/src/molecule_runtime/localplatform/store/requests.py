"""The `requests` and `request_messages` tables: what agents ask of people and of each other (contract 9, 24.8)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sqlite3

MAX_LISTED = 50
MAX_MESSAGES = 1000
"""Of one request."""

OPEN = ("pending", "info_requested")

_COLUMNS = (
    "requests.id, requests.kind, origin, requester_id, recipient_type, recipient_id, title, detail, priority, requests.status,"
    " responder_type, responder_id, task_id, context_json, requests.created_at, requests.updated_at, responded_at"
)
_OPEN = "requests.status IN ('pending', 'info_requested')"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request; moments in microseconds. An approval has `origin` `approvals`, its action as title and its reason as detail."""

    id: str
    kind: str
    origin: str
    requester_id: str
    recipient_type: str
    recipient_id: str
    title: str
    detail: str | None
    priority: int | None
    status: str
    responder_type: str | None
    responder_id: str | None
    task_id: str
    context_json: str
    created_at: int
    updated_at: int
    responded_at: int | None
    requester_name: str | None = None

    @property
    def open(self) -> bool:
        """Whether somebody still has to answer."""
        return self.status in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRow:
    """One message of a request."""

    id: str
    request_id: str
    author_type: str
    author_id: str
    body: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """A request to be stored."""

    kind: str
    origin: Literal["requests", "approvals"]
    requester_id: str
    recipient_type: str
    recipient_id: str = ""
    title: str
    detail: str | None = None
    priority: int | None = None
    task_id: str = ""
    context_json: str = "{}"


def insert(connection: sqlite3.Connection, new: NewRequest, now: int) -> str:
    """Store a request and return its id."""
    identifier = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO requests (id, kind, origin, requester_id, recipient_type, recipient_id, title, detail, priority, task_id,"
        " context_json, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            identifier,
            new.kind,
            new.origin,
            new.requester_id,
            new.recipient_type,
            new.recipient_id,
            new.title,
            new.detail,
            new.priority,
            new.task_id,
            new.context_json,
            now,
            now,
        ),
    )
    return identifier


def get(connection: sqlite3.Connection, request_id: str) -> RequestRow | None:
    """Return one request."""
    rows = _select(connection, "requests.id = ?", (request_id,))
    return rows[0] if rows else None


def outgoing(connection: sqlite3.Connection, workspace_id: str, status: str | None) -> list[RequestRow]:
    """Return what a workspace asked, newest first."""
    return _select(
        connection, "requester_id = ? AND (? IS NULL OR requests.status = ?)", (workspace_id, status, status)
    )


def incoming(connection: sqlite3.Connection, workspace_id: str, status: str | None) -> list[RequestRow]:
    """Return what a workspace was asked, newest first."""
    clause = "recipient_type = 'agent' AND recipient_id = ? AND (? IS NULL OR requests.status = ?)"
    return _select(connection, clause, (workspace_id, status, status))


def approvals(connection: sqlite3.Connection, workspace_id: str) -> list[RequestRow]:
    """Return a workspace's approvals, newest first."""
    return _select(connection, "origin = 'approvals' AND requester_id = ?", (workspace_id,))


def for_the_person(
    connection: sqlite3.Connection,
    *,
    kind: str | None,
    only_open: bool,
    origin: str | None = None,
    limit: int = MAX_LISTED,
) -> list[RequestRow]:
    """Return what the person is asked, newest first."""
    clause = "recipient_type = 'user' AND (? IS NULL OR requests.kind = ?) AND (? IS NULL OR origin = ?)"
    if only_open:
        clause += f" AND {_OPEN}"
    return _select(connection, clause, (kind, kind, origin, origin), limit=limit)


def respond(
    connection: sqlite3.Connection,
    request_id: str,
    *,
    status: Literal["done", "rejected", "approved", "cancelled"],
    responder_type: str | None,
    responder_id: str | None,
    now: int,
) -> bool:
    """Resolve an open request; False when it is not there or already resolved."""
    changed = connection.execute(
        "UPDATE requests SET status = ?, responder_type = ?, responder_id = ?, updated_at = ?, responded_at = ?"  # noqa: S608
        f" WHERE id = ? AND {_OPEN}",
        (status, responder_type, responder_id, now, now, request_id),
    )
    return changed.rowcount > 0


def expire_approvals(connection: sqlite3.Connection, *, older_than: int, now: int) -> list[RequestRow]:
    """Deny approvals that nobody decided in time (contract 9.4) and return them."""
    expired = _select(
        connection, f"origin = 'approvals' AND {_OPEN} AND requests.created_at < ?", (older_than,), limit=1000
    )
    for row in expired:
        respond(connection, row.id, status="rejected", responder_type="user", responder_id="auto-expired", now=now)
    return expired


def add_message(
    connection: sqlite3.Connection,
    request_id: str,
    *,
    author_type: str,
    author_id: str,
    body: str,
    asks: bool,
    now: int,
) -> str:
    """Store a message; `asks` makes an open request wait for its requester. Returns the message's id."""
    identifier = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO request_messages (id, request_id, author_type, author_id, body, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (identifier, request_id, author_type, author_id, body, now),
    )
    connection.execute(
        f"UPDATE requests SET status = CASE WHEN {_OPEN} THEN CASE WHEN ? THEN 'info_requested' ELSE 'pending' END ELSE status END,"  # noqa: S608
        " updated_at = ? WHERE id = ?",
        (asks, now, request_id),
    )
    return identifier


def messages(connection: sqlite3.Connection, request_id: str) -> list[MessageRow]:
    """Return a request's messages, the oldest first."""
    found = connection.execute(
        "SELECT id, request_id, author_type, author_id, body, created_at FROM request_messages WHERE request_id = ?"
        " ORDER BY created_at, rowid LIMIT ?",
        (request_id, MAX_MESSAGES),
    )
    return [MessageRow(**dict(row)) for row in found]


def count_messages(connection: sqlite3.Connection, request_id: str) -> int:
    """Return how many messages a request has."""
    (count,) = connection.execute(
        "SELECT count(*) FROM request_messages WHERE request_id = ?", (request_id,)
    ).fetchone()
    return int(count)


def _select(
    connection: sqlite3.Connection, clause: str, values: tuple[str | int | None, ...], *, limit: int = MAX_LISTED
) -> list[RequestRow]:
    found = connection.execute(
        f"SELECT {_COLUMNS}, workspaces.name AS requester_name FROM requests"  # noqa: S608
        f" LEFT JOIN workspaces ON workspaces.id = requester_id WHERE {clause}"
        " ORDER BY requests.created_at DESC, requests.rowid DESC LIMIT ?",
        (*values, limit),
    )
    return [RequestRow(**dict(row)) for row in found]
