"""The predecessor's `a2a_tools`: each tool as a coroutine that returns its text (contract `runtime.md` 7)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from molecule_runtime.a2a.current_task import describe_task
from molecule_runtime.core.errors import ConfigurationError, PlatformError
from molecule_runtime.core.platform import wire
from molecule_runtime.legacy import calling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "report_activity",
    "tool_check_task_status",
    "tool_commit_memory",
    "tool_delegate_task",
    "tool_delegate_task_async",
    "tool_get_workspace_info",
    "tool_list_peers",
    "tool_recall_memory",
    "tool_send_message_to_user",
]

logger = logging.getLogger(__name__)

MAX_SUMMARY_CHARS = 256
MAX_ERROR_CHARS = 4096
"""Contract `runtime.md` 7.5."""


async def tool_delegate_task(workspace_id: str, task: str, source_workspace_id: str | None = None) -> str:
    """Give a task to a peer and return its answer, inside a boundary; a failure begins with `DELEGATION FAILED`."""
    return await _said("delegate_task", workspace_id=workspace_id, task=task, source_workspace_id=source_workspace_id)


async def tool_delegate_task_async(workspace_id: str, task: str, source_workspace_id: str | None = None) -> str:
    """Start a delegation; returns JSON with its `delegation_id`."""
    return await _said(
        "delegate_task_async", workspace_id=workspace_id, task=task, source_workspace_id=source_workspace_id
    )


async def tool_check_task_status(workspace_id: str, task_id: str, source_workspace_id: str | None = None) -> str:
    """Return JSON: the state of one delegation, or with an empty `task_id` of the newest ten."""
    return await _said(
        "check_task_status", workspace_id=workspace_id, task_id=task_id, source_workspace_id=source_workspace_id
    )


async def tool_list_peers(source_workspace_id: str | None = None) -> str:
    """Return a line for each peer; where there is none, a text with `No peers`."""
    return await _said("list_peers", source_workspace_id=source_workspace_id)


async def tool_get_workspace_info(source_workspace_id: str | None = None) -> str:
    """Return the platform's row of this workspace as JSON."""
    return await _said("get_workspace_info", source_workspace_id=source_workspace_id)


async def tool_send_message_to_user(
    message: str, attachments: Sequence[str | Mapping[str, Any]] | None = None, workspace_id: str | None = None
) -> str:
    """Send a message, with files, to the person."""
    given = {} if not attachments else {"attachments": list(attachments)}
    return await _said("send_message_to_user", message=message, workspace_id=workspace_id, **given)


async def tool_commit_memory(content: str, scope: str = "LOCAL", source_workspace_id: str | None = None) -> str:
    """Keep a memory; a scope that does not exist is LOCAL."""
    scope = scope.upper() if scope.upper() in {"LOCAL", "TEAM", "GLOBAL"} else "LOCAL"
    return await _said("commit_memory", content=content, scope=scope, source_workspace_id=source_workspace_id)


async def tool_recall_memory(query: str = "", scope: str = "", source_workspace_id: str | None = None) -> str:
    """Return memories, a line each."""
    return await _said(
        "recall_memory", query=query, scope=scope.upper() or None, source_workspace_id=source_workspace_id
    )


async def report_activity(
    activity_type: str,
    target_id: str = "",
    summary: str = "",
    status: str = "ok",
    task_text: str = "",
    response_text: str = "",
    error_detail: str = "",
) -> None:
    """Write a row into this workspace's activity log, and have the heartbeat call the running turn `summary`. Best effort.

    The heartbeat itself is the host's: the predecessor sent one of its own, which left the workspace busy (contract `runtime.md` 7.5).
    """
    if summary:
        describe_task(summary)
    bodies: dict[str, Any] = {}
    if task_text:
        bodies["request_body"] = {"task": task_text}
    if response_text:
        bodies["response_body"] = {"result": response_text}
    if error_detail:
        bodies["error_detail"] = error_detail[:MAX_ERROR_CHARS]
    try:
        async with calling.acting() as (_, client):
            await client.log_activity(
                wire.ActivityRequest.model_validate(
                    {
                        "activity_type": activity_type,
                        "method": "message/send",
                        "source_id": client.workspace_id,
                        "target_id": target_id,
                        "summary": summary[:MAX_SUMMARY_CHARS],
                        "status": status,
                        **bodies,
                    }
                )
            )
    except (ConfigurationError, PlatformError, ValueError) as exc:
        logger.warning("%r is not in the activity log: %s", activity_type[:40], exc)


async def _said(name: str, **arguments: Any) -> str:
    return await calling.call_text(name, arguments)
