"""The host's request handler: a turn for each message, and its tasks for whoever asks.

It is called as the SDK's request handlers are, and does not build on them: theirs differ between the versions that we work with,
and need several queues and tasks of asyncio for each message (half of the time that a short turn takes).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from a2a.server.agent_execution import RequestContext
from a2a.server.owner_resolver import resolve_user_scope
from a2a.types import ListTasksResponse, Message, Task, TaskState
from a2a.utils.errors import (
    A2AError,
    ExtendedAgentCardNotConfiguredError,
    InternalError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)
from a2a.utils.task import apply_history_length, validate_history_length

from molecule_runtime.a2a.live import LiveTask
from molecule_runtime.a2a.once import Acknowledge, Delivery, is_patient
from molecule_runtime.a2a.tasks import FINAL_STATES, MAX_PAGE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from a2a.server.context import ServerCallContext
    from a2a.server.events.event_queue import Event
    from a2a.types import (
        AgentCard,
        CancelTaskRequest,
        DeleteTaskPushNotificationConfigRequest,
        GetExtendedAgentCardRequest,
        GetTaskPushNotificationConfigRequest,
        GetTaskRequest,
        ListTaskPushNotificationConfigsRequest,
        ListTaskPushNotificationConfigsResponse,
        ListTasksRequest,
        SendMessageConfiguration,
        SendMessageRequest,
        SubscribeToTaskRequest,
        TaskPushNotificationConfig,
    )

    from molecule_runtime.a2a.live import Follower
    from molecule_runtime.a2a.once import Once
    from molecule_runtime.a2a.push import PushNotifications
    from molecule_runtime.a2a.tasks import Tasks
    from molecule_runtime.a2a.turns import TurnExecutor

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 2.0


class HostHandler:
    """Answers A2A requests: a message the first time with a turn, and again with what that turn came to."""

    def __init__(
        self,
        executor: TurnExecutor,
        tasks: Tasks,
        *,
        once: Once,
        push: PushNotifications | None = None,
        streaming: bool = True,
    ) -> None:
        self._executor = executor
        self._tasks = tasks
        self._once = once
        self._push = push
        self._streaming = streaming
        self._live: dict[tuple[str, str], LiveTask] = {}
        self._work: set[asyncio.Task[None]] = set()

    # --- messages ---------------------------------------------------------------------------------------------------------

    async def on_message_send(self, params: SendMessageRequest, context: ServerCallContext) -> Message | Task:
        """Run a message, and return its answer: a Message, or the task once it has ended, waits, or is acknowledged.

        Raises:
            A2AError: the message is refused, or the agent refused it in the protocol's own words.
        """
        validate_history_length(params.configuration)
        while True:
            delivery, new = await self._once.begin(params, context)
            if new:
                if params.configuration.return_immediately:
                    delivery.acknowledge = Acknowledge.AT_ONCE
                elif not is_patient(context):
                    delivery.acknowledge = Acknowledge.IF_BUSY
                    delivery.late = True
                live = await self._begin(params, context, delivery)
                await delivery.ready.wait()
                if delivery.error is not None:
                    raise delivery.error
                if delivery.reply is not None:
                    return delivery.reply
                task = live.snapshot()
                if task is None:
                    raise InternalError
                return apply_history_length(task, params.configuration)
            repeated = await self._repeated(delivery, params.configuration, context)
            if repeated is not None:
                return repeated
            self._once.forget(delivery)

    async def on_message_send_stream(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Run a message, and return what the agent says as it says it.

        Raises:
            A2AError: the message is refused, or the agent refused it in the protocol's own words.
        """
        self._check_streaming()
        validate_history_length(params.configuration)
        while True:
            delivery, new = await self._once.begin(params, context)
            if new:
                delivery.acknowledge = Acknowledge.IF_BUSY
                live = await self._begin(params, context, delivery)
                follower = live.follow()
                if live.task is not None and (whole := live.snapshot()) is not None:
                    yield apply_history_length(whole, params.configuration)
                async for event in follower.events():
                    yield event
                if delivery.error is not None:
                    raise delivery.error
                return
            told = False
            async for event in self._repeated_stream(delivery, params.configuration, context):
                told = True
                yield event
            if told:
                return
            self._once.forget(delivery)

    async def _begin(self, params: SendMessageRequest, context: ServerCallContext, delivery: Delivery) -> LiveTask:
        """Begin the turn of a message; a sender who leaves does not end it."""
        try:
            live, request = await self._live_task(params, context)
            if params.configuration.HasField("task_push_notification_config"):
                await self._pushing().set(live.id, params.configuration.task_push_notification_config, context)
        except BaseException:
            self._once.release(delivery)
            raise
        delivery.task_id = live.id
        work = asyncio.create_task(self._run(live, request, delivery), name="molecule-message")
        self._work.add(work)
        work.add_done_callback(self._work.discard)
        return live

    async def _live_task(
        self, params: SendMessageRequest, context: ServerCallContext
    ) -> tuple[LiveTask, RequestContext]:
        message = params.message
        owner = resolve_user_scope(context)
        task_id, context_id = message.task_id or None, message.context_id or None
        live = self._live.get((owner, task_id)) if task_id else None
        task: Task | None = None
        if task_id:
            task = live.snapshot() if live is not None else await self._tasks.get(task_id, context)
            if task is None:
                raise TaskNotFoundError(f"there is no task {task_id!r:.100}")
            if task.status.state in FINAL_STATES:
                name = TaskState.Name(task.status.state).removeprefix("TASK_STATE_").lower()
                raise UnsupportedOperationError(f"the task is {name} and takes no more messages; begin another one")
            if context_id and context_id != task.context_id:
                raise InvalidParamsError(
                    "message.contextId is not the context of message.taskId; leave it out or send the task's own"
                )
            context_id = task.context_id
            # It may have begun to run again while the store was read.
            live = self._live.get((owner, task.id))
        request = RequestContext(
            call_context=context, request=params, task_id=task_id, context_id=context_id, task=task
        )
        if live is None:
            live = LiveTask(
                request.task_id or "",
                request.context_id or "",
                message=request.message,
                task=task,
                tasks=self._tasks,
                call=context,
                notify=self._push.notify if self._push is not None else None,
            )
            self._live[owner, live.id] = live
        if task is not None:
            # The task of the request is the agent's copy.
            request.current_task = live.snapshot()
            live.add_message(message)
        live.turns += 1
        return live, request

    async def _run(self, live: LiveTask, request: RequestContext, delivery: Delivery) -> None:
        try:
            await self._executor.execute(request, live, delivery)
        except A2AError as exc:
            delivery.error = exc
        except Exception:  # whatever it was, the sender waits for a word
            logger.exception("the turn of message %s failed", delivery.task_id)
            delivery.error = InternalError("the host failed; see its log")
        finally:
            self._leave(live, request, delivery)

    def _leave(self, live: LiveTask, request: RequestContext, delivery: Delivery) -> None:
        live.turns -= 1
        if not live.turns:
            key = (resolve_user_scope(request.call_context), live.id)
            if self._live.get(key) is live:
                del self._live[key]
            live.finish()
        delivery.ready.set()

    async def _repeated(
        self, delivery: Delivery, configuration: SendMessageConfiguration, context: ServerCallContext
    ) -> Message | Task | None:
        """Return what a message that runs or ran came to; None when it came to nothing and is to be run."""
        # Set when the turn ends at the latest: whoever sent the message first waits no longer either.
        await delivery.known.wait()
        if delivery.reply is not None:
            return delivery.reply
        if not delivery.task_id:
            return None
        live = self._live.get((delivery.owner, delivery.task_id))
        if live is not None and not configuration.return_immediately:
            await live.settled.wait()
        task = await self._task(delivery.task_id, context)
        return None if task is None else apply_history_length(task, configuration)

    async def _repeated_stream(
        self, delivery: Delivery, configuration: SendMessageConfiguration, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        await delivery.known.wait()
        if delivery.reply is not None:
            yield delivery.reply
            return
        task = await self._task(delivery.task_id, context) if delivery.task_id else None
        if task is None:
            return
        follower, task = self._followed(task, context)
        yield apply_history_length(task, configuration)
        if follower is not None:
            async for event in follower.events():
                yield event

    # --- tasks ------------------------------------------------------------------------------------------------------------

    async def on_get_task(self, params: GetTaskRequest, context: ServerCallContext) -> Task:
        """Return a task.

        Raises:
            TaskNotFoundError: this caller has none of this id.
        """
        validate_history_length(params)
        return apply_history_length(await self._required(params.id, context), params)

    async def on_list_tasks(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Return a page of the caller's tasks, the one that changed last first.

        Raises:
            InvalidParamsError: the page token is none of ours, or a number is out of range.
        """
        validate_history_length(params)
        if params.HasField("page_size") and not 1 <= params.page_size <= MAX_PAGE:
            raise InvalidParamsError(f"pageSize is {params.page_size}; it must be 1 to {MAX_PAGE}")
        page = await self._tasks.list(params, context)
        for task in page.tasks:
            if not params.include_artifacts:
                task.ClearField("artifacts")
            shortened = apply_history_length(task, params)
            if shortened is not task:
                task.CopyFrom(shortened)
        return page

    async def on_cancel_task(self, params: CancelTaskRequest, context: ServerCallContext) -> Task:
        """End a task, and what its agent does for it.

        Raises:
            TaskNotFoundError: this caller has none of this id.
            TaskNotCancelableError: it has ended already.
        """
        owner = resolve_user_scope(context)
        task = await self._required(params.id, context)
        if task.status.state in FINAL_STATES:
            raise TaskNotCancelableError("the task has ended already")
        live = self._live.get((owner, params.id))
        if live is None:
            # It waits for its sender, and nothing runs.
            live = LiveTask(
                task.id,
                task.context_id,
                message=None,
                task=task,
                tasks=self._tasks,
                call=context,
                notify=self._push.notify if self._push is not None else None,
            )
        await self._executor.cancel(live, context)
        ended = live.snapshot()
        if ended is None or ended.status.state != TaskState.TASK_STATE_CANCELED:
            raise TaskNotCancelableError("the task ended by itself before it could be cancelled")
        return ended

    async def on_subscribe_to_task(
        self, params: SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[Event, None]:
        """Return a task as it is, and then what its agent says.

        Raises:
            TaskNotFoundError: this caller has none of this id.
            UnsupportedOperationError: it has ended, and nothing will follow.
        """
        self._check_streaming()
        follower, task = self._followed(await self._required(params.id, context), context)
        if task.status.state in FINAL_STATES:
            raise UnsupportedOperationError("the task has ended; get it instead")
        yield task
        if follower is not None:
            async for event in follower.events():
                yield event

    def _followed(self, task: Task, context: ServerCallContext) -> tuple[Follower | None, Task]:
        """Return a follower of a task where there is more to come, and the task as it is when it begins to follow."""
        live = self._live.get((resolve_user_scope(context), task.id))
        if live is None or (now := live.snapshot()) is None:
            return None, task
        return (None if live.settled.is_set() else live.follow()), now

    async def _required(self, task_id: str, context: ServerCallContext) -> Task:
        task = await self._task(task_id, context)
        if task is None:
            raise TaskNotFoundError(f"there is no task {task_id!r:.100}")
        return task

    async def _task(self, task_id: str, context: ServerCallContext) -> Task | None:
        live = self._live.get((resolve_user_scope(context), task_id))
        if live is not None and (task := live.snapshot()) is not None:
            return task
        return await self._tasks.get(task_id, context)

    # --- push notifications -----------------------------------------------------------------------------------------------

    async def on_create_task_push_notification_config(
        self, params: TaskPushNotificationConfig, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Have somebody told of a task's changes.

        Raises:
            TaskNotFoundError: this caller has no such task.
            InvalidParamsError: the target may not be told.
        """
        push = self._pushing()
        await self._required(params.task_id, context)
        return await push.set(params.task_id, params, context)

    async def on_get_task_push_notification_config(
        self, params: GetTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> TaskPushNotificationConfig:
        """Return who is told.

        Raises:
            TaskNotFoundError: this caller has no such task, or it has no such configuration.
        """
        push = self._pushing()
        await self._required(params.task_id, context)
        return await push.get(params.task_id, params.id, context)

    async def on_list_task_push_notification_configs(
        self, params: ListTaskPushNotificationConfigsRequest, context: ServerCallContext
    ) -> ListTaskPushNotificationConfigsResponse:
        """Return a page of those who are told.

        Raises:
            TaskNotFoundError: this caller has no such task.
        """
        push = self._pushing()
        await self._required(params.task_id, context)
        return await push.list(params, context)

    async def on_delete_task_push_notification_config(
        self, params: DeleteTaskPushNotificationConfigRequest, context: ServerCallContext
    ) -> None:
        """Have somebody told no more; nobody is an error to be told no more twice.

        Raises:
            TaskNotFoundError: this caller has no such task.
        """
        push = self._pushing()
        await self._required(params.task_id, context)
        await push.delete(params.task_id, params.id, context)

    def _pushing(self) -> PushNotifications:
        if self._push is None:
            raise PushNotificationNotSupportedError("this agent sends no push notifications")
        return self._push

    # --- the rest ---------------------------------------------------------------------------------------------------------

    async def on_get_extended_agent_card(
        self, params: GetExtendedAgentCardRequest, context: ServerCallContext
    ) -> AgentCard:
        """Refuse: there is one card, for everybody.

        Raises:
            ExtendedAgentCardNotConfiguredError: always.
        """
        raise ExtendedAgentCardNotConfiguredError("this agent has no other card than the public one")

    async def aclose(self) -> None:
        """End what still runs."""
        for work in list(self._work):
            work.cancel()
        if self._work:
            await asyncio.wait(set(self._work), timeout=_CLOSE_SECONDS)

    def _check_streaming(self) -> None:
        if not self._streaming:
            raise UnsupportedOperationError("this agent does not stream; send the message without a stream")
