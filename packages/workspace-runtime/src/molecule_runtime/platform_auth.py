"""The predecessor's `platform_auth`: the headers of requests that a template sends to the platform by itself (contract `runtime.md` 2.2).

They hold the credential of this workspace: only for `a2a_client.PLATFORM_URL`, never for another address.
"""

from __future__ import annotations

import logging

from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import headers_for
from molecule_runtime.core.secretfile import secret_problem

__all__ = [
    "auth_headers",
    "clear_cache",
    "get_token",
    "get_workspace_id",
    "refresh_cache",
    "self_source_headers",
    "validate_workspace_id",
]

logger = logging.getLogger(__name__)


def auth_headers(workspace_id: str | None = None) -> dict[str, str]:
    """Return `Origin`, the bearer token where there is one, and the organisation where there is one; `{}` without a workspace.

    Args:
        workspace_id: None for the workspace of this process. Of another one there is no token here.

    Raises:
        ValueError: `workspace_id` is another workspace.
    """
    return _headers(workspace_id, identify=False)


def self_source_headers(workspace_id: str) -> dict[str, str]:
    """Return the same with `X-Workspace-ID`, for messages that this workspace sends.

    Raises:
        ValueError: `workspace_id` is another workspace.
    """
    return _headers(workspace_id, identify=True)


def get_workspace_id() -> str:
    """Return the id of the workspace of this process.

    Raises:
        ValueError: `WORKSPACE_ID` is not set, or is no id.
    """
    try:
        return load_settings().target.id
    except ConfigurationError as exc:
        raise ValueError(str(exc)) from None


def get_token() -> str | None:
    """Return the token of this workspace, read anew; None where there is none."""
    try:
        return load_settings().target.token.read() or None
    except ConfigurationError:
        return None


def refresh_cache() -> str | None:
    """Return the token; it is read anew each time, so there is no cache to refresh."""
    return get_token()


def clear_cache() -> None:
    """Do nothing: nothing is cached."""


def _headers(workspace_id: str | None, *, identify: bool) -> dict[str, str]:
    try:
        target = load_settings().target
    except ConfigurationError as exc:
        logger.warning("there are no headers for the platform: %s", exc)
        return {}
    if workspace_id not in {None, "", target.id}:
        raise ValueError(
            f"workspace {workspace_id!r} is not the one of this process, {target.id}; its token is not here"
        )
    token = target.token.read()
    if problem := secret_problem(token) if token else None:
        logger.warning("the token of this workspace (%s) is not sent: it %s", target.token.description, problem)
        token = ""
    return headers_for(target, token, identify=identify)
