"""The predecessor's `builtin_tools.audit`: event lines, and who may do what (contract `runtime.md` 6.4, 12.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.config import load_config
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.tools.audit import log_event
from molecule_runtime.tools.permissions import ROLE_PERMISSIONS, Permissions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ROLE_PERMISSIONS", "check_permission", "get_workspace_roles", "log_event"]


def check_permission(
    action: str, roles: Iterable[str], custom_permissions: Mapping[str, Iterable[str]] | None = None
) -> bool:
    """Tell whether one of the roles allows the action; a custom definition replaces the built-in role of its name."""
    custom = {role: frozenset(actions) for role, actions in (custom_permissions or {}).items()}
    return Permissions(tuple(roles), custom).allows(action)


def get_workspace_roles() -> tuple[list[str], dict[str, list[str]]]:
    """Return the roles of `config.yaml` and its own definitions; `read-only` where it cannot be read. Read anew each time."""
    try:
        rbac = load_config().rbac
    except ConfigurationError:
        return ["read-only"], {}
    return list(rbac.roles), {role: list(actions) for role, actions in rbac.allowed_actions.items()}
