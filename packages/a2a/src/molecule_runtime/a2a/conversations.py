"""Who is at work in which conversation, and who waits: one turn at a time runs in each, in the order in which messages came."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from a2a.server.agent_execution import RequestContext
from a2a.types import Message, Part, SendMessageRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molecule_runtime.a2a.once import Delivery
    from molecule_runtime.a2a.watched import WatchedQueue

INTERRUPTED = "(This answer was interrupted by the messages that follow. So far it said: {said})"
"""What an agent that begins anew is told of what it had said (contract `runtime.md` 13.2)."""

_MAX_SAID = 4000


class Word(Enum):
    """What a turn that waits is told."""

    RUN = "run"
    SHARED = "shared"
    CANCELLED = "cancelled"
    STOPPING = "stopping"


@dataclass(slots=True, eq=False)
class Turn:
    """One message, from its arrival to its answer.

    Attributes:
        context: what the adapter is given.
        watched: where its events go.
        delivery: of the message.
        work: the adapter's run, while there is one.
        cancelled: whether the sender cancelled it.
        interrupted: whether newer messages are to be answered together with it.
        sharing: turns that this one answers too.
        given_up: done once nobody waits for the adapter's run any more.
    """

    context: RequestContext
    watched: WatchedQueue
    delivery: Delivery
    work: asyncio.Task[Any] | None = None
    cancelled: bool = False
    interrupted: bool = False
    stopping: bool = False
    sharing: list[Turn] = field(default_factory=list["Turn"])
    given_up: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _word: asyncio.Future[Word] | None = None

    def line_up(self) -> None:
        """Be told from now on, also before it begins to wait: its sender is acknowledged first."""
        self._word = asyncio.get_running_loop().create_future()

    async def wait(self) -> Word:
        """Wait until it may run, or need not any more."""
        assert self._word is not None  # noqa: S101 - it is in the line
        return await self._word

    def give_up(self) -> None:
        """Wait no more for a run that goes on although it was cancelled."""
        if not self.given_up.done():
            self.given_up.set_result(None)

    def tell(self, word: Word) -> bool:
        """Say what it waits for; False when it does not wait any more."""
        if self._word is None or self._word.done():
            return False
        self._word.set_result(word)
        return True

    @property
    def waits(self) -> bool:
        """Whether it still waits to be told."""
        return self._word is not None and not self._word.done()


@dataclass(slots=True, eq=False)
class Conversation:
    """The turns of one context: the one that runs first, and those that wait."""

    running: Turn
    waiting: deque[Turn] = field(default_factory=deque["Turn"])


class Conversations:
    """The conversations in which the agent is at work."""

    def __init__(self, *, most_waiting: int) -> None:
        self._most_waiting = most_waiting
        self._busy: dict[str, Conversation] = {}

    def enter(self, turn: Turn) -> int | None:
        """Let a turn in: 0 when it may run, else its place in the line; None when that is full."""
        name = turn.context.context_id or ""
        conversation = self._busy.get(name)
        if conversation is None:
            self._busy[name] = Conversation(turn)
            return 0
        if len(conversation.waiting) >= self._most_waiting:
            return None
        turn.line_up()
        conversation.waiting.append(turn)
        return len(conversation.waiting)

    def running_with(self, turn: Turn) -> Turn:
        """Return the turn that runs in the conversation of this one."""
        return self._busy[turn.context.context_id or ""].running

    def take_waiting(self, turn: Turn) -> list[Turn]:
        """Take the turns that wait behind this one out of the line, to be answered by it."""
        conversation = self._busy[turn.context.context_id or ""]
        taken = [waiting for waiting in conversation.waiting if waiting.waits]
        conversation.waiting.clear()
        return taken

    def leave(self, turn: Turn) -> None:
        """Let a turn out; the next in the line may run."""
        name = turn.context.context_id or ""
        conversation = self._busy.get(name)
        if conversation is None:
            return
        if conversation.running is not turn:
            if turn in conversation.waiting:
                conversation.waiting.remove(turn)
            return
        # Whom it was to answer too, and did not, comes first.
        conversation.waiting.extendleft(reversed(turn.sharing))
        while conversation.waiting:
            following = conversation.waiting.popleft()
            if following.tell(Word.RUN):
                conversation.running = following
                return
        del self._busy[name]


def together(turn: Turn, others: Sequence[Turn]) -> RequestContext:
    """Return the context of a turn that begins anew: its message, what it had said, and the messages that came since."""
    message = Message()
    assert turn.context.message is not None  # noqa: S101 - a turn that runs has one
    message.CopyFrom(turn.context.message)
    said = "\n".join(part.text for part in turn.watched.parts if part.text)[:_MAX_SAID]
    if said:
        message.parts.append(Part(text=INTERRUPTED.format(said=said)))
    for other in others:
        if other.context.message is not None:
            message.parts.extend(other.context.message.parts)
    request = SendMessageRequest(message=message)
    if turn.context.configuration is not None:
        request.configuration.CopyFrom(turn.context.configuration)
    return RequestContext(
        call_context=turn.context.call_context,
        request=request,
        task_id=turn.context.task_id,
        context_id=turn.context.context_id,
        task=turn.context.current_task,
    )
