"""The host's own executor around the adapter's: one turn at a time in a conversation, each with exactly one end, each can be cancelled."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from a2a.server.agent_execution import RequestContext
from a2a.types import TaskState
from a2a.utils.errors import A2AError, UnsupportedOperationError

from molecule_runtime.a2a.conversations import Conversations, Turn, Word, together
from molecule_runtime.a2a.current_task import describe_with, one_line
from molecule_runtime.a2a.executor import failure_text, metadata_of
from molecule_runtime.a2a.once import Acknowledge, Delivery
from molecule_runtime.a2a.watched import WatchedQueue
from molecule_runtime.core import delegation_chain, logs, trace_context
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.context import ServerCallContext

    from molecule_runtime.a2a.live import LiveTask
    from molecule_runtime.a2a.once import Once
    from molecule_runtime.core.config import TurnsConfig
    from molecule_runtime.core.presence import Vitals

logger = logging.getLogger(__name__)

HOOK_SECONDS = 0.8
"""For the adapter's own `cancel`."""

END_SECONDS = 0.8
"""For a turn to end once it is cancelled. Both together keep a sender who cancels waiting for less than 2 s."""

FAILED, CANCELED = TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED

STOPPING = "Agent error: the workspace is stopping; send the message again"
NO_ANSWER = "Agent error: the agent finished without an answer"
CANCELLED_ITSELF = "Agent error: the agent cancelled its own turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRules:
    """How the turns of one conversation follow each other.

    Attributes:
        interrupt: whether a message stops the turn that runs, which then begins anew with both; else it waits.
        most_waiting: messages that wait in one conversation; the next one is rejected.
        idle: seconds without a word of the agent after which its turn has failed; 0 for no limit.
    """

    interrupt: bool = False
    most_waiting: int = 16
    idle: float = 0


def rules_of_turns(config: TurnsConfig) -> TurnRules:
    """Return the rules that config.yaml sets."""
    return TurnRules(interrupt=config.busy == "interrupt", most_waiting=config.max_waiting, idle=config.idle_seconds)


