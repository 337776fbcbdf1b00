"""The `memories` table and its full-text index (contract 8.1, 24.10)."""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

Scope: TypeAlias = Literal["LOCAL", "TEAM", "GLOBAL"]

_STOP_TEXT = """
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its itself
they them their theirs themselves what which who whom whose this that these those
am is are was were be been being have has had having do does did doing will would shall should can could
a an the and but if or nor because as until while of at by for with about against between into through during before after above below
to from up down in out on off over under again further then once here there when where why how
all any both each few more most other some such no not only own same so than too very just now
s t d m ll re ve don doesn didn isn aren wasn weren hasn haven hadn won wouldn shouldn couldn
"""

STOP_WORDS = frozenset(_STOP_TEXT.split())
"""English words that say nothing, and what is left of those with an apostrophe; a query of only these finds nothing (contract 8.1)."""

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
    scope: Scope
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
    scope: Scope
    content: str
    namespace: str = "general"
    kind: str = "fact"
    source: str = ""
    pin: bool = False
    expires_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Whose memories to look through; what is None does not narrow it down.

    Attributes:
        scope: of this scope.
        owner: of this workspace.
        team: of this workspace and its direct children, without those that were removed.
        org: of this workspace and everything that is or was below it.
    """

    scope: Scope | None = None
    owner: str | None = None
    team: str | None = None
    org: str | None = None


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


# Written out, since a partial index is not used for a value that is bound.
_SCOPES: Mapping[Scope, str] = {
    "LOCAL": "memories.scope = 'LOCAL'",
    "TEAM": "memories.scope = 'TEAM'",
    "GLOBAL": "memories.scope = 'GLOBAL'",
}
_TEAM = "memories.workspace_id IN (SELECT id FROM workspaces WHERE (id = ? OR parent_id = ?) AND status <> 'removed')"
# UNION, and not UNION ALL, ends it whatever the rows say.
_ORG = (
    "memories.workspace_id IN (WITH RECURSIVE org (id) AS (SELECT ? UNION SELECT workspaces.id FROM workspaces"
    " JOIN org ON workspaces.parent_id = org.id) SELECT id FROM org)"
)


def _where(where: Where, values: list[str | int]) -> str:
    clauses: list[str] = []
    if where.scope is not None:
        clauses.append(_SCOPES[where.scope])
    if where.owner is not None:
        clauses.append("memories.workspace_id = ?")
        values.append(where.owner)
    if where.team is not None:
        clauses.append(_TEAM)
        values += [where.team, where.team]
    if where.org is not None:
        clauses.append(_ORG)
        values.append(where.org)
    return f"({' AND '.join(clauses)})" if clauses else "1"


def _terms(text: str) -> str:
    """Return a query that asks for every word, each quoted, so that nothing in it is syntax."""
    # Composed, since an accent that stands apart from its letter would end the word here, and does not in the index.
    words = [word for word in _WORD.findall(unicodedata.normalize("NFC", text)) if word.lower() not in STOP_WORDS]
    return " ".join(f'"{word}"' for word in words[:_MAX_TERMS])
