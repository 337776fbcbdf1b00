"""Keeps one target registered, alive and polled, whatever becomes of the others."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core import logs
from molecule_runtime.core.platform import wire
from molecule_runtime.core.presence import (
    EXTERNAL_INTERVAL,
    Phase,
    Presence,
    TargetState,
    Vitals,
    agent_card,
)
from molecule_runtime.mcp.inbox import mailbox_of
from molecule_runtime.mcp.poller import InboxPoller
from molecule_runtime.mcp.status import InboxPhase, InboxState, TargetStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.mcp.store import InboxStore

logger = logging.getLogger(__name__)

RESTART_PAUSE: Final = 5.0
"""Seconds before work that failed in a way nobody foresaw starts again; doubled each time."""

MAX_RESTART_PAUSE: Final = 300.0


class TargetService:
    """The background work for one target."""

    def __init__(
        self,
        client: PlatformClient,
        settings: McpSettings,
        *,
        store: InboxStore | None,
        inbox: PolledInbox | None,
        gate: anyio.Semaphore,
        spread: bool,
        tag_arrival: bool,
        on_change: Callable[[TargetService], None],
    ) -> None:
        """Prepare the work; nothing is sent before `run`.

        Args:
            client: bound to the target.
            settings: of the process.
            store: the inbox file; None where this process does not poll.
            inbox: the inbox; None where this process does not poll.
            gate: how many targets of the platform register at the same time.
            spread: whether the first heartbeat comes at a random moment, so that those of many targets spread out.
            tag_arrival: whether messages say for which workspace they came.
            on_change: told of each change of phase.
        """
        self.client = client
        self._settings = settings
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._reachable = anyio.Event()
        self._failed: TargetState | None = None
        self._on_change = on_change
        self._inbox = inbox
        self._pace = None if inbox is None else inbox.pacing.of(mailbox_of(client.target))
        self._poller: InboxPoller | None = None
        if store is not None and inbox is not None:
            self._poller = InboxPoller(client, store, inbox, tag_arrival=tag_arrival)
        self._presence = Presence(
            client=client,
            vitals=Vitals(),
            registration=lambda: self._registration,
            first_beat=EXTERNAL_INTERVAL * random.uniform(0.05, 1.0) if spread else None,  # noqa: S311 - jitter
            turn=lambda: gate,
            on_registered=self._registered,
            on_state=self._state_changed,
        )

    @property
    def status(self) -> TargetStatus:
        """How the target is now."""
        target = self.client.target
        state = self._failed or self._presence.state
        return TargetStatus(
            workspace_id=target.id,
            platform_url=target.platform_url,
            source=target.source,
            phase=state.phase,
            detail=state.detail,
            since=state.since,
            last_beat=self._presence.state.last_beat,
            failures=state.failures,
            inbox=self._inbox_state(),
            events=self._pace is not None and self._pace.is_hinted,
        )

    @property
    def is_online(self) -> bool:
        """Whether the platform took its last registration or heartbeat."""
        return self._presence.state.phase is Phase.ONLINE

    async def run(self) -> None:
        """Serve the target until it is stopped, or removed from its platform."""
        try:
            with self._scope, logs.bind(workspace_id=self.client.workspace_id):
                async with anyio.create_task_group() as group:

                    async def keep_alive() -> None:
                        await self._presence.run()
                        # Removed from the platform: nothing of this target has a purpose any more.
                        group.cancel_scope.cancel()

                    async def poll() -> None:
                        # Polling before the first answer to register would only repeat its failure.
                        await self._reachable.wait()
                        if self._poller is not None:
                            await self._poller.run()

                    if self._settings.heartbeat:
                        group.start_soon(self._guard, "heartbeat", keep_alive)
                    else:
                        self._reachable.set()
                    if self._poller is not None:
                        group.start_soon(self._guard, "inbox", poll)
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """Have the work end."""
        self._scope.cancel()

    async def ended(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    @cached_property
    def _registration(self) -> wire.RegisterRequest:
        # Nothing of it changes while the target is served, and every heartbeat carries its card.
        settings = self._settings
        card = agent_card(
            settings.name_of(self.client.workspace_id),
            description=settings.agent_description,
            skills=[{"name": skill} for skill in settings.agent_skills],
        )
        # No inbound address: the platform keeps messages until they are polled (contract `platform-api.md` 24.1).
        return wire.RegisterRequest(id=self.client.workspace_id, url="", agent_card=card, delivery_mode="poll")

    def _registered(self, response: wire.RegisterResponse) -> None:
        if response.auth_token:
            # The platform lets a workspace without any live token in, once (contract `platform-api.md` 4.1).
            logger.warning(
                "the platform knows no live token of workspace %s: %s was revoked and will be refused, and the new token that "
                "came with the registration is not kept; make one in the platform's Connect dialog and put it there",
                self.client.workspace_id,
                self.client.target.token.description,
            )

    def _state_changed(self, state: TargetState) -> None:
        self._failed = None
        if state.phase is Phase.ONLINE:
            self._reachable.set()
        self._on_change(self)

    def _inbox_state(self) -> InboxState:
        if self._poller is None:
            return InboxState()
        if not self._reachable.is_set():
            return InboxState(phase=InboxPhase.STARTING)
        state = self._poller.state
        if self._inbox is not None and self._inbox.polls(mailbox_of(self.client.target)) is False:
            return replace(state, phase=InboxPhase.ELSEWHERE)
        return state

    async def _guard(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Start work again that failed in a way nobody foresaw: a defect in one target's service must not end the process."""
        pause = RESTART_PAUSE
        while True:
            try:
                await work()
            except Exception:
                logger.exception(
                    "the %s of workspace %s failed and starts again in about %.0f s",
                    what,
                    self.client.workspace_id,
                    pause,
                )
                self._failed = TargetState(phase=Phase.RETRYING, detail=f"the {what} failed; see the log")
                self._on_change(self)
                await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                pause = min(pause * 2, MAX_RESTART_PAUSE)
                self._failed = None
            else:
                return
