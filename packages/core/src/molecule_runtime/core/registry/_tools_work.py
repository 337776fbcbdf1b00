"""Tools for the goal and the tasks that a workspace keeps for itself, on its own disk."""

from molecule_runtime.core.registry.spec import WORK_SECTION, ToolAnnotations, builtin_tool

_LOOK = ToolAnnotations(read_only=True, destructive=False, idempotent=True, open_world=False)
_ADD = ToolAnnotations(read_only=False, destructive=False, idempotent=False, open_world=False)
_SET = ToolAnnotations(read_only=False, destructive=True, idempotent=True, open_world=False)

WORK_TOOLS = (
    builtin_tool(
        "goal_get",
        "WorkspaceArguments",
        "Goal",
        title="Show the goal",
        short="Show the standing goal of this workspace. Returns JSON with the goal, its cadence and when it was set, or null.",
        when_to_use="Use it when you wake without a task, to decide what to do next.",
        section=WORK_SECTION,
        annotations=_LOOK,
    ),
    builtin_tool(
        "goal_set",
        "GoalSet",
        "Goal",
        title="Set the goal",
        short="Set the standing goal of this workspace in place of the old one. Returns JSON with the goal.",
        when_to_use=(
            "Use it when the user gives you something to pursue over many turns. There is one goal: setting it replaces "
            "the old one. Break it down with `task_add`."
        ),
        section=WORK_SECTION,
        annotations=_SET,
    ),
    builtin_tool(
        "goal_clear",
        "WorkspaceArguments",
        "Goal",
        title="Clear the goal",
        short="Remove the standing goal. Returns JSON that confirms it.",
        when_to_use="Use it when the goal is reached or the user drops it. The tasks stay.",
        section=WORK_SECTION,
        annotations=_SET,
    ),
    builtin_tool(
        "task_list",
        "TaskList",
        "Tasks",
        title="List tasks",
        short="List the tasks of this workspace, open ones first. Returns JSON with id, title, status and next action of each.",
        when_to_use=(
            "Look here first when you resume work. These are your own notes; for tasks you gave to peers use "
            "`check_task_status`."
        ),
        section=WORK_SECTION,
        annotations=_LOOK,
    ),
    builtin_tool(
        "task_add",
        "TaskAdd",
        "TaskChanged",
        title="Add a task",
        short="Add a task to the list of this workspace. Returns JSON with the task and its id.",
        when_to_use=(
            "Use it for work that outlasts this turn. To have a peer do it use `delegate_task`; to ask a person use "
            "`create_request`."
        ),
        section=WORK_SECTION,
        annotations=_ADD,
    ),
    builtin_tool(
        "task_update",
        "TaskUpdate",
        "TaskChanged",
        title="Update a task",
        short="Change the status or the next action of a task; what is not given stays. Returns JSON with the task.",
        when_to_use="Use it whenever you stop: note in `next_action` where to go on. To finish use `task_complete`.",
        section=WORK_SECTION,
        annotations=_SET,
    ),
    builtin_tool(
        "task_complete",
        "TaskComplete",
        "TaskChanged",
        title="Complete a task",
        short="Mark a task as completed. Returns JSON with the task.",
        when_to_use="Use it when the task is really done and checked, not when you have only started it.",
        section=WORK_SECTION,
        annotations=_SET,
    ),
)
