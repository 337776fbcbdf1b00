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
    text = query.text.strip()
    if len(text) > 1:
        terms = _terms(text)
        hits, values = _matches(query, terms) if terms else ("", [])
    else:
        hits, values = _latest(query, text)
    if not hits:
        return []
    # Which ones is decided by number and score: contents are long, and those that nobody gets are neither sorted nor read.
    chosen = connection.execute(
        f"WITH hits (number, score) AS ({hits}) SELECT number, score FROM hits ORDER BY score DESC, number DESC LIMIT ?",  # noqa: S608
        (*values, query.limit),
    ).fetchall()
    marks = ", ".join("?" for _ in chosen)
    found = connection.execute(
        f"SELECT memories.number, {_COLUMNS} FROM memories WHERE memories.number IN ({marks})",  # noqa: S608
        [hit["number"] for hit in chosen],
    )
    rows = {row["number"]: {key: row[key] for key in row.keys() if key != "number"} for row in found}  # noqa: SIM118
    return [MemoryRow(**rows[hit["number"]], score=hit["score"]) for hit in chosen]


def _matches(query: Query, terms: str) -> tuple[str, list[str | int]]:
    """Return a query for the best matches anywhere, and its values."""
    values: list[str | int] = [terms]
    clauses = ["memories_fts MATCH ?", f"({' OR '.join(_where(where, values) for where in query.where) or '0'})"]
    clauses += _filters(query, values)
    return (
        "SELECT memories.number, -bm25(memories_fts) FROM memories_fts JOIN memories ON memories.number = memories_fts.rowid"  # noqa: S608
        f" WHERE {' AND '.join(clauses)} ORDER BY bm25(memories_fts), memories.number DESC LIMIT ?",
        [*values, query.limit],
    )


def _latest(query: Query, character: str) -> tuple[str, list[str | int]]:
    """Return a query for the latest ones, of each place so many as are asked for, and its values."""
    # Each by itself walks an index from its end and stops in time; an OR of them would read all that there are.
    parts: list[str] = []
    values: list[str | int] = []
    for where in query.where:
        clauses = [_where(where, values), *_filters(query, values)]
        if character:
            clauses.append("instr(lower(memories.content), lower(?)) > 0")
            values.append(character)
        values.append(query.limit)
        parts.append(
            f"SELECT * FROM (SELECT memories.number, NULL FROM memories WHERE {' AND '.join(clauses)}"  # noqa: S608
            " ORDER BY memories.number DESC LIMIT ?)"
        )
    return " UNION ".join(parts), values


def _filters(query: Query, values: list[str | int]) -> list[str]:
    clauses = ["(memories.expires_at IS NULL OR memories.expires_at > ?)"]
    values.append(query.now)
    for column, value in (("namespace", query.namespace), ("kind", query.kind)):
        if value is not None:
            clauses.append(f"memories.{column} = ?")
            values.append(value)
    return clauses


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
_ANY_SCOPE = "memories.scope IN ('LOCAL', 'TEAM', 'GLOBAL')"
_TEAM = "memories.workspace_id IN (SELECT id FROM workspaces WHERE (id = ? OR parent_id = ?) AND status <> 'removed')"
# UNION, and not UNION ALL, ends it whatever the rows say.
_ORG = (
    "memories.workspace_id IN (WITH RECURSIVE org (id) AS (SELECT ? UNION SELECT workspaces.id FROM workspaces"
    " JOIN org ON workspaces.parent_id = org.id) SELECT id FROM org)"
)


def _where(where: Where, values: list[str | int]) -> str:
    # All scopes are named too: within one, the index of a workspace is in the order of the numbers.
    clauses = [_SCOPES[where.scope] if where.scope is not None else _ANY_SCOPE]
    if where.owner is not None:
        clauses.append("memories.workspace_id = ?")
        values.append(where.owner)
    if where.team is not None:
        clauses.append(_TEAM)
        values += [where.team, where.team]
    if where.org is not None:
        clauses.append(_ORG)
        values.append(where.org)
    return f"({' AND '.join(clauses)})"


def _terms(text: str) -> str:
    """Return a query that asks for every word, each quoted, so that nothing in it is syntax."""
    # Composed, since an accent that stands apart from its letter would end the word here, and does not in the index.
    words = [word for word in _WORD.findall(unicodedata.normalize("NFC", text)) if word.lower() not in STOP_WORDS]
    return " ".join(f'"{word}"' for word in words[:_MAX_TERMS])
