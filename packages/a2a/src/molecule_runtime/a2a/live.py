"""A task whose turn is not over: what it has become by now, and who follows it.

The SDK keeps a queue, a consumer and a copy of the task for each of these; here an event changes the one task, is stored where a
restart must not lose it, and is then handed to whoever follows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from a2a.types import Message, Task, TaskArtifactUpdateEvent, TaskState, TaskStatus, TaskStatusUpdateEvent

from molecule_runtime.a2a.errors import TaskTooLargeError
from molecule_runtime.a2a.tasks import FINAL_STATES, WAITING_STATES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from a2a.server.context import ServerCallContext
    from a2a.server.events.event_queue import Event
    from a2a.types import Artifact, Part

    from molecule_runtime.a2a.tasks import Tasks

MAX_TASK_BYTES = 32 * 1024 * 1024
"""What an agent may add to one task; a memory in which a thousand of them are kept holds twice as much."""

MAX_BEHIND = 256
"""Events that wait for somebody who follows; who falls further behind is shown the whole task instead."""


class LiveTask:
    """One task, from the message that begins or goes on with it to the end of its turn.

    Attributes:
        id: of the task.
        context_id: of the conversation.
        task: what it is by now; None while nothing was said but perhaps a Message, which has no task.
        settled: set once there is no more to follow: the task has ended, waits for its sender, or there will be none.
        turns: messages to this task that are not answered yet.
    """

    def __init__(
        self,
        task_id: str,
        context_id: str,
        *,
        message: Message | None,
        task: Task | None,
        tasks: Tasks,
        call: ServerCallContext,
        notify: Callable[[Task, Event], None] | None = None,
    ) -> None:
        self.id = task_id
        self.context_id = context_id
        self.task = task
        self.settled = asyncio.Event()
        self.turns = 0
        self._message = message
        self._tasks = tasks
        self._call = call
        self._notify = notify
        self._followers: set[Follower] = set()
        self._order = asyncio.Lock()
        self._added = 0

    @property
    def ended(self) -> bool:
        """Whether the task is in a state that nothing follows."""
        return self.task is not None and self.task.status.state in FINAL_STATES

    async def put(self, event: Event) -> None:
        """Take one event of the agent. What follows the end of the task is dropped.

        Raises:
            TaskTooLargeError: the agent has said more than a task may hold.
        """
        async with self._order:
            if self.ended:
                return
            match event:
                case Message():
                    self._tell(event)
                    self.settled.set()
                    return
                case Task():
                    await self._begin(event)
                case TaskStatusUpdateEvent():
                    await self._update(event)
                case TaskArtifactUpdateEvent():
                    await self._add(event)

    def add_message(self, message: Message) -> None:
        """Take a message of its sender into the history of a task that goes on."""
        if self.task is None:
            return
        if self.task.status.HasField("message"):
            self.task.history.append(self.task.status.message)
            self.task.status.ClearField("message")
        self.task.history.append(message)

    def snapshot(self) -> Task | None:
        """Return the task as it is now."""
        if self.task is None:
            return None
        copy = Task()
        copy.CopyFrom(self.task)
        return copy

    def follow(self) -> Follower:
        """Return what is said from now on."""
        follower = Follower(self)
        self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Tell one who followed no more."""
        self._followers.discard(follower)

    def finish(self) -> None:
        """Let go of whoever still follows or waits: nothing more will be said."""
        self.settled.set()
        for follower in self._followers:
            follower.wake()

    async def _begin(self, said: Task) -> None:
        """Take the agent's own word on what its task is; the host has made sure that it is the first."""
        task = Task()
        task.CopyFrom(said)
        task.id, task.context_id = self.id, self.context_id
        stamp(task.status)
        for message in task.history:
            message.task_id, message.context_id = self.id, self.context_id
        self._grow(task.ByteSize())
        self.task = task
        await self._publish(task, status=True)

    async def _update(self, said: TaskStatusUpdateEvent) -> None:
        task = await self._known()
        event = TaskStatusUpdateEvent()
        event.CopyFrom(said)
        event.task_id, event.context_id = self.id, self.context_id
        stamp(event.status)
        if event.status.state not in FINAL_STATES:
            self._grow(event.ByteSize())
        if task.status.HasField("message"):
            task.history.append(task.status.message)
        task.status.CopyFrom(event.status)
        if event.HasField("metadata"):
            task.metadata.MergeFrom(event.metadata)
        await self._publish(event, status=True)

    async def _add(self, said: TaskArtifactUpdateEvent) -> None:
        task = await self._known()
        event = said
        if (event.task_id, event.context_id) != (self.id, self.context_id):
            event = TaskArtifactUpdateEvent()
            event.CopyFrom(said)
            event.task_id, event.context_id = self.id, self.context_id
        self._grow(event.ByteSize())
        new = event.artifact
        for known in task.artifacts:
            if known.artifact_id == new.artifact_id:
                if event.append:
                    known.parts.extend(new.parts)
                    known.metadata.MergeFrom(new.metadata)
                else:
                    known.CopyFrom(new)
                break
        else:
            task.artifacts.append(new)
            known = task.artifacts[-1]
        if event.append and event.last_chunk:
            _join_texts(known)
        await self._publish(event, status=False)

    async def _known(self) -> Task:
        """Return the task, which begins now where the agent updates one that it has not told of: callers must hear of it first."""
        if self.task is None:
            task = Task(id=self.id, context_id=self.context_id)
            task.status.state = TaskState.TASK_STATE_SUBMITTED
            if self._message is not None:
                task.history.append(self._message)
            await self._begin(task)
        assert self.task is not None  # noqa: S101 - it began just now
        return self.task

    async def _publish(self, event: Event, *, status: bool) -> None:
        assert self.task is not None  # noqa: S101 - only an event of a task comes here
        if status:
            # Nobody is told what a restart would take back.
            await self._tasks.save(self.task, self._call)
        if event is self.task:
            event = Task()
            event.CopyFrom(self.task)
        self._tell(event)
        if self._notify is not None:
            self._notify(self.task, event)
        if status and (self.ended or self.task.status.state in WAITING_STATES):
            self.settled.set()

    def _tell(self, event: Event) -> None:
        for follower in self._followers:
            follower.give(event)

    def _grow(self, size: int) -> None:
        self._added += size
        if self._added > MAX_TASK_BYTES:
            raise TaskTooLargeError(f"the agent said more than the {MAX_TASK_BYTES} bytes that a task may hold")


