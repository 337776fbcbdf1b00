"""The `tokens` table. A token itself is never stored: only its SHA-256 and its first 8 characters."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

MAX_LIVE = 50
"""Live tokens of one workspace (contract 1.3)."""

_PREFIX_CHARS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One live token, as its owner may see it."""

    id: str
    prefix: str
    created_at: int
    last_used_at: int | None


def digest(token: str | bytes) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def mint(connection: sqlite3.Connection, workspace_id: str, *, kind: Literal["instance", "api"], now: int) -> str:
    """Make a token for a workspace and return it, this once."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO tokens (id, workspace_id, kind, hash, prefix, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (str(uuid.uuid4()), workspace_id, kind, digest(token), token[:_PREFIX_CHARS], now),
    )
    return token


def owner(connection: sqlite3.Connection, token_hash: bytes) -> tuple[str, str] | None:
    """Return token id and workspace id of a live token; tokens of removed workspaces are dead."""
    found = connection.execute(
        "SELECT tokens.id AS token_id, tokens.workspace_id FROM tokens JOIN workspaces ON workspaces.id = tokens.workspace_id"
        " WHERE tokens.hash = ? AND tokens.revoked_at IS NULL AND workspaces.status <> 'removed'",
        (token_hash,),
    ).fetchone()
    return None if found is None else (found["token_id"], found["workspace_id"])


def count_live(connection: sqlite3.Connection, workspace_id: str) -> int:
    """Return how many live tokens a workspace has."""
    (count,) = connection.execute(
        "SELECT count(*) FROM tokens WHERE workspace_id = ? AND revoked_at IS NULL", (workspace_id,)
    ).fetchone()
    return int(count)


def live(connection: sqlite3.Connection, workspace_id: str) -> list[TokenRow]:
    """Return the live tokens, newest first."""
    found = connection.execute(
        "SELECT id, prefix, created_at, last_used_at FROM tokens WHERE workspace_id = ? AND revoked_at IS NULL"
        " ORDER BY created_at DESC, id",
        (workspace_id,),
    )
    return [TokenRow(**dict(row)) for row in found]


def revoke(connection: sqlite3.Connection, workspace_id: str, token_id: str, now: int) -> bool:
    """Revoke one token; False when the workspace has no such live token."""
    changed = connection.execute(
        "UPDATE tokens SET revoked_at = ? WHERE workspace_id = ? AND id = ? AND revoked_at IS NULL",
        (now, workspace_id, token_id),
    )
    return changed.rowcount > 0


def revoke_all(connection: sqlite3.Connection, workspace_id: str, now: int) -> None:
    """Revoke every token of a workspace."""
    connection.execute(
        "UPDATE tokens SET revoked_at = ? WHERE workspace_id = ? AND revoked_at IS NULL", (now, workspace_id)
    )


def stamp_used(connection: sqlite3.Connection, used: Mapping[str, int]) -> None:
    """Store when tokens were last used."""
    connection.executemany(
        "UPDATE tokens SET last_used_at = ? WHERE id = ?", [(moment, token_id) for token_id, moment in used.items()]
    )
