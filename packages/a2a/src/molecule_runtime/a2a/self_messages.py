"""Says something to this workspace's own agent, as a turn like any other: the first prompt, and those of an agent with nothing to do.

Where the platform delivers by itself, the message goes through it, so that its row is logged and people see it, marked as the agent's own
and not as something that a person typed (contract `workspace-host.md` 5.4). Where that fails, and where messages are read from the inbox
(from which it would come back as one more message), it goes straight to the agent. Both ways carry one message id, caller and content, so
that a message which arrives twice runs once (`molecule_runtime.a2a.once`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from a2a.server.context import ServerCallContext
from a2a.types import Message, Part, Role, SendMessageRequest
from a2a.utils.errors import A2AError

from molecule_runtime.a2a.answers import answer_of
from molecule_runtime.a2a.postman import said_json
from molecule_runtime.a2a.senders import SOURCE_TYPE
from molecule_runtime.core import envelope
from molecule_runtime.core.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.turns import TurnExecutor
    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

QUEUE_SECONDS = 30.0
"""For a message that the platform put into a line to arrive."""

UNDER_WAY = envelope.Accepted(mode="under-way")
"""The turn was begun, and goes on."""


@dataclass(slots=True, kw_only=True)
class SelfMessages:
    """The ways of a message to this workspace's own agent.

    Attributes:
        client: of the platform.
        handler: which runs the message as a turn.
        turns: which tell that the turn begins.
        through_platform: whether the platform delivers by itself.
    """

    client: PlatformClient
    handler: HostHandler
    turns: TurnExecutor
    through_platform: bool

    async def send(
        self,
        text: str,
        *,
        message_id: str,
        kind: str,
        seconds: float,
        on_begin: Callable[[], Awaitable[None]] | None = None,
    ) -> envelope.Answer:
        """Run a turn and return its answer, or `UNDER_WAY` when it is not there after `seconds`.

        Args:
            text: what the agent is told.
            message_id: the same for each attempt to say the same.
            kind: what kind of message it is.
            seconds: for each of the two ways.
            on_begin: done before the agent sees the message; where it is not reached, there was no turn.
        """
        begun = anyio.Event()

        async def begin() -> None:
            if on_begin is not None:
                await on_begin()
            begun.set()

        self.turns.before[message_id] = begin
        try:
            if self.through_platform:
                answer = await self._through_platform(text, message_id, kind, seconds, begun)
                if answer is not None:
                    return answer
            return await self._straight(text, message_id, kind, seconds)
        finally:
            self.turns.before.pop(message_id, None)

    async def _through_platform(
        self, text: str, message_id: str, kind: str, seconds: float, begun: anyio.Event
    ) -> envelope.Answer | None:
        """Send through the platform; None when it did not bring the message."""
        own_id = self.client.workspace_id
        try:
            answer = await self.client.send_message(
                own_id, text, message_id=message_id, metadata={SOURCE_TYPE: kind}, timeout=seconds
            )
        except PlatformError as exc:
            if begun.is_set():
                # The agent is at work on it; nobody but the platform's log wanted the answer.
                return UNDER_WAY
            logger.info(
                "the platform does not bring this workspace's own message (%s); it goes straight to the agent", exc
            )
            return None
        if isinstance(answer, envelope.Accepted):
            with anyio.move_on_after(QUEUE_SECONDS):
                await begun.wait()
        # A failure without a turn is one of the way: a gate that wants a credential, for one.
        return answer if begun.is_set() or isinstance(answer, envelope.Reply) else None

    async def _straight(self, text: str, message_id: str, kind: str, seconds: float) -> envelope.Answer:
        message = Message(role=Role.ROLE_USER, message_id=message_id, parts=[Part(text=text)])
        message.metadata.update({SOURCE_TYPE: kind, "source_workspace_id": self.client.workspace_id})
        with anyio.move_on_after(seconds):
            try:
                result = await self.handler.on_message_send(SendMessageRequest(message=message), ServerCallContext())
            except A2AError as exc:
                return envelope.Failure(message=f"{type(exc).__name__}: {exc}")
            return answer_of(said_json(result))
        return UNDER_WAY
