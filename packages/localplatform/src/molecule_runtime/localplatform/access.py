"""The checks that most handlers begin with: who asks, and is the workspace there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.localplatform import web
from molecule_runtime.localplatform.auth import INVALID, credentials_of
from molecule_runtime.localplatform.store import tokens, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request

    from molecule_runtime.localplatform.auth import Credentials
    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow


async def require_own(platform: Platform, request: Request) -> WorkspaceRow:
    """WorkspaceAuth (1.5) for the workspace in the path, before the body is read; returns its row.

    Raises:
        Refusal: 401 without its token, 404 when it does not exist or was removed.
    """
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)

    def check(connection: sqlite3.Connection) -> WorkspaceRow:
        platform.auth.require_workspace(connection, credentials, workspace_id)
        return require_row(connection, workspace_id)

    return await platform.store.read(check)


async def require_itself(platform: Platform, request: Request) -> WorkspaceRow:
    """WorkspaceAuth with the second check (1.5): where there is a live token, only the workspace's own passes, not the admin's.

    Raises:
        Refusal: 401 or 404, as `require_own`.
    """
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)

    def check(connection: sqlite3.Connection) -> WorkspaceRow:
        platform.auth.require_workspace(connection, credentials, workspace_id)
        row = require_row(connection, workspace_id)
        check_itself(connection, platform, credentials, workspace_id)
        return row

    return await platform.store.read(check)


def check_itself(
    connection: sqlite3.Connection, platform: Platform, credentials: Credentials, workspace_id: str
) -> None:
    """The second check (1.5): a workspace that has a live token is asked with one of its own.

    Raises:
        Refusal: 401.
    """
    if tokens.count_live(connection, workspace_id) and platform.auth.owner(connection, credentials) != workspace_id:
        raise Refusal(401, INVALID)


def require_admin(platform: Platform, request: Request) -> None:
    """Let only the admin token and org tokens pass.

    Raises:
        Refusal: 401.
    """
    platform.auth.require_admin(credentials_of(request))


def require_row(connection: sqlite3.Connection, workspace_id: str) -> WorkspaceRow:
    """Return a workspace that was not removed.

    Raises:
        Refusal: 404.
    """
    row = workspaces.get(connection, workspace_id)
    if row is None or row.removed:
        raise Refusal(404, "workspace not found")
    return row
