"""Carries messages from the inbox to the agent, and answers to those who did not wait for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from a2a.compat.v0_3 import conversions
from a2a.server.context import ServerCallContext
from a2a.types import Message, Role, SendMessageRequest, Task
from a2a.utils.errors import A2AError

from molecule_runtime.a2a.answers import Answers, Sender, answer_of
from molecule_runtime.a2a.inbox import Inbox
from molecule_runtime.a2a.turns import STOPPING
from molecule_runtime.core import envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from molecule_runtime.a2a.conversations import Turn
    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.inbox_rows import InboxMessage
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

UNREADABLE = "Agent error: the message cannot be read"
GIVEN_UP = "Agent error: the host ended or failed each time that it began with this message; it is given up"

_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 5.0


@dataclass(slots=True)
class Postman:
    """The way of messages that do not come, or are not answered, over a connection of their sender.

    Attributes:
        client: of the platform.
        state: where it is kept which messages were handled.
        online: whether the platform knows this workspace by now.
    """

    client: PlatformClient
    state: StateFile
    online: Callable[[], bool]
    answers: Answers = field(init=False)
    _inbox: Inbox | None = None
    _handler: HostHandler | None = None
    _finished: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.answers = Answers(self.client)

    def late(self, turn: Turn) -> None:
        """Send the answer of a turn whose sender was only told that it is in the line."""
        read = envelope.read_message(_json(turn.context.message)) if turn.context.message else envelope.Inbound(text="")
        claimed = read.metadata.get("source_workspace_id")
        sender = Sender.of(read, workspace_id=claimed if isinstance(claimed, str) else None, key=turn.delivery.task_id)
        said = Message(role=Role.ROLE_AGENT, message_id=turn.delivery.task_id, parts=turn.watched.parts)
        answer = answer_of(_json(said))
        if turn.watched.failure:
            answer = envelope.Failure(message=turn.watched.failure)
        self.answers.later(sender, answer)

    async def read_inbox(self, handler: HostHandler) -> None:
        """Run the messages of the inbox until `stop`."""
        self._handler = handler
        inbox = self._inbox = Inbox(self.client, self.state, self._handle, self._give_up)
        try:
            # Before that the platform would only refuse.
            while not self.online() and not inbox.stopping:  # noqa: ASYNC110 - it changes on the presence thread
                await anyio.sleep(_LOOK_SECONDS)
            while not inbox.stopping:
                try:
                    await inbox.run()
                except Exception:  # the inbox must be read whatever one round meets
                    logger.exception("reading the inbox failed; beginning again in %.0f s", _RESTART_SECONDS)
                    await anyio.sleep(_RESTART_SECONDS)
        finally:
            self._finished.set()

    def stop(self) -> None:
        """Begin no more turns from the inbox."""
        if self._inbox is not None:
            self._inbox.stop()

    async def finished(self, seconds: float) -> None:
        """Wait for the answers of the last turns to leave; those that do not are sent after the next start."""
        with anyio.move_on_after(seconds):
            try:
                if self._inbox is not None:
                    await self._finished.wait()
            finally:
                await self.answers.finish()

    async def _handle(self, message: InboxMessage) -> bool:
        answer = await self._answer_to(message)
        if isinstance(answer, envelope.Failure) and answer.message == STOPPING:
            # It comes again after the next start.
            return False
        await self.answers.deliver(message.sender, answer)
        return True

    async def _give_up(self, message: InboxMessage) -> None:
        await self.answers.deliver(message.sender, envelope.Failure(message=GIVEN_UP))

    async def _answer_to(self, message: InboxMessage) -> envelope.Answer:
        if message.request is None or self._handler is None:
            return envelope.Failure(message=UNREADABLE)
        request = SendMessageRequest()
        request.CopyFrom(message.request)
        try:
            result = await self._handler.on_message_send(request, ServerCallContext())
        except A2AError as exc:
            logger.warning("message %s of the inbox was refused: %s", message.row_id, exc)
            return envelope.Failure(message=f"Agent error: {exc}")
        return answer_of(_json(result))


def _json(said: Message | Task) -> dict[str, Any]:
    """Return a Message or a Task as JSON, in the form of 0.3."""
    compatible = conversions.to_compat_task(said) if isinstance(said, Task) else conversions.to_compat_message(said)
    return compatible.model_dump(mode="json", by_alias=True, exclude_none=True)
