"""The clients of the workspaces that this process serves now; which ones may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from molecule_runtime.core.platform.client import PlatformClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.core.targets import WorkspaceTarget


class ServedClients(Mapping[str, PlatformClient]):
    """One client for each served workspace, by its id. An async context manager that closes them.

    Whoever iterates sees the workspaces of that moment, whatever changes meanwhile.
    """

    def __init__(self, pools: ConnectionPools, *, user_agent: str) -> None:
        self.pools = pools
        self._user_agent = user_agent
        self._clients: dict[str, PlatformClient] = {}

    def open(self, target: WorkspaceTarget) -> PlatformClient:
        """Serve one workspace more; its client is in the mapping from now on."""
        client = PlatformClient(target, self.pools, user_agent=self._user_agent)
        self._clients = {**self._clients, target.id: client}
        return client

    async def close(self, client: PlatformClient) -> None:
        """Serve a workspace no more: its requests under way are answered, later ones of calls that go on are refused."""
        if self._clients.get(client.workspace_id) is client:
            self._clients = {known: other for known, other in self._clients.items() if other is not client}
        await client.aclose()

    async def __aenter__(self) -> ServedClients:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    def __getitem__(self, workspace_id: str) -> PlatformClient:
        return self._clients[workspace_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._clients)

    def __len__(self) -> int:
        return len(self._clients)
