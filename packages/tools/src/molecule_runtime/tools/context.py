"""What a tool call works with: the served workspaces, their permissions and their inbox."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.registry.arguments import ToolArguments
from molecule_runtime.tools.errors import ToolRefusedError

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.inbox import Inbox
    from molecule_runtime.tools.permissions import Permissions

ArgumentsT = TypeVar("ArgumentsT", bound=ToolArguments)

Progress: TypeAlias = Callable[[str], Awaitable[None]]
"""Tells the caller of a long call what is going on, in a few words."""

DELEGATION_TIMEOUT = 300.0
"""Seconds that `delegate_task` waits for its answer; contract `runtime.md` 7.3."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What the tools of one process share. One client per served workspace; nothing else knows a token.

    Attributes:
        clients: by workspace id; at least one.
        inbox: None where this process does not poll.
        delegation_timeout: seconds that a synchronous delegation may take.
    """

    clients: Mapping[str, PlatformClient]
    permissions: Permissions
    inbox: Inbox | None = None
    identity: RuntimeIdentity = field(default_factory=RuntimeIdentity)
    delegation_timeout: float = DELEGATION_TIMEOUT

    def client_of(self, workspace_id: str) -> PlatformClient:
        """Return the client of a served workspace.

        Raises:
            ToolRefusedError: it is not served here.
        """
        client = self.clients.get(workspace_id)
        if client is None:
            raise ToolRefusedError(
                f"workspace {workspace_id!r} is not served by this process; source_workspace_id must be one of: {', '.join(self.clients)}"
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
            raise ToolRefusedError(
                f"this process serves several workspaces; name one in source_workspace_id: {', '.join(self.clients)}"
            )
        return next(iter(self.clients.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[ArgumentsT]):
    """One call of one tool, with validated arguments."""

    arguments: ArgumentsT
    context: ToolContext
    progress: Progress

    @property
    def client(self) -> PlatformClient:
        """The client of the workspace that acts."""
        return self.context.acting(self.arguments.acting_workspace_id)


def peer_id_of(value: str, argument: str) -> str:
    """Return a peer's id that is safe to address.

    Raises:
        ToolRefusedError: naming the argument.
    """
    try:
        return validate_workspace_id(value)
    except ValueError as exc:
        raise ToolRefusedError(f"{argument}: {exc}; list_peers shows the ids of your peers") from None
