"""Says in A2A what an agent says: a Task first, its text as streamed artifacts, and one end."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from a2a.helpers import new_text_message
from a2a.types import Artifact, Part, Task, TaskArtifactUpdateEvent, TaskState, TaskStatus, TaskStatusUpdateEvent

from molecule_runtime.a2a.executor import NO_ANSWER
from molecule_runtime.a2a.executors.failures import OUTPUT_TOO_LARGE, AgentFailure

if TYPE_CHECKING:
    from a2a.server.agent_execution import RequestContext
    from a2a.server.events import EventQueue

FLUSH_SECONDS = 0.05
"""Pieces of text that come faster are sent together: every event costs each reader a frame."""


class Speaker:
    """Writes the events of one turn. A text that ends is one artifact of one part, whatever number of pieces it came in."""

    def __init__(self, context: RequestContext, queue: EventQueue, *, max_chars: int) -> None:
        self.spoke = False
        self.texted = False
        self._context = context
        self._queue = queue
        self._left = max_chars
        self._artifact = ""
        self._begun = False
        self._pending: list[str] = []
        self._flushed = 0.0
        self._task_id = context.task_id or ""
        self._context_id = context.context_id or ""

    async def begin(self) -> None:
        """Tell of the task; a request that has none yet must hear of it before its updates (contract `runtime.md` 13.2)."""
        status = TaskStatus(state=TaskState.TASK_STATE_WORKING)
        if self._context.current_task is not None:
            await self._say(status)
            return
        history = [self._context.message] if self._context.message is not None else []
        task = Task(id=self._task_id, context_id=self._context_id, status=status, history=history)
        await self._queue.enqueue_event(task)

    async def progress(self, text: str) -> None:
        """Say what the agent is doing."""
        status = TaskStatus(state=TaskState.TASK_STATE_WORKING, message=self._message(text))
        await self._say(status)

    async def text(self, text: str) -> None:
        """Send a piece of the answer.

        Raises:
            AgentFailure: the answer is longer than a turn may be.
        """
        if not text:
            return
        self._left -= len(text)
        if self._left < 0:
            raise AgentFailure(OUTPUT_TOO_LARGE)
        if not self._artifact:
            if not text.strip():
                return  # engines send blank pieces around tool calls
            self._artifact, self._begun = str(uuid.uuid4()), False
            self.spoke = self.texted = True
        self._pending.append(text)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            await self._flush(last=False)

    async def end_text(self) -> None:
        """End the text that is being streamed, if there is one."""
        if self._artifact:
            await self._flush(last=True)
            self._artifact = ""

    async def attach(self, part: Part) -> None:
        """Send a file."""
        await self.end_text()
        self.spoke = True
        await self._put(Artifact(artifact_id=str(uuid.uuid4()), name=part.filename, parts=[part]), last=True)

    async def complete(self, metadata: dict[str, Any]) -> None:
        """End the turn well; one in which nothing was said says so."""
        if not self.spoke:
            await self.text(NO_ANSWER)
        await self.end_text()
        await self._say(TaskStatus(state=TaskState.TASK_STATE_COMPLETED), metadata)

    async def fail(self, text: str, metadata: dict[str, Any]) -> None:
        """End the turn as failed; what was streamed until then stays."""
        await self.end_text()
        await self._say(TaskStatus(state=TaskState.TASK_STATE_FAILED, message=self._message(text)), metadata)

    async def _flush(self, *, last: bool) -> None:
        text = "".join(self._pending)
        self._pending.clear()
        append, self._begun = self._begun, True
        self._flushed = time.monotonic()
        await self._put(Artifact(artifact_id=self._artifact, parts=[Part(text=text)]), append=append, last=last)

    async def _put(self, artifact: Artifact, *, append: bool = False, last: bool = False) -> None:
        await self._queue.enqueue_event(
            TaskArtifactUpdateEvent(
                task_id=self._task_id, context_id=self._context_id, artifact=artifact, append=append, last_chunk=last
            )
        )

    async def _say(self, status: TaskStatus, metadata: dict[str, Any] | None = None) -> None:
        event = TaskStatusUpdateEvent(task_id=self._task_id, context_id=self._context_id, status=status)
        if metadata:
            event.metadata.update(metadata)
        await self._queue.enqueue_event(event)

    def _message(self, text: str) -> Any:
        return new_text_message(text, context_id=self._context_id, task_id=self._task_id)