class Follower:
    """One who follows a task, from the moment at which it began to."""

    def __init__(self, live: LiveTask) -> None:
        self._live = live
        self._waiting: deque[Event] = deque()
        self._behind = False
        self._more = asyncio.Event()

    def give(self, event: Event) -> None:
        """Take an event, to be read with `events`."""
        if len(self._waiting) >= MAX_BEHIND and isinstance(event, (TaskStatusUpdateEvent, TaskArtifactUpdateEvent)):
            self._waiting.clear()
            self._behind = True
        if not self._behind:
            self._waiting.append(event)
        self._more.set()

    def wake(self) -> None:
        """Have it look whether there is more to come."""
        self._more.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Return each event, until there is no more to follow."""
        try:
            while True:
                while self._waiting:
                    yield self._waiting.popleft()
                if self._behind:
                    self._behind = False
                    whole = self._live.snapshot()
                    if whole is not None:
                        yield whole
                    continue
                if self._live.settled.is_set():
                    return
                self._more.clear()
                await self._more.wait()
        finally:
            self._live.leave(self)


def _join_texts(artifact: Artifact) -> None:
    """Make a text that was streamed in pieces one part: whoever asks for the task later reads parts as paragraphs, or only the first.

    Once, at its end: joining each piece as it comes would copy the whole text every time.
    """
    if len(artifact.parts) < 2 or not all(_is_plain_text(part) for part in artifact.parts):
        return
    text = "".join(part.text for part in artifact.parts)
    del artifact.parts[1:]
    artifact.parts[0].text = text


def _is_plain_text(part: Part) -> bool:
    return part.WhichOneof("content") == "text" and not part.HasField("metadata")


def stamp(status: TaskStatus) -> None:
    """Give a status its time in whole milliseconds (A2A 1.0, 5.6.1), and now where it has none."""
    at = status.timestamp.ToMilliseconds() if status.HasField("timestamp") else time.time_ns() // 1_000_000
    # JSON leaves a fraction of nothing out, and a reader who expects three digits would stumble.
    status.timestamp.FromMilliseconds(at if at % 1000 else at + 1)
