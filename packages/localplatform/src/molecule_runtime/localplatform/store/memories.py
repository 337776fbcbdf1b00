"""The `memories` table and its full-text index (contract 8.1, 24.10)."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

_STOP_TEXT = """
a about an and are as at be but by did do does for from had has have he her his how i if in into is it its me my
no not of on or our she so that the their them then there these they this to was we were what when where which who why will with you your
"""

STOP_WORDS = frozenset(_STOP_TEXT.split())
"""English words that say nothing; a query of only these finds nothing (contract 8.1)."""

_MAX_TERMS = 32
_WORD = re.compile(r"\w+")
_COLUMNS = (
    "memories.id, memories.workspace_id, memories.scope, memories.namespace, memories.content, memories.kind, memories.source,"
    " memories.pin, memories.expires_at, memories.created_at"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRow:
    """One memory; moments in microseconds."""

    id: str
    workspace_id: str
    scope: str
    namespace: str
    content: str
    kind: str
    source: str
    pin: int
    expires_at: int | None
    created_at: int
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMemory:
    """A memory to be stored."""

    workspace_id: str
    scope: str
    content: str
    namespace: str = "general"
    kind: str = "fact"
    source: str = ""
    pin: bool = False
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Whose memories to look through.

    Attributes:
        owners: of these workspaces; None: of all.
        scopes: of these scopes; None: of all.
    """

    owners: Sequence[str] | None = None
    scopes: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which of them."""

    where: tuple[Where, ...]
    text: str = ""
    namespace: str | None = None
    kind: str | None = None
    limit: int = 50
    now: int


def insert(connection: sqlite3.Connection, new: NewMemory, now: int) -> str:
    """Store a memory and return its id."""
    identifier = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO memories (id, workspace_id, scope, namespace, content, kind, source, pin, expires_at, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            identifier,
            new.workspace_id,
            new.scope,
            new.namespace,
            new.content,
            new.kind,
            new.source,
            int(new.pin),
            new.expires_at,
            now,
        ),
    )
    return identifier


def search(connection: sqlite3.Connection, query: Query) -> list[MemoryRow]:
    """Return memories, the best match first, or without a text the newest first."""
    clauses = ["(memories.expires_at IS NULL OR memories.expires_at > ?)"]
    values: list[str | int] = [query.now]
    wheres = [_where(where, values) for where in query.where]
    clauses.append(f"({' OR '.join(wheres)})" if wheres else "0")
    for column, value in (("namespace", query.namespace), ("kind", query.kind)):
        if value is not None:
            clauses.append(f"memories.{column} = ?")
            values.append(value)
    text = query.text.strip()
    table, order, score = "memories", "memories.number DESC", "NULL"
    if len(text) == 1:
        clauses.append("instr(lower(memories.content), lower(?)) > 0")
        values.append(text)
    elif text:
        terms = _terms(text)
        if not terms:
            return []
        table = "memories_fts JOIN memories ON memories.number = memories_fts.rowid"
        clauses.append("memories_fts MATCH ?")
        values.append(terms)
        order, score = "bm25(memories_fts), memories.number DESC", "-bm25(memories_fts)"
    found = connection.execute(
        f"SELECT {_COLUMNS}, {score} AS score FROM {table} WHERE {' AND '.join(clauses)} ORDER BY {order} LIMIT ?",  # noqa: S608
        (*values, query.limit),
    )
    return [MemoryRow(**dict(row)) for row in found]


def delete(connection: sqlite3.Connection, workspace_id: str, memory_id: str) -> bool:
    """Delete a memory of a workspace; False when it has none of this id."""
    return (
        connection.execute("DELETE FROM memories WHERE id = ? AND workspace_id = ?", (memory_id, workspace_id)).rowcount
        > 0
    )


def expire(connection: sqlite3.Connection, now: int) -> None:
    """Delete what has ended."""
    connection.execute("DELETE FROM memories WHERE expires_at <= ?", (now,))


def _where(where: Where, values: list[str | int]) -> str:
    clauses: list[str] = []
    for column, allowed in (("workspace_id", where.owners), ("scope", where.scopes)):
        if allowed is not None:
            clauses.append(f"memories.{column} IN ({', '.join('?' for _ in allowed)})")
            values.extend(allowed)
    return f"({' AND '.join(clauses)})" if clauses else "1"


def _terms(text: str) -> str:
    """Return a query that asks for every word, each quoted, so that nothing in it is syntax."""
    words = [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS][:_MAX_TERMS]
    return " ".join(f'"{word}"' for word in words)
