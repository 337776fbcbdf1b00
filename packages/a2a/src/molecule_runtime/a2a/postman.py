"""Carries to the agent what comes over no connection, and answers to those who did not wait for them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from a2a.compat.v0_3 import conversions
from a2a.server.context import ServerCallContext
from a2a.types import Message, Part, Role, SendMessageRequest, Task, TaskState
from a2a.utils.errors import A2AError

from molecule_runtime.a2a.answers import Answers, answer_of
from molecule_runtime.a2a.delegations import Delegations
from molecule_runtime.a2a.inbox import Inbox
from molecule_runtime.a2a.inbox_rows import InboxMessage, InboxResult, InboxUpload
from molecule_runtime.a2a.pending_uploads import PendingUploads
from molecule_runtime.a2a.senders import SOURCE_TYPE, Sender
from molecule_runtime.a2a.turns import STOPPING
from molecule_runtime.core import envelope
from molecule_runtime.core.platform.pending_uploads import UploadLostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from molecule_runtime.a2a.conversations import Turn
    from molecule_runtime.a2a.delegation_store import Telling
    from molecule_runtime.a2a.handler import HostHandler
    from molecule_runtime.a2a.inbox_rows import InboxItem
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

UNREADABLE = "Agent error: the message cannot be read"
GIVEN_UP = "Agent error: the host ended or failed each time that it began with this message; it is given up"

DELEGATION_RESULT = "delegation_result"
"""The source type of a message that tells of delegations that ended."""

_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 5.0


@dataclass(slots=True)
class Postman:
    """The way of messages that do not come, or are not answered, over a connection of their sender.

    Attributes:
        client: of the platform.
        state: where it is kept what was handled.
        workspace: the agent's folder, for files that people left.
        online: whether the platform knows this workspace by now.
        answers: on their way to those who do not wait on a connection.
        delegations: of this workspace.
    """

    client: PlatformClient
    state: StateFile
    workspace: Path
    online: Callable[[], bool]
    answers: Answers = field(init=False)
    delegations: Delegations = field(init=False)
    _uploads: PendingUploads = field(init=False)
    _inbox: Inbox = field(init=False)
    _handler: HostHandler | None = None
    _stopping: bool = False
    _under_way: int = 0
    _finished: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.answers = Answers(self.client, self.state)
        self.delegations = Delegations(self.client, self.state, self._wake)
        self._uploads = PendingUploads(self.client, self.state, self.workspace)
        self._inbox = Inbox(self.client, self.state, self._handle, self._give_up)

    def late(self, turn: Turn) -> None:
        """Send the answer of a turn whose sender was only told that it is in the line."""
        read = (
            envelope.read_message(said_json(turn.context.message))
            if turn.context.message
            else envelope.Inbound(text="")
        )
        claimed = read.metadata.get("source_workspace_id")
        if claimed == self.client.workspace_id:
            # Its own prompt: the answer would come back as one more message.
            return
        sender = Sender.of(read, workspace_id=claimed if isinstance(claimed, str) else None, key=turn.delivery.task_id)
        said = Message(role=Role.ROLE_AGENT, message_id=turn.delivery.task_id, parts=turn.watched.parts)
        answer = answer_of(said_json(said))
        if turn.watched.failure:
            answer = envelope.Failure(message=turn.watched.failure)
        self.answers.later(sender, answer)

    async def read_inbox(self, handler: HostHandler) -> None:
        """Run the messages of the inbox until `stop`."""
        await self._keep_running("reading the inbox", self._inbox.run, handler)

    async def watch_delegations(self, handler: HostHandler) -> None:
        """Tell the agent of the delegations that end until `stop`."""
        await self._keep_running("watching the delegations", self.delegations.run, handler)

    async def _keep_running(self, what: str, run: Callable[[], Awaitable[None]], handler: HostHandler) -> None:
        self._handler = handler
        self._under_way += 1
        try:
            # Before that the platform would only refuse.
            while not self.online() and not self._stopping:  # noqa: ASYNC110 - it changes on the presence thread
                await anyio.sleep(_LOOK_SECONDS)
            while not self._stopping:
                try:
                    await run()
                except Exception:  # it must go on whatever one round meets
                    logger.exception("%s failed; beginning again in %.0f s", what, _RESTART_SECONDS)
                    await anyio.sleep(_RESTART_SECONDS)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._finished.set()

    def stop(self) -> None:
        """Begin no more turns."""
        self._stopping = True
        self._inbox.stop()
        self.delegations.stop()

    async def finished(self, seconds: float) -> None:
        """Wait for the answers of the last turns to leave; those that do not are sent after the next start."""
        with anyio.move_on_after(seconds):
            try:
                if self._under_way:
                    await self._finished.wait()
            finally:
                await self.answers.finish()

    async def _handle(self, item: InboxItem) -> bool:
        match item:
            case InboxResult():
                # Word of it may come from anyone; the list of delegations has the truth.
                self.delegations.look_soon()
                return True
            case InboxUpload():
                try:
                    await self._uploads.fetch(item.upload)
                except UploadLostError as exc:
                    # A message that speaks of it tries again, and says it.
                    logger.warning("a file that waits on the platform cannot be had: %s", exc)
                return True
            case InboxMessage():
                return await self._handle_message(item)

    async def _handle_message(self, message: InboxMessage) -> bool:
        answer = await self._answer_to(message)
        if isinstance(answer, envelope.Failure) and answer.message == STOPPING:
            # It comes again after the next start.
            return False
        await self.answers.deliver(message.sender, answer)
        return True

    async def _give_up(self, item: InboxItem) -> None:
        if isinstance(item, InboxMessage):
            await self.answers.deliver(item.sender, envelope.Failure(message=GIVEN_UP))

    async def _wake(self, telling: Telling) -> bool:
        """Run a turn that tells the agent of delegations; it has a conversation of its own, and so interrupts nobody's."""
        if self._handler is None:
            return False
        own_id = self.client.workspace_id
        message = Message(
            role=Role.ROLE_USER,
            message_id=telling.message_id,
            context_id=f"{DELEGATION_RESULT}-{own_id}",
            parts=[Part(text=telling.text)],
        )
        message.metadata.update(
            {
                "source_workspace_id": own_id,
                SOURCE_TYPE: DELEGATION_RESULT,
                "delegation_ids": list(telling.delegation_ids),
            }
        )
        result = await self._handler.on_message_send(SendMessageRequest(message=message), ServerCallContext())
        answer = answer_of(said_json(result))
        if isinstance(result, Task) and result.status.state == TaskState.TASK_STATE_REJECTED:
            return False
        if isinstance(answer, envelope.Failure):
            if answer.message == STOPPING:
                return False
            logger.warning("the agent failed when it was told of delegations: %s", answer.message)
        return True

    async def _answer_to(self, message: InboxMessage) -> envelope.Answer:
        if message.request is None or self._handler is None:
            return envelope.Failure(message=UNREADABLE)
        request = SendMessageRequest()
        request.CopyFrom(message.request)
        await self._uploads.resolve(request.message)
        try:
            result = await self._handler.on_message_send(request, ServerCallContext())
        except A2AError as exc:
            logger.warning("message %s of the inbox was refused: %s", message.row_id, exc)
            return envelope.Failure(message=f"Agent error: {exc}")
        return answer_of(said_json(result))


def said_json(said: Message | Task) -> dict[str, Any]:
    """Return a Message or a Task as JSON, in the form of 0.3."""
    compatible = conversions.to_compat_task(said) if isinstance(said, Task) else conversions.to_compat_message(said)
    return compatible.model_dump(mode="json", by_alias=True, exclude_none=True)
