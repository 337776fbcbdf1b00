"""The methods of A2A 1.0 and 0.3: what each takes, what answers it, and how the answer is written.

Both versions are answered by one handler in the types of 1.0; the SDK's conversions bring 0.3 into them and back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from a2a.compat.v0_3 import conversions
from a2a.compat.v0_3 import types as types_0_3
from a2a.types import (
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    ListTasksResponse,
    Message,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskArtifactUpdateEvent,
    TaskPushNotificationConfig,
    TaskStatusUpdateEvent,
)
from a2a.utils.errors import ExtendedAgentCardNotConfiguredError, UnsupportedOperationError
from google.protobuf.json_format import MessageToDict

from molecule_runtime.a2a.handler import HostHandler
from molecule_runtime.a2a.reading import check, read_message, read_model
from molecule_runtime.a2a.tasks import WAITING_STATES

if TYPE_CHECKING:
    from a2a.server.context import ServerCallContext
    from a2a.server.events.event_queue import Event
    from google.protobuf.message import Message as Protobuf

Answer: TypeAlias = Callable[[HostHandler, Any, "ServerCallContext"], Awaitable[Any]]
Events: TypeAlias = Callable[[HostHandler, Any, "ServerCallContext"], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one version.

    Attributes:
        read: the parameters, from JSON; `at` is what they are called in an error.
        answer: what handles it, where it has one answer.
        events: what handles it, where it has a stream of them.
        write: the answer, or an event of the stream, as JSON.
    """

    read: Callable[..., Any]
    write: Callable[[Any], Any]
    answer: Answer | None = None
    events: Events | None = None


def as_result(answer: Message | Task) -> dict[str, Any]:
    """Write the answer to a message (A2A 1.0, 3.1.1)."""
    return {"task" if isinstance(answer, Task) else "message": MessageToDict(answer)}


def as_event(event: Event) -> dict[str, Any]:
    """Write one event of a stream (A2A 1.0, 3.2.3)."""
    return {_EVENT_NAMES[type(event)]: MessageToDict(event)}


def as_page(page: ListTasksResponse) -> dict[str, Any]:
    """Write a page of tasks; its four fields are always there (A2A 1.0, 3.1.4)."""
    return {
        "tasks": [MessageToDict(task) for task in page.tasks],
        "nextPageToken": page.next_page_token,
        "pageSize": page.page_size,
        "totalSize": page.total_size,
    }


def _nothing(_: None) -> None:
    return None


async def _no_extended_card(
    handler: HostHandler, params: GetExtendedAgentCardRequest, context: ServerCallContext
) -> Any:
    try:
        return await handler.on_get_extended_agent_card(params, context)
    except ExtendedAgentCardNotConfiguredError as exc:
        # In 1.0 that is for agents whose card says that they have one (3.1.11).
        raise UnsupportedOperationError(str(exc)) from None


_EVENT_NAMES: Mapping[type, str] = {
    Task: "task",
    Message: "message",
    TaskStatusUpdateEvent: "statusUpdate",
    TaskArtifactUpdateEvent: "artifactUpdate",
}


def _method_1_0(
    kind: type[Protobuf], write: Callable[[Any], Any], *, answer: Answer | None = None, events: Events | None = None
) -> Method:
    def read(params: object, *, at: str = "params") -> Protobuf:
        return read_message(kind, params, at=at)

    return Method(read=read, write=write, answer=answer, events=events)


METHODS_1_0: Mapping[str, Method] = {
    "SendMessage": _method_1_0(SendMessageRequest, as_result, answer=HostHandler.on_message_send),
    "SendStreamingMessage": _method_1_0(SendMessageRequest, as_event, events=HostHandler.on_message_send_stream),
    "GetTask": _method_1_0(GetTaskRequest, MessageToDict, answer=HostHandler.on_get_task),
    "ListTasks": _method_1_0(ListTasksRequest, as_page, answer=HostHandler.on_list_tasks),
    "CancelTask": _method_1_0(CancelTaskRequest, MessageToDict, answer=HostHandler.on_cancel_task),
    "SubscribeToTask": _method_1_0(SubscribeToTaskRequest, as_event, events=HostHandler.on_subscribe_to_task),
    "CreateTaskPushNotificationConfig": _method_1_0(
        TaskPushNotificationConfig, MessageToDict, answer=HostHandler.on_create_task_push_notification_config
    ),
    "GetTaskPushNotificationConfig": _method_1_0(
        GetTaskPushNotificationConfigRequest, MessageToDict, answer=HostHandler.on_get_task_push_notification_config
    ),
    "ListTaskPushNotificationConfigs": _method_1_0(
        ListTaskPushNotificationConfigsRequest,
        MessageToDict,
        answer=HostHandler.on_list_task_push_notification_configs,
    ),
    "DeleteTaskPushNotificationConfig": _method_1_0(
        DeleteTaskPushNotificationConfigRequest,
        _nothing,
        answer=HostHandler.on_delete_task_push_notification_config,
    ),
    "GetExtendedAgentCard": _method_1_0(GetExtendedAgentCardRequest, MessageToDict, answer=_no_extended_card),
}


