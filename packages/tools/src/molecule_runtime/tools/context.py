"""What a tool call works with: the served workspaces, their permissions and their inbox."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from molecule_runtime.core import delegation_chain, env
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.registry.arguments import ToolArguments
from molecule_runtime.tools import telemetry
from molecule_runtime.tools.delegation_watch import DelegationWatch
from molecule_runtime.tools.errors import ToolRefusedError, WorkspaceNotNamedError
from molecule_runtime.tools.journal import Journal
from molecule_runtime.tools.memory_routes import MemoryRoutes

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.identity import WorkspaceId
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.audit import AuditTrail
    from molecule_runtime.tools.background import Background
    from molecule_runtime.tools.inbox import Inbox
    from molecule_runtime.tools.permissions import Permissions
    from molecule_runtime.tools.sandbox import Sandbox
    from molecule_runtime.tools.telemetry import Telemetry

_SHOWN_IDS = 50
"""Of the served workspaces, in an error: a process may serve a thousand."""

ArgumentsT = TypeVar("ArgumentsT", bound=ToolArguments)

Progress: TypeAlias = Callable[[str], Awaitable[None]]
"""Tells the caller of a long call what is going on, in a few words."""

DELEGATION_TIMEOUT = 300.0
"""Seconds that `delegate_task` waits for its answer; contract `runtime.md` 7.3."""

DEFAULT_TIER = 1
"""Where neither the configuration nor the environment names one; contract `runtime.md` 6.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeIdentity:
    """The seven values of `get_runtime_identity` (contract `runtime.md` 7.8)."""

    model: str = ""
    model_provider: str = ""
    molecule_model: str = ""
    anthropic_base_url: str = ""
    tier: str = ""
    workspace_id: str = ""
    runtime: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the seven, by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What the tools of one process share. One client per served workspace; nothing else knows a token.

    Attributes:
        clients: by workspace id; may change while the process runs.
        inbox: None where this process does not poll.
        delegation_timeout: seconds that a synchronous delegation may take.
        max_wait: seconds that a tool waits for somebody before it returns how it stands, with a way to go on; None for as long as it
            was asked. Clients that cut calls after a minute need it.
        background: where work goes on whose call has returned for `max_wait`; None for nowhere, and then such calls are held to their end.
        tier: of the workspace, from its configuration; 0 may write what the whole organisation reads (contract `runtime.md` 6.4).
        state_dir: folder for what is to outlive the process; None where there is none.
        files_root: the folder whose files may be sent to people; None for no folder.
        journal: the delegations and approvals that are under way; in memory where it has no folder.
        delegations: what was last seen of delegations.
        memory: which endpoints for memories each platform has, as far as it was asked.
        came_through: for a process that serves one task, the workspaces through which that came, the sender last; a host says it for
            each turn instead (`molecule_runtime.core.delegation_chain`).
        audit: the ledger that every call goes into; None for no ledger.
        sandbox: where code is run; None where the configuration cannot be read.
        telemetry: traces calls where the process has an OpenTelemetry SDK.
        served_status: says how each served workspace is, for `get_runtime_identity`, without asking a platform; None where the process
            does not keep them alive.
    """

    clients: Mapping[str, PlatformClient]
    permissions: Permissions
    inbox: Inbox | None = None
    identity: RuntimeIdentity = field(default_factory=RuntimeIdentity)
    delegation_timeout: float = DELEGATION_TIMEOUT
    max_wait: float | None = None
    background: Background | None = None
    tier: int = DEFAULT_TIER
    state_dir: Path | None = None
    files_root: Path | None = None
    memory: MemoryRoutes = field(default_factory=MemoryRoutes)
    journal: Journal = field(default_factory=Journal)
    delegations: DelegationWatch = field(default_factory=DelegationWatch)
    came_through: tuple[WorkspaceId, ...] = ()
    audit: AuditTrail | None = None
    sandbox: Sandbox | None = None
    telemetry: Telemetry = telemetry.PROCESS
    served_status: Callable[[], Mapping[str, Any]] | None = None

    def client_of(self, workspace_id: str) -> PlatformClient:
        """Return the client of a served workspace.

        Raises:
            ToolRefusedError: it is not served here.
        """
        client = self.clients.get(workspace_id)
        if client is None:
            raise ToolRefusedError(
                f"workspace {workspace_id!r} is not served by this process; source_workspace_id must be one of: {self._served()}"
            )
        return client

    def acting(self, workspace_id: str | None) -> PlatformClient:
        """Return the client that acts: the named workspace, or the only one served. Never a guess among several.

        Raises:
            ToolRefusedError: several are served and none is named, or the named one is not served.
        """
        if workspace_id is not None:
            return self.client_of(workspace_id)
        if len(self.clients) > 1:
            raise WorkspaceNotNamedError(
                f"this process serves several workspaces; name one in source_workspace_id: {self._served()}"
            )
        only = next(iter(self.clients.values()), None)
        if only is None:
            raise ToolRefusedError("this process serves no workspace now; its operator removed the last one")
        return only

    def _served(self) -> str:
        served = list(self.clients)
        more = f" and {len(served) - _SHOWN_IDS} more" if len(served) > _SHOWN_IDS else ""
        return ", ".join(served[:_SHOWN_IDS]) + more if served else "none at the moment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[ArgumentsT]):
    """One call of one tool, with validated arguments."""

    arguments: ArgumentsT
    context: ToolContext
    progress: Progress
    began: float = field(default_factory=time.monotonic)
    """`time.monotonic` at its beginning."""

    def held(self, seconds: float) -> float:
        """Return for how long the call may wait now of the `seconds` that it wants to; see `ToolContext.max_wait`."""
        most = self.context.max_wait
        return seconds if most is None else max(0.0, min(seconds, self.began + most - time.monotonic()))

    @property
    def came_through(self) -> tuple[WorkspaceId, ...]:
        """The workspaces through which the task at hand came, the sender last."""
        return delegation_chain.current() or self.context.came_through

    @property
    def client(self) -> PlatformClient:
        """The client of the workspace that acts."""
        return self.context.acting(self.arguments.acting_workspace_id)

    def require(self, action: str) -> None:
        """Check an action that the registry leaves to the tool, because adapters rely on its list of gated tools.

        Raises:
            ToolRefusedError: no role allows it.
        """
        if not self.context.permissions.allows(action):
            raise ToolRefusedError(self.context.permissions.denial(action))


def tier_of(config: WorkspaceConfig | None, environ: Mapping[str, str] | None = None) -> int:
    """Return the tier of a workspace: what its configuration names, else `WORKSPACE_TIER`, else `DEFAULT_TIER`."""
    if config is not None and "tier" in config.model_fields_set:
        return config.tier
    try:
        tier = int(env.WORKSPACE_TIER.get(environ))
    except ValueError:
        # It must not count as 0, which may do most.
        return DEFAULT_TIER
    return tier if tier >= 0 else DEFAULT_TIER


def peer_id_of(value: str, argument: str) -> WorkspaceId:
    """Return a peer's id that is safe to address.

    Raises:
        ToolRefusedError: naming the argument.
    """
    try:
        return validate_workspace_id(value)
    except ValueError as exc:
        raise ToolRefusedError(f"{argument}: {exc}; list_peers shows the ids of your peers") from None
