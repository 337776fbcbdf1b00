"""Role-based access control of the tools (contract `runtime.md` 6.4)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.config import RbacConfig

logger = logging.getLogger(__name__)

ROLE_PERMISSIONS: Final[Mapping[str, frozenset[str]]] = {
    "admin": frozenset({"delegate", "approve", "memory.read", "memory.write", "code.run"}),
    "operator": frozenset({"delegate", "approve", "memory.read", "memory.write", "code.run"}),
    "read-only": frozenset({"memory.read"}),
    "memory-readonly": frozenset({"memory.read"}),
    "no-delegation": frozenset({"approve", "memory.read", "memory.write", "code.run"}),
    "no-approval": frozenset({"delegate", "memory.read", "memory.write", "code.run"}),
}
"""The built-in roles and the actions they allow."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """The roles of the workspace. Without a readable configuration it is `read_only()`: the gate fails closed."""

    roles: tuple[str, ...]
    custom: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    @classmethod
    def from_config(cls, rbac: RbacConfig) -> Permissions:
        """Take the roles of a `rbac` block; the log says what in it is easily a mistake."""
        for mistake in likely_mistakes(rbac):
            logger.warning("%s", mistake)
        return cls(tuple(rbac.roles), {role: frozenset(actions) for role, actions in rbac.allowed_actions.items()})

    @classmethod
    def read_only(cls) -> Permissions:
        """Return the permissions of a workspace whose configuration cannot be read."""
        return cls(("read-only",))

    def allows(self, action: str) -> bool:
        """Tell whether one of the roles allows the action; a custom definition replaces a built-in role of the same name."""
        return any(role == "admin" or action in self._actions_of(role) for role in self.roles)

    def denial(self, action: str) -> str:
        """Return the text of a denial, which says which roles would do."""
        granting = sorted(
            role for role in {*ROLE_PERMISSIONS, *self.custom} if role == "admin" or action in self._actions_of(role)
        )
        return (
            f"PERMISSION DENIED: RBAC: action '{action}' denied for roles {list(self.roles)}; "
            f"roles that allow it: {', '.join(granting)} (rbac.roles in config.yaml)"
        )

    def _actions_of(self, role: str) -> frozenset[str]:
        # A custom role that allows nothing is a decision, not a gap for the built-in one to fill.
        return self.custom[role] if role in self.custom else ROLE_PERMISSIONS.get(role, frozenset())


def likely_mistakes(rbac: RbacConfig) -> list[str]:
    """Say what in a `rbac` block is easily a mistake."""
    found = [
        f"rbac.allowed_actions.{role} replaces the built-in role of that name"
        for role in sorted(rbac.allowed_actions.keys() & ROLE_PERMISSIONS.keys())
    ]
    known = ", ".join(sorted({*ROLE_PERMISSIONS, *rbac.allowed_actions}))
    found += [
        f"rbac.roles: {role!r} is no role, and allows nothing; known: {known}"
        for role in rbac.roles
        if role not in rbac.allowed_actions and role not in ROLE_PERMISSIONS
    ]
    return found
