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

PREFIX_CHARS = 8
"""Of a token, which are stored and shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One live token, as its owner may see it."""

    id: str
    prefix: str
    created_at: int
    last_used_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgTokenRow:
    """One live org token."""

    id: str
    name: str
    prefix: str
    hash: bytes
    created_at: int


def digest(token: str | bytes) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode() if isinstance(token, str) else token).digest()


def mint(connection: sqlite3.Connection, workspace_id: str, *, kind: Literal["instance", "api"], now: int) -> str:
    """Make a token for a workspace and return it, this once."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO tokens (id, workspace_id, kind, hash, prefix, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (str(uuid.uuid4()), workspace_id, kind, digest(token), token[:PREFIX_CHARS], now),
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


def revoke_all(connection: sqlite3.Connection, workspace_id: str, now: int) -> int:
    """Revoke every token of a workspace and return how many."""
    return connection.execute(
        "UPDATE tokens SET revoked_at = ? WHERE workspace_id = ? AND revoked_at IS NULL", (now, workspace_id)
    ).rowcount


def live_of_org(connection: sqlite3.Connection) -> list[OrgTokenRow]:
    """Return the live org tokens, newest first."""
    found = connection.execute(
        "SELECT id, name, prefix, hash, created_at FROM org_tokens WHERE revoked_at IS NULL ORDER BY created_at DESC, id"
    )
    return [OrgTokenRow(**dict(row)) for row in found]


def mint_org(connection: sqlite3.Connection, name: str, *, now: int) -> tuple[str, str]:
    """Make an org token; returns its id and, this once, the token."""
    identifier, token = str(uuid.uuid4()), secrets.token_urlsafe(32)
    connection.execute(
        "INSERT INTO org_tokens (id, name, hash, prefix, created_at) VALUES (?, ?, ?, ?, ?)",
        (identifier, name, digest(token), token[:PREFIX_CHARS], now),
    )
    return identifier, token


def revoke_org(connection: sqlite3.Connection, token_id: str, now: int) -> bytes | None:
    """Revoke an org token and return its hash, or None when there is no such live one."""
    found = connection.execute(
        "UPDATE org_tokens SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL RETURNING hash", (now, token_id)
    ).fetchone()
    return None if found is None else bytes(found["hash"])


def stamp_used(connection: sqlite3.Connection, used: Mapping[str, int]) -> None:
    """Store when tokens were last used."""
    connection.executemany(
        "UPDATE tokens SET last_used_at = ? WHERE id = ?", [(moment, token_id) for token_id, moment in used.items()]
    )
