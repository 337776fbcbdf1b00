"""The SDK's request handler, for which a message that is sent again is the same message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from a2a.server.request_handlers import DefaultRequestHandler
from a2a.types import Message, SubscribeToTaskRequest, Task
from a2a.utils.errors import A2AError, TaskNotFoundError
from a2a.utils.task import apply_history_length, validate_history_length

from molecule_runtime.a2a.once import Acknowledge, patient
from molecule_runtime.a2a.tasks import FINAL_STATES, WAITING_STATES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.context import ServerCallContext
    from a2a.server.events.event_queue import Event
    from a2a.types import AgentCard, SendMessageRequest

    from molecule_runtime.a2a.once import Delivery, Once
    from molecule_runtime.a2a.tasks import Tasks


class HostHandler(DefaultRequestHandler):
    """Answers A2A requests: the first time with a turn, and again with what that turn came to."""

    def __init__(self, executor: AgentExecutor, tasks: Tasks, *, once: Once, card: AgentCard, **options: Any) -> None:
        super().__init__(agent_executor=executor, task_store=tasks, agent_card=card, **options)
        self._tasks = tasks
        self._once = once

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        """Answer `message/send`."""
        while True:
            delivery, new = await self._once.begin(params, context)
            if new:
                delivery.belongs_to(context)
                if params.configuration.return_immediately:
                    delivery.acknowledge = Acknowledge.AT_ONCE
                elif not patient.get():
                    delivery.acknowledge = Acknowledge.IF_BUSY
                    delivery.late = True
                try:
                    # The SDK's decorators take the types away.
                    answer: Message | Task = await cast("Any", super()).on_message_send(params, context)
                    return answer
                finally:
                    if not delivery.begun:
                        self._once.release(delivery)
            repeated = await self._repeated(delivery, params, context)
            if repeated is not None:
                return repeated
            self._once.forget(delivery)

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Answer `message/stream`."""
        while True:
            delivery, new = await self._once.begin(params, context)
            if new:
                delivery.belongs_to(context)
                delivery.acknowledge = Acknowledge.IF_BUSY
                stream = cast(
                    "AsyncGenerator[Event, None]", cast("Any", super()).on_message_send_stream(params, context)
                )
                try:
                    async for event in stream:
                        yield event
                finally:
                    await stream.aclose()
                    if not delivery.begun:
                        self._once.release(delivery)
                return
            told = False
            async for event in self._repeated_stream(delivery, params, context):
                told = True
                yield event
            if told:
                return
            self._once.forget(delivery)

    async def _repeated(
        self, delivery: Delivery, params: SendMessageRequest, context: ServerCallContext
    ) -> Message | Task | None:
        """Return what a message that runs or ran came to; None when it came to nothing and is to be run."""
        validate_history_length(params.configuration)
        # Set when the turn ends at the latest: whoever sent the message first waits no longer either.
        await delivery.known.wait()
        if delivery.reply is not None:
            return _copy(delivery.reply)
        if not delivery.task_id:
            return None
        if params.configuration.return_immediately:
            task = await self._tasks.get(delivery.task_id, context)
        else:
            task = await self._tasks.settled(delivery.task_id, context)
        if task is None:
            return None
        return apply_history_length(task, params.configuration)

    async def _repeated_stream(
        self, delivery: Delivery, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        await delivery.known.wait()
        if delivery.reply is not None:
            yield _copy(delivery.reply)
            return
        task = await self._tasks.get(delivery.task_id, context) if delivery.task_id else None
        if task is None:
            return
        if task.status.state not in FINAL_STATES and task.status.state not in WAITING_STATES:
            told = False
            live = cast(
                "AsyncGenerator[Event, None]",
                cast("Any", self).on_subscribe_to_task(SubscribeToTaskRequest(id=delivery.task_id), context),
            )
            try:
                async for event in live:
                    told = True
                    yield event
            except A2AError:
                # It ended in this moment, and there is nothing to follow any more.
                if told:
                    raise
            finally:
                await live.aclose()
            if told:
                return
            task = await self._tasks.settled(delivery.task_id, context)
            if task is None:
                raise TaskNotFoundError
        yield apply_history_length(task, params.configuration)


def _copy(message: Message) -> Message:
    copy = Message()
    copy.CopyFrom(message)
    return copy
