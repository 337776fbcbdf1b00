"""Keeps every target registered, alive and polled, each on its own: what happens to one tenant affects no other."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core import logs
from molecule_runtime.core.platform import wire
from molecule_runtime.core.presence import Phase, Presence, TargetState, Vitals, agent_card
from molecule_runtime.mcp.poller import InboxPoller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.mcp.store import InboxStore

logger = logging.getLogger(__name__)

_RESTART_PAUSE = 5.0
_MAX_RESTART_PAUSE = 300.0


class Supervisor:
    """The background work of one `molecule-mcp` process: per target, register, heartbeat and poll."""

    def __init__(
        self,
        settings: McpSettings,
        clients: Mapping[str, PlatformClient],
        store: InboxStore | None,
        inbox: PolledInbox | None,
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._store = store
        self._inbox = inbox
        self.states: dict[str, TargetState] = {
            workspace_id: TargetState(phase=Phase.STARTING) for workspace_id in clients
        }
        """How each target is, by workspace id."""

    async def run(self) -> None:
        """Serve every target until cancelled."""
        async with anyio.create_task_group() as group:
            if self._inbox is not None:
                group.start_soon(self._inbox.run)
            for client in self._clients.values():
                group.start_soon(self._serve, client)

    async def _serve(self, client: PlatformClient) -> None:
        with logs.bind(workspace_id=client.workspace_id):
            await self._serve_target(client)

    async def _serve_target(self, client: PlatformClient) -> None:
        async with anyio.create_task_group() as group:
            reachable = anyio.Event()

            async def keep_alive() -> None:
                await self._presence(client, reachable).run()
                # Removed from the platform: nothing of this target has a purpose any more.
                group.cancel_scope.cancel()

            async def poll() -> None:
                # Polling before the first answer to register would only repeat its failure.
                await reachable.wait()
                if self._store is not None and self._inbox is not None:
                    tag_arrival = len(self._clients) > 1
                    await InboxPoller(client, self._store, self._inbox, tag_arrival=tag_arrival).run()

            if self._settings.heartbeat:
                group.start_soon(self._guard, client.workspace_id, "heartbeat", keep_alive)
            else:
                reachable.set()
            if self._inbox is not None:
                group.start_soon(self._guard, client.workspace_id, "inbox", poll)

    def _presence(self, client: PlatformClient, reachable: anyio.Event) -> Presence:
        settings = self._settings

        def registration() -> wire.RegisterRequest:
            card = agent_card(
                settings.name_of(client.workspace_id),
                description=settings.agent_description,
                skills=[{"name": skill} for skill in settings.agent_skills],
            )
            # No inbound address: the platform keeps messages until they are polled (contract `platform-api.md` 24.1).
            return wire.RegisterRequest(id=client.workspace_id, url="", agent_card=card, delivery_mode="poll")

        def on_registered(response: wire.RegisterResponse) -> None:
            if response.auth_token:
                # The platform lets a workspace without any live token in, once (contract `platform-api.md` 4.1).
                logger.warning(
                    "the platform knows no live token of workspace %s: %s was revoked and will be refused, and the new token that "
                    "came with the registration is not kept; make one in the platform's Connect dialog and put it there",
                    client.workspace_id,
                    client.target.token.description,
                )

        def on_state(state: TargetState) -> None:
            self.states[client.workspace_id] = state
            if state.phase is Phase.ONLINE:
                reachable.set()

        return Presence(
            client=client, vitals=Vitals(), registration=registration, on_registered=on_registered, on_state=on_state
        )

    async def _guard(self, workspace_id: str, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Start work again that failed in a way nobody foresaw: a defect in one target's service must not end the process."""
        pause = _RESTART_PAUSE
        while True:
            try:
                await work()
            except Exception:
                logger.exception(
                    "the %s of workspace %s failed and starts again in about %.0f s", what, workspace_id, pause
                )
                self.states[workspace_id] = TargetState(phase=Phase.RETRYING, detail=f"the {what} failed; see the log")
                await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                pause = min(pause * 2, _MAX_RESTART_PAUSE)
            else:
                return
