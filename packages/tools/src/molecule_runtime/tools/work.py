"""Tools for the goal and the tasks that a workspace keeps for itself: goal_get, goal_set, goal_clear and task_*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread

from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.result import ToolResult, as_json, bounded
from molecule_runtime.tools.work_store import FILE_NAME, STATUSES, WorkStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from molecule_runtime.core.registry.arguments import (
        GoalSet,
        TaskAdd,
        TaskComplete,
        TaskList,
        TaskUpdate,
        WorkspaceArguments,
    )
    from molecule_runtime.tools.context import Call

MAX_GOAL_CHARS = 8000
MAX_TITLE_CHARS = 300
MAX_ACTION_CHARS = 4000
MAX_LISTED = 100
_SHOWN_BYTES = 512
"""Of a next action in a list; each task is shown whole by the tools that change it."""

_T = TypeVar("_T")


async def goal_get(call: Call[WorkspaceArguments]) -> ToolResult:
    """Return the standing goal."""
    goal = await _in_thread(_store(call).goal)
    return as_json({"goal": None} if goal is None else goal)


async def goal_set(call: Call[GoalSet]) -> ToolResult:
    """Set the standing goal in place of the old one."""
    goal = _short("goal", call.arguments.goal.strip(), MAX_GOAL_CHARS)
    store = _store(call)
    return as_json(await _in_thread(lambda: store.set_goal(goal, call.arguments.cadence_seconds)))


async def goal_clear(call: Call[WorkspaceArguments]) -> ToolResult:
    """Remove the standing goal."""
    return as_json({"cleared": await _in_thread(_store(call).clear_goal), "goal": None})


async def task_list(call: Call[TaskList]) -> ToolResult:
    """List tasks."""
    arguments = call.arguments
    status = _status(arguments.status) if arguments.status.strip() else ""
    store = _store(call)
    rows, count = await _in_thread(lambda: store.tasks(status, min(arguments.limit, MAX_LISTED)))
    shown: list[dict[str, Any]] = [{**row, "next_action": bounded(row["next_action"], _SHOWN_BYTES)} for row in rows]
    return as_json({"tasks": shown, "count": len(shown), "total": count})


async def task_add(call: Call[TaskAdd]) -> ToolResult:
    """Add a task."""
    title = _short("title", " ".join(call.arguments.title.split()), MAX_TITLE_CHARS)
    next_action = _short("next_action", call.arguments.next_action, MAX_ACTION_CHARS)
    store = _store(call)
    return as_json({"task": await _in_thread(lambda: store.add(title, next_action))})


async def task_update(call: Call[TaskUpdate]) -> ToolResult:
    """Change the status or the next action of a task."""
    arguments = call.arguments
    if arguments.status is None and arguments.next_action is None:
        raise ToolRefusedError("nothing would change: give status, next_action or both")
    status = None if arguments.status is None else _status(arguments.status)
    action = None if arguments.next_action is None else _short("next_action", arguments.next_action, MAX_ACTION_CHARS)
    store = _store(call)
    return as_json(
        {"task": await _in_thread(lambda: store.update(arguments.task_id.strip(), status=status, next_action=action))}
    )


async def task_complete(call: Call[TaskComplete]) -> ToolResult:
    """Mark a task as completed."""
    store = _store(call)
    task_id = call.arguments.task_id.strip()
    return as_json({"task": await _in_thread(lambda: store.update(task_id, status="completed"))})


def _store(call: Call[Any]) -> WorkStore:
    folder = call.context.state_dir
    if folder is None:
        raise ToolRefusedError(
            "this process has no folder for state, so it keeps no goal and no tasks; set CONFIGS_DIR"
        )
    client = call.client
    # Two platforms may give the same id to different workspaces.
    return WorkStore(folder / FILE_NAME, f"{client.target.platform_url}|{client.workspace_id}")


def _status(value: str) -> str:
    status = value.strip().lower()
    if status not in STATUSES:
        raise ToolRefusedError(f"status: {bounded(value, 80)!r} is none of: {', '.join(STATUSES)}")
    return status


def _short(argument: str, text: str, most: int) -> str:
    if len(text) > most:
        raise ToolRefusedError(f"{argument}: {len(text)} characters, and it holds {most}")
    return text


async def _in_thread(work: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(work)
