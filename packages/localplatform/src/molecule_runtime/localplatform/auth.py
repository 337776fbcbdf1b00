"""Who asks: bearer tokens, the admin token and the rules of contract 1.5 in their June form (24.5, 24.11).

There is no development mode and no open route among `/workspaces/:id/*`. The checks that read the database run inside the job of the
request that they guard, so that no token can be revoked between check and work.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from molecule_runtime.core.bearer import bearer_of
from molecule_runtime.localplatform import timestamps
from molecule_runtime.localplatform.store import tokens
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable

    from starlette.requests import HTTPConnection

MISSING = "missing workspace auth token"
INVALID = "invalid workspace auth token"
MISSING_CALLER = "missing caller auth token"
INVALID_CALLER = "invalid caller auth token"

_RESERVED_CALLERS = ("webhook:", "system:", "test:", "channel:")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request carries: the hash of its bearer, or None when it carries none."""

    digest: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a message: a workspace, or (None) the human with the admin token."""

    workspace_id: str | None


def credentials_of(request: HTTPConnection) -> Credentials:
    """Read the `Authorization` header; whatever bytes it holds, this does not fail."""
    token = bearer_of(request.scope["headers"])
    return Credentials(None if token is None else tokens.digest(token))


class Auth:
    """Checks credentials; the methods that take a connection run on the database thread."""

    def __init__(self, admin_token: str, clock: Callable[[], float], org_tokens: Iterable[bytes] = ()) -> None:
        self._admin = tokens.digest(admin_token)
        # Few, and asked for with every request of an admin: kept here beside the table.
        self._org = set(org_tokens)
        self._clock = clock
        self._used: dict[str, int] = {}

    def is_admin(self, credentials: Credentials) -> bool:
        """Tell whether this is the admin token, in constant time, or an org token (1.5), which may do as much."""
        if credentials.digest is None:
            return False
        # A look-up by hash tells nothing of the token itself.
        return hmac.compare_digest(credentials.digest, self._admin) or credentials.digest in self._org

    def add_org_token(self, token: str) -> None:
        """Let a new org token in."""
        self._org.add(tokens.digest(token))

    def remove_org_token(self, digest: bytes) -> None:
        """Let a revoked org token in no more."""
        self._org.discard(digest)

    def require_admin(self, credentials: Credentials) -> None:
        """Let only the admin token pass."""
        if credentials.digest is None:
            raise Refusal(401, "admin auth required")
        if not self.is_admin(credentials):
            raise Refusal(401, "invalid admin auth token")

    def owner(self, connection: sqlite3.Connection, credentials: Credentials) -> str | None:
        """Return the workspace whose live token this is."""
        if not credentials.digest:
            return None
        found = tokens.owner(connection, credentials.digest)
        if found is None:
            return None
        token_id, workspace_id = found
        # One write per use would double the cost of every read; the sweep stores these.
        self._used[token_id] = timestamps.from_seconds(self._clock())
        return workspace_id

    def require_workspace(self, connection: sqlite3.Connection, credentials: Credentials, workspace_id: str) -> None:
        """WorkspaceAuth: the admin token, or a live token of exactly this workspace."""
        if credentials.digest is None:
            raise Refusal(401, MISSING)
        if self.is_admin(credentials):
            return
        if self.owner(connection, credentials) != workspace_id:
            raise Refusal(401, INVALID)

    def holder(self, connection: sqlite3.Connection, credentials: Credentials) -> Caller:
        """Return whose token this is, where a route is open to several workspaces."""
        if credentials.digest is None:
            raise Refusal(401, MISSING)
        if self.is_admin(credentials):
            return Caller(None)
        workspace_id = self.owner(connection, credentials)
        if workspace_id is None:
            raise Refusal(401, INVALID)
        return Caller(workspace_id)

    def require_registered(self, connection: sqlite3.Connection, credentials: Credentials, workspace_id: str) -> bool:
        """Lazy bootstrap: pass without credentials while the workspace has no live token.

        Returns:
            Whether the request proved who it is.
        """
        if self.is_admin(credentials):
            return True
        if tokens.count_live(connection, workspace_id) == 0:
            return False
        if credentials.digest is None:
            raise Refusal(401, MISSING)
        if self.owner(connection, credentials) != workspace_id:
            raise Refusal(401, INVALID)
        return True

    def caller(self, connection: sqlite3.Connection, credentials: Credentials, claimed: str | None) -> Caller:
        """Derive the sender of a message from its bearer; a claim that disagrees is refused (24.5)."""
        claimed = (claimed or "").strip()
        if claimed.startswith(_RESERVED_CALLERS):
            raise Refusal(403, "invalid caller ID")
        if credentials.digest is None:
            raise Refusal(401, MISSING_CALLER)
        if self.is_admin(credentials):
            if claimed:
                raise Refusal(401, INVALID_CALLER)
            return Caller(None)
        workspace_id = self.owner(connection, credentials)
        if workspace_id is None or (claimed and claimed != workspace_id):
            raise Refusal(401, INVALID_CALLER)
        return Caller(workspace_id)

    def store_used(self, connection: sqlite3.Connection) -> None:
        """Write down when tokens were last used."""
        used, self._used = self._used, {}
        tokens.stamp_used(connection, used)
