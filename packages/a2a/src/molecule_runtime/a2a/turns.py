"""The host's own executor around the adapter's: counts turns, turns exceptions into failed tasks, and can be drained."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
from a2a.helpers import get_message_text
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.types import Message, Task, TaskState, TaskStatusUpdateEvent
from a2a.utils.errors import A2AError

from molecule_runtime.a2a.executor import fail, failure_text
from molecule_runtime.a2a.tasks import FINAL_STATES
from molecule_runtime.core import logs
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from a2a.server.events.event_queue import Event

    from molecule_runtime.core.presence import Vitals

logger = logging.getLogger(__name__)

_DESCRIPTION_CHARS = 100
_CANCEL_SECONDS = 1.0
_PRODUCER = "producer:"
_STOPPING = "Agent error: the workspace is stopping; send the message again"


class TurnExecutor(AgentExecutor):
    """Runs each turn of the adapter's executor.

    Attributes:
        inner: the adapter's executor.
        vitals: told of every turn.
        on_change: called when a turn begins and ends, to bring the next heartbeat forward.
    """

    def __init__(self, inner: AgentExecutor, vitals: Vitals, on_change: Callable[[], None]) -> None:
        self.inner = inner
        self._vitals = vitals
        self._on_change = on_change
        self._running: dict[int, asyncio.Task[Any] | None] = {}
        self._idle = anyio.Event()
        self._stopping = False

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Run one turn; whatever the adapter does, the sender gets exactly one end of it."""
        with logs.bind(task_id=context.task_id or ""):
            await self._execute(context, event_queue)

    async def _execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        current = asyncio.current_task()
        watched = _Watched(event_queue)
        handle = self._vitals.task_started(_description(context))
        if not self._running:
            self._idle = anyio.Event()
        self._running[handle] = current
        self._on_change()
        error = ""
        try:
            await self.inner.execute(context, watched)
            if watched.events == 0:
                # The SDK would wait for a task for ever.
                logger.error("the adapter's executor finished a turn without an answer")
                error = "Agent error: the agent finished without an answer"
                await fail(context, event_queue, error)
        except A2AError as exc:
            # A refusal in the protocol's own words (unsupported content, wrong parameters); the SDK knows how to say it.
            error = f"{type(exc).__name__}: {exc}"
            raise
        except asyncio.CancelledError:
            error = "cancelled"
            if self._stopping and watched.events == 0:
                await fail(context, event_queue, _STOPPING)
            raise
        except (
            Exception
        ) as exc:  # an adapter's executor may raise anything, and the sender gets an end of the turn all the same
            logger.exception("a turn of the adapter's executor failed")
            error = failure_text(exc)
            await watched.fail(context, error)
        finally:
            self._vitals.task_finished(handle, error=redact_text(error or watched.failure))
            self._on_change()
            del self._running[handle]
            if not self._running:
                self._idle.set()
        if watched.replied and current is not None and current.get_name().startswith(_PRODUCER):
            # SDK 1.0.3 runs the turn in a task that then waits for ever for another message to the same task, and a Message
            # has none: without this each message would leave its queues and tasks behind. Later versions end it themselves.
            current.cancel()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Pass the request to the adapter; the SDK cancels the turn itself."""
        await self.inner.cancel(context, event_queue)

    async def drain(self, deadline: float) -> None:
        """Wait for the running turns; after `deadline` seconds cancel those that are left."""
        if not self._running:
            return
        logger.info("waiting up to %.0f s for %d running turn(s)", deadline, len(self._running))
        with anyio.move_on_after(deadline):
            await self._idle.wait()
            return
        logger.warning("cancelling %d turn(s) that did not finish in time", len(self._running))
        self._stopping = True
        for task in self._running.values():
            if task is not None:
                task.cancel()
        with anyio.move_on_after(_CANCEL_SECONDS):
            await self._idle.wait()


class _Watched(EventQueue):
    """The adapter's view of the event queue; remembers what went through."""

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self.events = 0
        self.failure = ""
        self.replied = False
        self._ended = False
        self._task: Task | None = None

    async def enqueue_event(self, event: Event) -> None:
        """Pass an event on."""
        self.events += 1
        match event:
            case Message():
                self.replied = True
            case Task():
                self._task = event
                self._note(event.status.state, event.status.message)
            case TaskStatusUpdateEvent():
                self._task = self._task or Task(id=event.task_id, context_id=event.context_id)
                self._note(event.status.state, event.status.message)
            case _:
                pass
        await self._queue.enqueue_event(event)

    async def fail(self, context: RequestContext, text: str) -> None:
        """End the turn as failed, unless it has ended already: nothing may follow a Message or a final state."""
        if self.replied or self._ended:
            return
        if context.current_task is None:
            context.current_task = self._task
        await fail(context, self._queue, text)

    def __getattr__(self, name: str) -> Any:
        # Executors written for another SDK version may use more of the queue than its public interface.
        return getattr(self._queue, name)

    def _note(self, state: TaskState, message: Message) -> None:
        if state in FINAL_STATES:
            self._ended = True
        if state == TaskState.TASK_STATE_FAILED:
            self.failure = get_message_text(message) or "the task failed"


def _description(context: RequestContext) -> str:
    text = " ".join(context.get_user_input().split())
    short = text if len(text) <= _DESCRIPTION_CHARS else f"{text[: _DESCRIPTION_CHARS - 1]}…"
    return redact_text(short)
