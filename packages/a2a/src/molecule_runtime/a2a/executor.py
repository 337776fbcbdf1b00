"""For adapter authors: answer a message with a function, and let the host speak A2A.

    class Adapter(BaseAdapter):
        async def create_executor(self, config):
            return ReplyExecutor(self.answer)

        async def answer(self, turn: Turn) -> str:
            return f"You said: {turn.text}"

`Turn` is the message as plain Python values; `ReplyExecutor` takes care of failures and of being cancelled.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from a2a.helpers import new_text_message
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.types import Message, Task, TaskState, TaskStatus, TaskStatusUpdateEvent

from molecule_runtime.core.envelope import File
from molecule_runtime.core.errors import InvalidWorkspaceIdError
from molecule_runtime.core.identity import validate_workspace_id

if TYPE_CHECKING:
    from a2a.server.events import EventQueue
    from a2a.types import Part

logger = logging.getLogger(__name__)

NO_ANSWER = "(no response generated)"
"""What an empty answer becomes; contract `workspace-host.md` 31."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message to the agent, as plain Python values.

    Attributes:
        text: every text part, joined with newlines.
        context_id: the conversation; the same in every message of it.
        task_id: of this turn.
        message_id: as its sender chose it.
        metadata: what the sender says about the message. Anyone may claim anything in it.
        source_workspace_id: the workspace that says it sent the message; None for a person.
        files: the files that the message refers to; one sent inline has a `data:` URI.
    """

    text: str
    context_id: str = ""
    task_id: str = ""
    message_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    source_workspace_id: str | None = None
    files: tuple[File, ...] = ()

    @classmethod
    def of(cls, context: RequestContext) -> Turn:
        """Read the turn of an SDK request."""
        message = context.message or Message()
        metadata = metadata_of(message)
        return cls(
            text=context.get_user_input(),
            context_id=context.context_id or "",
            task_id=context.task_id or "",
            message_id=message.message_id,
            metadata=metadata,
            source_workspace_id=_workspace_id(metadata.get("source_workspace_id")),
            files=tuple(file for part in message.parts if (file := _file(part)) is not None),
        )


def metadata_of(message: Message) -> dict[str, Any]:
    """Return what a message says about itself: a protobuf Struct in SDK 1.x, not a dict (contract `consumers.md` 1.7)."""
    return cast("dict[str, Any]", plain(message.metadata))


Answer: TypeAlias = Callable[[Turn], Awaitable[str]]
"""What an adapter author writes: a turn in, the reply's text out."""


class ReplyExecutor(AgentExecutor):
    """Runs `answer` for each turn and replies with one Message.

    An exception becomes a failed Task whose text names the exception's class only; the log has the rest. A turn that is
    cancelled ends with `asyncio.CancelledError` in `answer`, which must not swallow it.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer one turn."""
        turn = Turn.of(context)
        current = asyncio.current_task()
        if current is not None:
            self._running[turn.task_id] = current
        try:
            text = await self._answer(turn)
        except Exception as exc:  # an adapter's answer may raise anything
            logger.exception("the answer to message %s failed", turn.message_id or "without an id")
            await fail(context, event_queue, failure_text(exc))
        else:
            # Without a task id: a Message has no task, and a client would ask for it in vain.
            await event_queue.enqueue_event(new_text_message(text or NO_ANSWER, context_id=turn.context_id))
        finally:
            self._running.pop(turn.task_id, None)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Cancel the running turn of the task."""
        task = context.current_task
        if task is not None:
            await event_queue.enqueue_event(
                TaskStatusUpdateEvent(
                    task_id=task.id,
                    context_id=task.context_id,
                    status=TaskStatus(state=TaskState.TASK_STATE_CANCELED),
                )
            )
        running = self._running.get(context.task_id or "")
        if running is not None:
            running.cancel()


def failure_text(exc: BaseException) -> str:
    """Return what a sender may know of an exception: its class. Its message may quote a secret or another tenant's data."""
    return f"Agent error ({type(exc).__name__}): see the workspace's log"


async def fail(context: RequestContext, event_queue: EventQueue, text: str) -> None:
    """End the turn as a failed Task that says `text`."""
    task = context.current_task
    identifier = context.task_id or ""
    conversation = context.context_id or ""
    said = new_text_message(text, context_id=conversation, task_id=identifier)
    status = TaskStatus(state=TaskState.TASK_STATE_FAILED, message=said)
    if task is not None:
        await event_queue.enqueue_event(
            TaskStatusUpdateEvent(task_id=task.id, context_id=task.context_id, status=status)
        )
        return
    history = [context.message] if context.message is not None else []
    await event_queue.enqueue_event(Task(id=identifier, context_id=conversation, status=status, history=history))


def plain(value: Any) -> object:
    """Return what a protobuf Struct holds as the JSON values that were sent; it keeps every number as a float."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if hasattr(value, "keys"):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value]


def _workspace_id(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return validate_workspace_id(value)
    except InvalidWorkspaceIdError:
        return None


def _file(part: Part) -> File | None:
    if part.url:
        return File(uri=part.url, name=part.filename, mime_type=part.media_type)
    if part.raw:
        kind = part.media_type or "application/octet-stream"
        return File(
            uri=f"data:{kind};base64,{base64.b64encode(part.raw).decode()}",
            name=part.filename,
            mime_type=kind,
            size=len(part.raw),
        )
    return None