class TurnExecutor:
    """Runs each turn of the adapter's executor.

    Attributes:
        inner: the adapter's executor.
        on_late: called with a turn that was acknowledged to a sender who had asked for an answer, once it has one.
        before: what is done before the turn of a message begins, once, by the message's id.
    """

    def __init__(
        self,
        inner: AgentExecutor,
        vitals: Vitals,
        on_change: Callable[[], None],
        *,
        once: Once,
        rules: TurnRules | None = None,
    ) -> None:
        self.inner = inner
        self.on_late: Callable[[Turn], None] | None = None
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self._vitals = vitals
        self._on_change = on_change
        self._once = once
        self._rules = rules or TurnRules()
        self._conversations = Conversations(most_waiting=self._rules.most_waiting)
        self._turns: set[Turn] = set()
        self._left: set[asyncio.Task[Any]] = set()
        self._idle = anyio.Event()

    async def execute(self, context: RequestContext, live: LiveTask, delivery: Delivery) -> None:
        """Run one turn; whatever the adapter does, the sender gets exactly one end of it.

        Raises:
            A2AError: the agent refuses the message, in the protocol's own words.
        """
        turn = Turn(context, WatchedQueue(live, context, delivery), delivery)
        if not self._turns:
            self._idle = anyio.Event()
        self._turns.add(turn)
        kept = False
        try:
            with logs.bind(task_id=delivery.task_id):
                kept = await self._in_turn(turn)
        except asyncio.CancelledError:
            kept = turn.cancelled
            if kept:
                await turn.watched.end(CANCELED)
            raise
        finally:
            turn.watched.shut()
            self._conversations.leave(turn)
            self._turns.discard(turn)
            if kept and (turn.watched.replied or turn.watched.announced):
                await self._once.answered(delivery)
            else:
                self._once.release(delivery)
            if not self._turns:
                self._idle.set()
        if kept and delivery.late and not turn.cancelled and self.on_late is not None:
            self.on_late(turn)

    async def cancel(self, live: LiveTask, call: ServerCallContext) -> None:
        """End a task: the adapter is asked, then its run is cancelled, and the sender is told within 2 s."""
        context = RequestContext(call, task_id=live.id, context_id=live.context_id, task=live.snapshot())
        turns = [turn for turn in self._turns if turn.watched.live is live]
        if not turns:
            # Its turn is over, and it waits for its sender.
            watched = WatchedQueue(live, context, Delivery())
            await self._ask_to_cancel(context, watched)
            await watched.end(CANCELED)
            return
        for turn in turns:
            turn.cancelled = True
        for turn in turns:
            if not turn.tell(Word.CANCELLED) and turn.work is not None and not turn.work.done():
                await self._ask_to_cancel(context, turn.watched)
                await self._end_work(turn.work)
            await turn.watched.end(CANCELED)
            turn.give_up()

    async def cancel_message(self, message_id: str) -> bool:
        """End the turn of a message as `cancel` does; False when it does not run."""
        for turn in self._turns:
            if turn.context.message is not None and turn.context.message.message_id == message_id:
                await self.cancel(turn.watched.live, turn.context.call_context)
                return True
        return False

    async def drain(self, deadline: float) -> None:
        """Wait for the running turns; after `deadline` seconds cancel those that are left."""
        if not self._turns:
            return
        logger.info("waiting up to %.0f s for %d running turn(s)", deadline, len(self._turns))
        with anyio.move_on_after(deadline):
            await self._idle.wait()
            return
        logger.warning("cancelling %d turn(s) that did not finish in time", len(self._turns))
        for turn in list(self._turns):
            turn.stopping = True
            turn.tell(Word.STOPPING)
            if turn.work is not None:
                turn.work.cancel()
        with anyio.move_on_after(END_SECONDS):
            await self._idle.wait()

    async def _in_turn(self, turn: Turn) -> bool:
        """Wait for the conversation, then run; returns whether the answer is one to keep for a sender who asks again."""
        watched, delivery = turn.watched, turn.delivery
        place = self._conversations.enter(turn)
        if place is None:
            most = self._rules.most_waiting
            text = f"Agent error: {most} messages wait in this conversation already; send this one again later"
            await watched.end(TaskState.TASK_STATE_REJECTED, text)
            return False
        if place == 0:
            delivery.late = False
            if delivery.acknowledge is Acknowledge.AT_ONCE:
                await watched.announce(TaskState.TASK_STATE_WORKING)
                watched.acknowledge()
        else:
            running = self._conversations.running_with(turn)
            if (
                self._rules.interrupt
                and running.work is not None
                and not running.stopping
                and not running.watched.ended
            ):
                running.interrupted = True
                running.work.cancel()
            if delivery.acknowledge is not Acknowledge.NEVER:
                text = f"The agent is at work in this conversation; this message is number {place} in the line."
                await watched.announce(TaskState.TASK_STATE_SUBMITTED, text)
                if delivery.late or delivery.acknowledge is Acknowledge.AT_ONCE:
                    watched.acknowledge()
            match await turn.wait():
                case Word.RUN:
                    if watched.overtaken:
                        raise UnsupportedOperationError("the task ended before this message to it could be answered")
                    watched.resume()
                    if watched.announced:
                        await watched.say(TaskState.TASK_STATE_WORKING)
                case Word.SHARED:
                    return not turn.cancelled
                case Word.CANCELLED:
                    return True
                case Word.STOPPING:
                    await watched.end(FAILED, STOPPING)
                    return False
        if turn.cancelled:
            return True
        return await self._run_counted(turn)

    async def _run_counted(self, turn: Turn) -> bool:
        if self.before and turn.context.message is not None:
            before = self.before.pop(turn.context.message.message_id, None)
            if before is not None:
                await before()
        handle = self._vitals.task_started(one_line(turn.context.get_user_input()))
        describe_with(lambda text: self._vitals.task_described(handle, text))
        self._on_change()
        error = ""
        try:
            metadata = metadata_of(turn.context.message) if turn.context.message is not None else {}
            with delegation_chain.working_for(metadata), trace_context.continuing(_trace_of(turn, metadata)):
                error = await self._run(turn)
        except asyncio.CancelledError:
            error = "cancelled"
            raise
        except A2AError as exc:
            # A refusal in the protocol's own words (unsupported content, wrong parameters); the SDK knows how to say it.
            error = f"{type(exc).__name__}: {exc}"
            raise
        finally:
            self._vitals.task_finished(handle, error=redact_text(error or turn.watched.failure))
            self._on_change()
        return error != STOPPING

    async def _run(self, turn: Turn) -> str:
        """Run the adapter until the turn has an end, and return what went wrong."""
        watched = turn.watched
        context = turn.context
        error = ""
        while True:
            watched.touched = time.monotonic()
            turn.work = asyncio.create_task(self.inner.execute(context, watched), name="molecule-turn")
            if turn.stopping:
                turn.work.cancel()
            try:
                in_time = await self._until_done(turn)
            except asyncio.CancelledError:
                # The SDK ends the turn: its sender cancelled it, or the host stops.
                await self._end_work(turn.work)
                await self._word_on_cancel(turn)
                raise
            again = turn.interrupted and not (turn.cancelled or turn.stopping or watched.ended)
            if not (in_time and turn.work.cancelled() and again):
                break
            turn.interrupted = False
            turn.sharing += self._conversations.take_waiting(turn)
            context = together(turn, turn.sharing)
        if not in_time:
            error = f"Agent error: the agent said nothing for {self._rules.idle:g} s"
            await watched.end(FAILED, error)
        elif not turn.work.done() or turn.work.cancelled():
            error = await self._word_on_cancel(turn)
        elif (exc := turn.work.exception()) is not None:
            if isinstance(exc, A2AError) and not watched.announced:
                raise exc
            logger.error("a turn of the adapter's executor failed", exc_info=exc)
            error = failure_text(exc)
            await watched.end(FAILED, error)
        elif not watched.events or watched.unfinished:
            # The SDK would wait for a task for ever.
            if watched.parts:
                logger.warning("the adapter's executor left its task without an end; it counts as completed")
                await watched.end(TaskState.TASK_STATE_COMPLETED)
            else:
                logger.error("the adapter's executor finished a turn without an answer")
                error = NO_ANSWER
                await watched.end(FAILED, error)
        await self._share(turn)
        return error

    async def _until_done(self, turn: Turn) -> bool:
        """Wait for the adapter; False when it said nothing for too long, and was stopped."""
        assert turn.work is not None  # noqa: S101 - it was begun just now
        idle = self._rules.idle
        while not turn.work.done():
            left = turn.watched.touched + idle - time.monotonic() if idle else None
            if left is not None and left <= 0:
                await self._end_work(turn.work)
                return False
            await asyncio.wait({turn.work, turn.given_up}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if turn.given_up.done():
                break
        return True

    async def _word_on_cancel(self, turn: Turn) -> str:
        if turn.cancelled:
            await turn.watched.end(CANCELED)
            return "cancelled"
        error = STOPPING if turn.stopping else CANCELLED_ITSELF
        await turn.watched.end(FAILED, error)
        return error

    async def _share(self, turn: Turn) -> None:
        """Give the answer of a turn to those who were answered with it; a turn that was cancelled answers nobody else."""
        if turn.cancelled or turn.stopping:
            return
        for other in turn.sharing:
            if not other.waits:
                continue
            if turn.watched.state in {FAILED, TaskState.TASK_STATE_REJECTED}:
                await other.watched.end(turn.watched.state, turn.watched.failure)
            else:
                await other.watched.answer(turn.watched.parts)
            other.tell(Word.SHARED)

    async def _ask_to_cancel(self, context: RequestContext, watched: WatchedQueue) -> None:
        with anyio.move_on_after(HOOK_SECONDS) as scope:
            try:
                await self.inner.cancel(context, watched)
            except Exception:  # an adapter's executor may raise anything, and its sender's word counts all the same
                logger.exception("the adapter's executor failed to cancel a turn")
        if scope.cancelled_caught:
            logger.warning("the adapter's executor did not cancel a turn within %.1f s", HOOK_SECONDS)

    async def _end_work(self, work: asyncio.Task[Any]) -> None:
        """Cancel a run of the adapter; one that does not end is left behind, and says nothing any more."""
        work.cancel()
        work.add_done_callback(_read)
        await asyncio.wait({work}, timeout=END_SECONDS)
        if work.done():
            return
        logger.error(
            "a turn goes on although it was cancelled: the adapter's executor keeps asyncio.CancelledError to itself"
        )
        self._left.add(work)
        work.add_done_callback(self._left.discard)


def _trace_of(turn: Turn, metadata: Mapping[str, object]) -> str:
    """Return the trace that a message belongs to: by its own metadata, else by the headers of the request that brought it."""
    headers: Mapping[str, object] = turn.context.call_context.state.get("headers", {})
    return trace_context.traceparent(metadata.get(trace_context.KEY), headers.get(trace_context.KEY))


def _read(work: asyncio.Task[Any]) -> None:
    """Take note of how a run ended that nobody waits for any more."""
    if not work.cancelled() and (exc := work.exception()) is not None:
        logger.debug("a turn that was cancelled failed", exc_info=exc)
