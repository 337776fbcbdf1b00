"""The host's memory of tasks: a host lives for weeks, and the SDK's own store never forgets one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2a.server.tasks import InMemoryTaskStore
from a2a.types import TaskState

if TYPE_CHECKING:
    from a2a.server.context import ServerCallContext
    from a2a.types import Task

FINAL_STATES = frozenset(
    {
        TaskState.TASK_STATE_COMPLETED,
        TaskState.TASK_STATE_CANCELED,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_REJECTED,
    }
)

MAX_FINISHED = 1000
"""Tasks that have ended and can still be asked for."""

MAX_FINISHED_BYTES = 64 * 1024 * 1024
"""Of all of them together: a task holds its messages and artifacts, and so files that were sent inline."""


class RecentTasks(InMemoryTaskStore):
    """Keeps every task that runs, and of those that have ended the latest ones."""

    def __init__(self, *, most: int = MAX_FINISHED, most_bytes: int = MAX_FINISHED_BYTES) -> None:
        super().__init__()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._finished: dict[str, int] = {}

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Save a task; one that has ended may push out the oldest that have."""
        await super().save(task, context)
        self._forget(task.id)
        if task.status.state not in FINAL_STATES:
            return
        self._finished[task.id] = task.ByteSize()
        self._bytes += self._finished[task.id]
        # The one that has just ended stays, whatever its size: its sender is about to ask for it.
        while len(self._finished) > 1 and (len(self._finished) > self._most or self._bytes > self._most_bytes):
            await self.delete(next(iter(self._finished)), context)

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """Delete a task."""
        self._forget(task_id)
        await super().delete(task_id, context)

    def _forget(self, task_id: str) -> None:
        self._bytes -= self._finished.pop(task_id, 0)
