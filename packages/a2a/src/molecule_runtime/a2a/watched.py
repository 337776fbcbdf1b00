"""The adapter's view of the SDK's event queue: remembers what went through, and lets nothing follow the end of a turn."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from a2a.helpers import get_message_text, new_text_message
from a2a.server.events import EventQueue
from a2a.types import (
    Artifact,
    Message,
    Part,
    Task,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)

from molecule_runtime.a2a.tasks import FINAL_STATES, WAITING_STATES

if TYPE_CHECKING:
    from a2a.server.agent_execution import RequestContext
    from a2a.server.events.event_queue import Event

    from molecule_runtime.a2a.live import LiveTask
    from molecule_runtime.a2a.once import Delivery

_MAX_PARTS = 1000
"""Parts of an answer that are remembered for those who share it; an agent that streams sends thousands of small ones."""


_MAX_JOINED = 100_000
"""Characters up to which pieces of a text are joined as they come; each of them copies all of it."""


class WatchedQueue(EventQueue):
    """Passes the events of one turn on.

    Once the host has announced the turn as a task, whatever the adapter answers with becomes updates of that task: its sender has
    been told to ask for a task, and the SDK allows no Message after it.

    Attributes:
        live: the task that the turn is for.
        ended: whether the turn has an answer that nothing may follow.
        state: of the turn's task, as it was told last.
        failure: what the agent said when it failed.
        parts: of the answer.
        touched: when the last event went through (monotonic seconds).
    """

    def __init__(self, live: LiveTask, context: RequestContext, delivery: Delivery) -> None:
        self.live = live
        self._context = context
        self._delivery = delivery
        self._as_task = context.current_task is not None
        self._closed = False
        self.events = 0
        self.ended = False
        self.state: TaskState = TaskState.TASK_STATE_UNSPECIFIED
        self.failure = ""
        self.parts: list[Part] = []
        self.touched = time.monotonic()

    @property
    def unfinished(self) -> bool:
        """Whether there is a task that neither has ended nor waits for its sender."""
        return self._as_task and not self.ended and self.state not in WAITING_STATES

    @property
    def replied(self) -> bool:
        """Whether the answer is one Message."""
        return self._delivery.reply is not None

    async def enqueue_event(self, event: Event) -> None:
        """Pass an event on."""
        self.touched = time.monotonic()
        if self._closed or self.ended:
            # Of a turn that was cancelled and goes on all the same, or after its own last word.
            return
        self.events += 1
        match event:
            case Message() if self._as_task:
                await self._end_with(event)
            case Message():
                self.ended = True
                self.parts = list(event.parts)
                reply = Message()
                reply.CopyFrom(event)
                self._delivery.reply = reply
                await self.live.put(reply)
            case Task() if self._as_task:
                await self._take_apart(event)
            case Task():
                self._as_task = True
                self._context.current_task = event
                for artifact in event.artifacts:
                    self._collect(artifact)
                self._note(event.status)
                await self.live.put(event)
            case TaskStatusUpdateEvent():
                self._as_task = True
                self._note(event.status)
                await self.live.put(event)
            case TaskArtifactUpdateEvent():
                self._as_task = True
                self._collect(event.artifact, append=event.append)
                await self.live.put(event)
            case _:
                raise TypeError(f"an executor enqueues A2A events, not {type(event).__name__}")
        self._delivery.known.set()
        if self.ended or self.state in WAITING_STATES:
            self._delivery.ready.set()

    async def announce(self, state: TaskState, text: str = "") -> None:
        """Tell the sender of the turn's task, before the adapter says anything."""
        if self._context.current_task is not None:
            # While another message to the task is being answered, it is that one's state that it is in.
            if self.live.turns == 1:
                await self.say(state, text)
            self._delivery.known.set()
            return
        task = Task(id=self._task_id, context_id=self._context_id, status=self._status(state, text))
        if self._context.message is not None:
            task.history.append(self._context.message)
        await self.enqueue_event(task)
        self.events = 0

    @property
    def announced(self) -> bool:
        """Whether the sender knows the turn as a task."""
        return self._as_task

    async def say(self, state: TaskState, text: str = "") -> None:
        """Update the status of the turn's task."""
        before = self.events
        await self.enqueue_event(
            TaskStatusUpdateEvent(task_id=self._task_id, context_id=self._context_id, status=self._status(state, text))
        )
        # The host's own words are no answer of the adapter.
        self.events = before

    async def end(self, state: TaskState, text: str = "") -> None:
        """End the turn in a final state, unless it has ended already."""
        if self.ended or self._closed:
            return
        if self._as_task:
            await self.say(state, text)
        else:
            await self.announce(state, text)

    async def answer(self, parts: list[Part]) -> None:
        """Answer with one Message of these parts."""
        message = new_text_message("", context_id=self._context_id)
        del message.parts[:]
        message.parts.extend(parts)
        await self.enqueue_event(message)

    def acknowledge(self) -> None:
        """Answer the sender with the task as it is; it hears of the rest later."""
        self._delivery.ready.set()

    @property
    def overtaken(self) -> bool:
        """Whether the task ended while this message to it was in the line."""
        return self.live.ended

    def resume(self) -> None:
        """Show the agent the task as it is now; the message before this one may have changed it."""
        if self._context.current_task is not None:
            self._context.current_task = self.live.snapshot()

    def shut(self) -> None:
        """Let nothing through any more."""
        self._closed = True

    async def close(self, immediate: bool = False) -> None:
        """Do nothing: executors written for older SDK versions close their queue, and the host knows when a turn is over."""

    def is_closed(self) -> bool:
        """Tell whether nothing goes through any more."""
        return self._closed

    @property
    def _task_id(self) -> str:
        return self._context.task_id or ""

    @property
    def _context_id(self) -> str:
        return self._context.context_id or ""

    def _status(self, state: TaskState, text: str) -> TaskStatus:
        status = TaskStatus(state=state)
        if text:
            status.message.CopyFrom(new_text_message(text, context_id=self._context_id, task_id=self._task_id))
        return status

    async def _end_with(self, message: Message) -> None:
        """Make the answer's Message the artifact of the turn's task."""
        artifact = Artifact(artifact_id=str(uuid.uuid4()), parts=message.parts)
        self._collect(artifact)
        await self.live.put(
            TaskArtifactUpdateEvent(
                task_id=self._task_id, context_id=self._context_id, artifact=artifact, last_chunk=True
            )
        )
        status = self._status(TaskState.TASK_STATE_COMPLETED, "")
        self._note(status)
        await self.live.put(
            TaskStatusUpdateEvent(
                task_id=self._task_id, context_id=self._context_id, status=status, metadata=message.metadata
            )
        )

    async def _take_apart(self, task: Task) -> None:
        """Make what the adapter says with a Task updates of the one that is there: the SDK would drop it."""
        for artifact in task.artifacts:
            self._collect(artifact)
            await self.live.put(
                TaskArtifactUpdateEvent(task_id=self._task_id, context_id=self._context_id, artifact=artifact)
            )
        status = TaskStatus()
        status.CopyFrom(task.status)
        if status.HasField("message"):
            status.message.task_id = self._task_id
        self._note(status)
        await self.live.put(
            TaskStatusUpdateEvent(
                task_id=self._task_id, context_id=self._context_id, status=status, metadata=task.metadata
            )
        )

    def _collect(self, artifact: Artifact, *, append: bool = False) -> None:
        new = artifact.parts
        if append and len(new) == 1 and new[0].text and self.parts and 0 < len(self.parts[-1].text) < _MAX_JOINED:
            # A piece of a text that is streamed; those who share the answer get it as one.
            joined = Part(text=self.parts[-1].text + new[0].text)
            self.parts[-1] = joined
            return
        self.parts += artifact.parts[: _MAX_PARTS - len(self.parts)]

    def _note(self, status: TaskStatus) -> None:
        self.state = status.state
        if status.state in FINAL_STATES:
            self.ended = True
        if status.state == TaskState.TASK_STATE_FAILED:
            self.failure = get_message_text(status.message) or "the task failed"
        if not self.parts and status.HasField("message") and status.state in FINAL_STATES | WAITING_STATES:
            self.parts = list(status.message.parts)