def _dumped(model: Any) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _read_0_3(model: Any, convert: Callable[[Any], Protobuf]) -> Callable[[object], Protobuf]:
    method = model.model_fields["method"].default

    def read(params: object) -> Protobuf:
        # An id is part of the model, and was looked at already.
        return convert(read_model(model, {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}))

    return read


def _send_0_3(model: Any) -> Callable[[object], Protobuf]:
    read = _read_0_3(model, conversions.to_core_send_message_request)

    def read_and_check(params: object) -> Protobuf:
        request = cast("SendMessageRequest", read(params))
        _all_of_it(request.configuration)
        check(request)
        return request

    return read_and_check


def _all_of_it(limited: Any) -> Any:
    """In 0.3 no messages of the history at all means all of them; SDK 1.0.3 does not know it."""
    if limited.history_length == 0:
        limited.ClearField("history_length")
    return limited


def result_0_3(answer: Message | Task) -> dict[str, Any]:
    """Write the answer to a message in the shape of 0.3."""
    if isinstance(answer, Task):
        return cast("dict[str, Any]", _dumped(conversions.to_compat_task(answer)))
    return cast("dict[str, Any]", _dumped(conversions.to_compat_message(answer)))


def event_0_3(event: Event) -> dict[str, Any]:
    """Write one event of a stream in the shape of 0.3."""
    match event:
        case TaskStatusUpdateEvent():
            said = cast("dict[str, Any]", _dumped(conversions.to_compat_task_status_update_event(event)))
            # A task that waits for its sender ends the stream too (0.3, 7.2.2).
            said["final"] = bool(said.get("final")) or event.status.state in WAITING_STATES
            return said
        case TaskArtifactUpdateEvent():
            return cast("dict[str, Any]", _dumped(conversions.to_compat_task_artifact_update_event(event)))
        case _:
            return result_0_3(event)


def _config_0_3(config: TaskPushNotificationConfig) -> Any:
    return _dumped(conversions.to_compat_task_push_notification_config(config))


def _no_parameters(_: object) -> GetExtendedAgentCardRequest:
    return GetExtendedAgentCardRequest()


METHODS_0_3: Mapping[str, Method] = {
    "message/send": Method(
        read=_send_0_3(types_0_3.SendMessageRequest), write=result_0_3, answer=HostHandler.on_message_send
    ),
    "message/stream": Method(
        read=_send_0_3(types_0_3.SendStreamingMessageRequest),
        write=event_0_3,
        events=HostHandler.on_message_send_stream,
    ),
    "tasks/get": Method(
        read=_read_0_3(
            types_0_3.GetTaskRequest,
            lambda read: cast("Protobuf", _all_of_it(conversions.to_core_get_task_request(read))),
        ),
        write=result_0_3,
        answer=HostHandler.on_get_task,
    ),
    "tasks/cancel": Method(
        read=_read_0_3(types_0_3.CancelTaskRequest, conversions.to_core_cancel_task_request),
        write=result_0_3,
        answer=HostHandler.on_cancel_task,
    ),
    "tasks/resubscribe": Method(
        read=_read_0_3(types_0_3.TaskResubscriptionRequest, conversions.to_core_subscribe_to_task_request),
        write=event_0_3,
        events=HostHandler.on_subscribe_to_task,
    ),
    "tasks/pushNotificationConfig/set": Method(
        read=_read_0_3(
            types_0_3.SetTaskPushNotificationConfigRequest,
            conversions.to_core_create_task_push_notification_config_request,
        ),
        write=_config_0_3,
        answer=HostHandler.on_create_task_push_notification_config,
    ),
    "tasks/pushNotificationConfig/get": Method(
        read=_read_0_3(
            types_0_3.GetTaskPushNotificationConfigRequest,
            conversions.to_core_get_task_push_notification_config_request,
        ),
        write=_config_0_3,
        answer=HostHandler.on_get_task_push_notification_config,
    ),
    "tasks/pushNotificationConfig/list": Method(
        read=_read_0_3(
            types_0_3.ListTaskPushNotificationConfigRequest,
            conversions.to_core_list_task_push_notification_config_request,
        ),
        write=lambda page: [_config_0_3(config) for config in page.configs],
        answer=HostHandler.on_list_task_push_notification_configs,
    ),
    "tasks/pushNotificationConfig/delete": Method(
        read=_read_0_3(
            types_0_3.DeleteTaskPushNotificationConfigRequest,
            conversions.to_core_delete_task_push_notification_config_request,
        ),
        write=_nothing,
        answer=HostHandler.on_delete_task_push_notification_config,
    ),
    "agent/getAuthenticatedExtendedCard": Method(
        read=_no_parameters,
        write=MessageToDict,
        answer=HostHandler.on_get_extended_agent_card,
    ),
}
