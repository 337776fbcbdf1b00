"""How the platform has processes of workspaces started and stopped: through whoever runs them here, if anybody does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Provisioner(Protocol):
    """Runs the processes of some workspaces. Every method returns when the order is taken, not when the process is up."""

    def knows(self, workspace_id: str) -> bool:
        """Tell whether it runs this workspace."""
        ...

    def folder(self, workspace_id: str) -> Path:
        """Return the folder of the workspace's configuration and plugins."""
        ...

    async def start(self, workspace_id: str) -> None:
        """Run the process, if it does not run."""
        ...

    async def stop(self, workspace_id: str) -> None:
        """End the process and leave it ended."""
        ...

    async def restart(self, workspace_id: str) -> None:
        """End the process, if it runs, and run it anew."""
        ...


class Hosting:
    """The provisioner of one platform: none, until one is attached."""

    def __init__(self) -> None:
        self._provisioner: Provisioner | None = None

    def attach(self, provisioner: Provisioner | None) -> None:
        """Take a provisioner into service, or (None) out of it."""
        self._provisioner = provisioner

    def of(self, workspace_id: str) -> Provisioner | None:
        """Return who runs a workspace, or None when nobody here does."""
        provisioner = self._provisioner
        return provisioner if provisioner is not None and provisioner.knows(workspace_id) else None
