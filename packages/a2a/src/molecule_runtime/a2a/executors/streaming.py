"""For agents that speak while they work: an async generator of events in, an A2A task out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio.lowlevel
from a2a.server.agent_execution import AgentExecutor
from a2a.types import TaskState, TaskStatus, TaskStatusUpdateEvent
from a2a.utils.errors import A2AError

from molecule_runtime.a2a.current_task import describe_task
from molecule_runtime.a2a.executor import Turn
from molecule_runtime.a2a.executors.events import (
    AgentEvent,
    Attachment,
    Final,
    Progress,
    TextDelta,
    TextEnd,
    ToolFinished,
    ToolStarted,
)
from molecule_runtime.a2a.executors.failures import SessionLostError, tag_of, user_text
from molecule_runtime.a2a.executors.speaker import Speaker
from molecule_runtime.a2a.executors.tool_trace import ToolTrace, shown
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from a2a.server.agent_execution import RequestContext
    from a2a.server.events import EventQueue

    from molecule_runtime.a2a.executors.attachments import Attachments
    from molecule_runtime.a2a.executors.sessions import Sessions

logger = logging.getLogger(__name__)

MAX_ANSWER_CHARS = 1_000_000
"""Of all texts of a turn together; a task as a whole is bounded by the host."""

_MAX_PROGRESS = 2000

Run: TypeAlias = Callable[[Turn], AsyncGenerator[AgentEvent, None]]
"""What an adapter author writes: a turn in, events out."""


class StreamingExecutor(AgentExecutor):
    """Runs `run` for each turn. The answer is always a Task: working, its texts and files as artifacts, completed or failed.

    The generator is pulled as fast as the host takes events, and closed when the turn is cancelled. One turn at a time in a
    conversation is the host's work. An exception fails the task with `Agent error (<tag>)`; the log has the rest.

    Args:
        run: the agent.
        attachments: fetches the files of a message before the turn and checks those of the answer; without it neither exist.
        sessions: the engine's own session of each conversation; `run` reads it, and is run anew once when it raises
            `SessionLostError` before it said anything.
        max_answer_chars: of all texts of a turn.
    """

    def __init__(
        self,
        run: Run,
        *,
        attachments: Attachments | None = None,
        sessions: Sessions | None = None,
        max_answer_chars: int = MAX_ANSWER_CHARS,
    ) -> None:
        self._run = run
        self._attachments = attachments
        self._sessions = sessions
        self._max_answer_chars = max_answer_chars
        self._running: dict[str, asyncio.Task[Any]] = {}

    @property
    def _session_id(self) -> str | None:
        """The session used last; `BaseAdapter.pre_stop_state` keeps it over a restart."""
        return self._sessions.latest if self._sessions is not None else None

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer one turn."""
        turn = Turn.of(context)
        current = asyncio.current_task()
        if current is not None:
            self._running[turn.task_id] = current
        speaker, trace = Speaker(context, event_queue, max_chars=self._max_answer_chars), ToolTrace()
        try:
            await speaker.begin()
            if self._attachments is not None and turn.files:
                turn = await self._with_files(turn, self._attachments)
            await self._answer(turn, speaker, trace)
            await speaker.complete(_metadata(trace))
        except A2AError:
            raise  # a refusal in the protocol's own words
        except Exception as exc:  # an agent may raise anything
            # The text of a failure often quotes what it failed on.
            logger.error("the turn of message %s failed: %s", turn.message_id, redact_text(_shown(exc)))  # noqa: TRY400 - a traceback would show the text unredacted
            logger.debug("the turn failed here", exc_info=exc)
            await speaker.fail(user_text(tag_of(exc)), _metadata(trace))
        finally:
            self._running.pop(turn.task_id, None)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Cancel the running turn of the task."""
        await event_queue.enqueue_event(
            TaskStatusUpdateEvent(
                task_id=context.task_id or "",
                context_id=context.context_id or "",
                status=TaskStatus(state=TaskState.TASK_STATE_CANCELED),
            )
        )
        running = self._running.get(context.task_id or "")
        if running is not None:
            running.cancel()

    async def _answer(self, turn: Turn, speaker: Speaker, trace: ToolTrace) -> None:
        try:
            await self._pass_on(turn, speaker, trace)
        except SessionLostError as exc:
            sessions = self._sessions
            known = await sessions.get(turn.context_id) if sessions is not None else None
            if sessions is None or known is None or speaker.spoke or trace.entries:
                raise
            logger.warning("the session of conversation %s is lost, a new one is begun: %s", turn.context_id, exc.tag)
            await sessions.forget(turn.context_id)
            await self._pass_on(turn, speaker, trace)

    async def _pass_on(self, turn: Turn, speaker: Speaker, trace: ToolTrace) -> None:
        final = ""
        async with aclosing(self._run(turn)) as events:
            async for event in events:
                match event:
                    case TextDelta(text):
                        await speaker.text(text)
                    case TextEnd():
                        await speaker.end_text()
                    case ToolStarted():
                        await speaker.end_text()
                        trace.started(event)
                        describe_task(f"calls {event.name}")
                    case ToolFinished():
                        trace.finished(event)
                    case Progress(text):
                        describe_task(text)
                        await speaker.progress(shown(text, _MAX_PROGRESS))
                    case Attachment():
                        await speaker.attach(await self._outgoing(event))
                    case Final(text):
                        final = text
                    case _:
                        raise TypeError(f"an agent yields the events of executors.events, not {type(event).__name__}")
                # A generator that never waits would keep the host from everything else.
                await anyio.lowlevel.checkpoint()
        if final and not speaker.texted:
            await speaker.text(final)

    async def _with_files(self, turn: Turn, attachments: Attachments) -> Turn:
        """Have the turn name files on the disk; what cannot be had is said in its text."""
        received = await attachments.take(turn.files)
        text = "\n\n".join(part for part in (turn.text, received.manifest()) if part)
        return replace(turn, text=text, files=received.files)

    async def _outgoing(self, event: Attachment) -> Any:
        if self._attachments is None:
            raise TypeError("this executor sends no files; give it attachments=attachments_of(config)")
        return await self._attachments.give(event.path, name=event.name)


def _metadata(trace: ToolTrace) -> dict[str, Any]:
    return {"tool_trace": trace.entries} if trace.entries else {}


def _shown(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"
