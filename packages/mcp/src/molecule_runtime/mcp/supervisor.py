"""Serves every target of the process, each on its own: what happens to one tenant affects no other.

Which targets there are may change while it runs: only those that are new, changed or gone are touched.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

import anyio

from molecule_runtime.core.identity import origin_of
from molecule_runtime.mcp import changes as resources
from molecule_runtime.mcp.inbox import mailbox_of
from molecule_runtime.mcp.service import TargetService
from molecule_runtime.mcp.status import FileStatus, TargetStatus, summary
from molecule_runtime.mcp.watching import FileWatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.targets import WorkspaceTarget
    from molecule_runtime.mcp.changes import ResourceChanges
    from molecule_runtime.mcp.events import Events
    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.served import ServedClients
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.mcp.store import InboxStore

logger = logging.getLogger(__name__)

REGISTER_AT_ONCE: Final = 16
"""Targets of one platform that register at the same time: a thousand that do would time each other out."""

ANNOUNCE_SECONDS: Final = 1.0
"""Between two announcements that the status changed: a thousand targets that start make one each second."""


class Supervisor:
    """The background work of one `molecule-mcp` process."""

    def __init__(
        self,
        settings: McpSettings,
        served: ServedClients,
        *,
        store: InboxStore | None = None,
        inbox: PolledInbox | None = None,
        changes: ResourceChanges | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._served = served
        self._store = store
        self._inbox = inbox
        self._changes = changes
        self._environ = environ
        self._services: dict[str, TargetService] = {}
        self._gates: dict[str, anyio.Semaphore] = {}
        self._group: anyio.abc.TaskGroup | None = None
        self._events: Events | None = None
        self._status_changed = anyio.Event()
        self.file: FileStatus | None = None
        """How the file of workspaces is; None where none is followed."""
        if settings.workspaces_file is not None:
            self.file = FileStatus(path=str(settings.workspaces_file))
        for client in served.values():
            self._services[client.workspace_id] = self._service(client)

    @property
    def states(self) -> dict[str, TargetStatus]:
        """How each target is, by workspace id."""
        return {workspace_id: service.status for workspace_id, service in self._services.items()}

    def summary(self) -> dict[str, Any]:
        """Return how the process and its targets are, for people."""
        return summary([service.status for service in self._services.values()], self.file)

    async def run(self) -> None:
        """Serve every target until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._announce)
            if self._inbox is not None:
                group.start_soon(self._inbox.run)
            for service in list(self._services.values()):
                group.start_soon(service.run)
            if self._inbox is not None:
                await self._listen(group)
            if self._settings.workspaces_file is not None:
                watch = FileWatch(
                    self._settings.workspaces_file,
                    self._environ,
                    on_targets=self.apply,
                    on_problems=self._file_problems,
                )
                group.start_soon(watch.run)

    async def apply(self, targets: Sequence[WorkspaceTarget]) -> None:
        """Serve these targets from now on; those that are as they were are not touched."""
        if self.file is not None and self.file.problems:
            logger.warning("%s can be used again: %d workspaces are served", self.file.path, len(targets))
            self._changed()
        if self.file is not None:
            self.file = FileStatus(path=self.file.path)
        wanted = {target.id: target for target in targets}
        gone = [service for workspace_id, service in self._services.items() if workspace_id not in wanted]
        for service in gone:
            await self._end(service, "removed")
        changed = new = 0
        for target in targets:
            known = self._services.get(target.id)
            if known is not None and known.client.target == target:
                continue
            if known is not None:
                changed += 1
                await self._end(known, "changed")
            else:
                new += 1
            await self._begin(target)
        if gone or changed or new:
            logger.info("workspaces: %d new, %d changed, %d removed", new, changed, len(gone))
            self._announce_now(resources.WORKSPACES)
            self._changed()

    async def _begin(self, target: WorkspaceTarget) -> None:
        assert self._group is not None  # noqa: S101 - only while it runs
        client = self._served.open(target)
        service = self._services[target.id] = self._service(client)
        if self._inbox is not None:
            self._inbox.serve(target.id, mailbox_of(target))
            self._enter_events(client)
        self._group.start_soon(service.run)

    async def _end(self, service: TargetService, why: str) -> None:
        client = service.client
        logger.info("workspace %s was %s in the settings", client.workspace_id, why)
        self._services.pop(client.workspace_id, None)
        if self._events is not None:
            self._events.leave(client)
        service.cancel()
        # Out of sight of the tools before anything else is waited for: a call that begins now is refused.
        await self._served.close(client)
        await service.ended()
        if self._inbox is not None:
            await self._inbox.leave(client.workspace_id)
        origin = origin_of(client.target.platform_url)
        if not any(origin_of(other.client.target.platform_url) == origin for other in self._services.values()):
            self._gates.pop(origin, None)

    def _service(self, client: PlatformClient) -> TargetService:
        gate = self._gates.setdefault(origin_of(client.target.platform_url), anyio.Semaphore(REGISTER_AT_ONCE))
        return TargetService(
            client,
            self._settings,
            store=self._store,
            inbox=self._inbox,
            gate=gate,
            spread=len(self._served) > 1,
            tag_arrival=len(self._settings.targets) > 1 or self._settings.workspaces_file is not None,
            on_change=self._service_changed,
        )

    async def _listen(self, group: anyio.abc.TaskGroup) -> None:
        # Late, and after the first registrations are on their way: the WebSocket library takes longer to import than they do.
        events = await anyio.to_thread.run_sync(_load_events)
        self._events = events(self._served.pools)
        await group.start(self._events.run)
        for service in list(self._services.values()):
            self._enter_events(service.client)
            self._events.online(service.client, service.is_online)

    def _enter_events(self, client: PlatformClient) -> None:
        if self._events is not None and self._inbox is not None:
            self._events.enter(client, self._inbox.pacing.of(mailbox_of(client.target)))

    def _service_changed(self, service: TargetService) -> None:
        if self._services.get(service.client.workspace_id) is not service:
            return
        if self._events is not None:
            self._events.online(service.client, service.is_online)
        self._changed()

    def _file_problems(self, problems: list[str]) -> None:
        assert self.file is not None  # noqa: S101 - only a file has problems
        self.file = FileStatus(path=self.file.path, problems=tuple(problems), since=time.time())
        logger.error(
            "the workspaces in %s cannot be used, so the last list that could is still served: %s",
            self.file.path,
            "; ".join(problems[:10]),
        )
        self._changed()

    def _changed(self) -> None:
        self._status_changed.set()

    async def _announce(self) -> None:
        while True:
            await self._status_changed.wait()
            self._status_changed = anyio.Event()
            self._announce_now(resources.STATUS)
            await anyio.sleep(ANNOUNCE_SECONDS)

    def _announce_now(self, uri: str) -> None:
        if self._changes is not None:
            self._changes.announce(uri)


def _load_events() -> type[Events]:
    from molecule_runtime.mcp.events import Events

    return Events
