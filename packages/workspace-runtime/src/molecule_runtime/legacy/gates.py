"""Who is asked for approval on behalf of the workspace of this process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread

from molecule_runtime.legacy import calling
from molecule_runtime.tools import approval_gate
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.permissions import Permissions

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from molecule_runtime.tools import ApprovalGate

__all__ = ["gate"]


@asynccontextmanager
async def gate(bypass_roles: Sequence[str] | None = None) -> AsyncGenerator[ApprovalGate]:
    """Open the gate of this workspace.

    Args:
        bypass_roles: roles that are not asked, in place of `hitl.bypass_roles`.

    Raises:
        ConfigurationError: the environment names no workspace, or `hitl.channels` a channel that nobody delivers to.
        ToolRefusedError: no role of the workspace may ask for approval.
    """
    async with calling.acting() as (config, _):
        read = config.workspace_config
        permissions = Permissions.read_only() if read is None else Permissions.from_config(read.rbac)
        if not permissions.allows("approve"):
            raise ToolRefusedError(permissions.denial("approve"))
        if read is not None and bypass_roles is not None:
            hitl = read.hitl.model_copy(update={"bypass_roles": tuple(bypass_roles)})
            config.workspace_config = read.model_copy(update={"hitl": hitl})
        yield await anyio.to_thread.run_sync(approval_gate, config)
