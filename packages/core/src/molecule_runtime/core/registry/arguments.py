"""The arguments of every tool, declared once: the dispatcher validates with these models and the schemas derive from them.

Importing this module costs pydantic, so nothing imports it at start-up: use `ToolSpec.arguments` or `arguments_model`.

A model says the same as its schema, but for what a client should not have to know. It is looser once: `null` for an
optional argument means "not given". It is stricter about white space where text is needed, a time without its offset, an
attachment that names no file, and two names of the acting workspace that disagree.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from molecule_runtime.core.first_use import BUILT_ON_FIRST_USE

if TYPE_CHECKING:
    from collections.abc import Mapping


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _blank_is_none(value: str | None) -> str | None:
    return (value or "").strip() or None


def _whole(value: object) -> object:
    """Read 5.0 as 5, as JSON Schema does: some clients have only floating point numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rfc3339(value: str | None) -> str | None:
    if value is not None and datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("must carry a UTC offset, as in '2026-01-31T09:30:00Z'")
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
"""Text that says something."""

SourceWorkspace = Annotated[
    str | None,
    AfterValidator(_blank_is_none),
    Field(description="Which of your workspaces acts. Needed only when this runtime serves several."),
]
"""The acting workspace, as every tool that acts for one names it."""

WorkspaceAlias = Annotated[
    str | None,
    AfterValidator(_blank_is_none),
    Field(description="The same as source_workspace_id: which of your workspaces acts. Give one of the two."),
]
"""The acting workspace under the older name that three tools have for it."""


WaitForOutcome = Annotated[
    float, Field(ge=0, le=600, description="How many seconds to wait for the outcome; 0 returns at once.")
]
"""How long a request may hold the caller."""


class ToolArguments(BaseModel):
    """The arguments of one call, validated."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=BUILT_ON_FIRST_USE)

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id",)
    """The arguments of this tool that name the acting workspace, where it has them."""

    @model_validator(mode="before")
    @classmethod
    def _read_as_json(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast("Mapping[str, object]", data)
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {key: _whole(value) for key, value in given.items() if value is not None or key not in optional}

    @model_validator(mode="after")
    def _one_acting_workspace(self) -> Self:
        named = self._named_workspaces()
        if len(set(named.values())) > 1:
            pairs = " and ".join(f"{name}={value!r}" for name, value in named.items())
            raise ValueError(f"{pairs} mean the same argument but differ: give only one")
        return self

    def _named_workspaces(self) -> dict[str, str]:
        return {name: value for name in self.acting_names if (value := getattr(self, name, None)) is not None}

    @property
    def acting_workspace_id(self) -> str | None:
        """The workspace that the caller named to act; None when it named none or the tool acts for no workspace."""
        return next(iter(self._named_workspaces().values()), None)


class NoArguments(ToolArguments):
    """For a tool that answers for the whole runtime."""


class WorkspaceArguments(ToolArguments):
    """For a tool that needs to know only who acts."""

    source_workspace_id: SourceWorkspace = None


# Delegation and peers


class DelegateTask(ToolArguments):
    """Arguments of `delegate_task` and `delegate_task_async`."""

    workspace_id: Text = Field(description="Id of the peer that should do the task, as list_peers shows it.")
    task: Text = Field(
        description="The task in full. The peer sees only this text: include context, constraints and the result wanted."
    )
    source_workspace_id: SourceWorkspace = None


class CheckTaskStatus(ToolArguments):
    """Arguments of `check_task_status`."""

    workspace_id: str = Field(description="Id of the peer that the task was given to.")
    task_id: str = Field(
        description="The delegation_id that the delegation returned. An empty string lists the recent delegations."
    )
    source_workspace_id: SourceWorkspace = None


class ListPeers(ToolArguments):
    """Arguments of `list_peers`."""

    source_workspace_id: Annotated[
        str | None,
        AfterValidator(_blank_is_none),
        Field(description="Only the peers of this one of your workspaces. Without it, the peers of all of them."),
    ] = None


class UpdateAgentCard(ToolArguments):
    """Arguments of `update_agent_card`."""

    card: dict[str, Any] = Field(
        description="The whole new A2A agent card: name, description, skills and so on. It replaces the old card."
    )
    source_workspace_id: SourceWorkspace = None


# Messages, requests and plugins


class BroadcastMessage(ToolArguments):
    """Arguments of `broadcast_message`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    message: Text = Field(description="The text that every workspace of the organisation receives.")
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


class Attachment(BaseModel):
    """A file to attach: a local one by path, or one that is already uploaded by uri and name."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=BUILT_ON_FIRST_USE)

    path: str | None = Field(default=None, description="Path of a local file to upload.")
    file_path: str | None = Field(default=None, description="The same as path.")
    uri: str | None = Field(default=None, description="Address of a file that is already uploaded; needs name.")
    name: str | None = Field(default=None, description="File name to show.")
    mime_type_camel: str | None = Field(
        default=None, alias="mimeType", description="Media type; guessed from the name when absent."
    )
    mime_type: str | None = Field(default=None, description="The same as mimeType.")
    size: int | None = Field(default=None, ge=0, description="Size in bytes.")

    @model_validator(mode="after")
    def _names_a_file(self) -> Self:
        if not self.local_path and not (self.uri and self.name):
            raise ValueError("needs path for a local file, or uri and name for a file that is already uploaded")
        return self

    @property
    def local_path(self) -> str | None:
        """The local file to upload, if this names one."""
        return self.path or self.file_path

    @property
    def media_type(self) -> str | None:
        """The media type, under whichever of its names it came."""
        return self.mime_type_camel or self.mime_type


class SendMessageToUser(ToolArguments):
    """Arguments of `send_message_to_user`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    message: Text = Field(
        description="What the user reads, in Markdown. Attach files instead of writing links to them."
    )
    attachments: list[Text | Attachment] = Field(
        default=[], description="Files to attach, at most 25 MB each: paths of local files, or objects."
    )
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


class CreateRequest(ToolArguments):
    """Arguments of `create_request`."""

    kind: Literal["task", "approval"] = Field(
        description="task: something only a person can do. approval: a yes or no before you act."
    )
    title: Text = Field(description="One line that says what is asked for.")
    detail: str = Field(default="", description="What the person needs in order to decide or to act.")
    priority: int | None = Field(default=None, description="Higher is more urgent.")
    recipient_id: str = Field(default="", description="Id of a peer to ask. Without it, the user is asked.")
    wait_secs: WaitForOutcome = 0
    source_workspace_id: SourceWorkspace = None


class CreateApproval(ToolArguments):
    """Arguments of `create_approval`."""

    action: Text = Field(description="What you want to do, exactly and completely.")
    reason: str = Field(default="", description="Why it is needed and what it would affect.")
    wait_secs: WaitForOutcome = 0
    source_workspace_id: SourceWorkspace = None


_RequestId = Annotated[Text, Field(description="Id of the request.")]


class ListRequests(ToolArguments):
    """Arguments of `list_inbox` and `check_requests`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    status: Literal["", "pending", "info_requested", "done", "rejected", "approved", "cancelled"] = Field(
        default="", description="Only requests with this status. Empty returns all."
    )
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


class RequestId(ToolArguments):
    """Arguments of `get_request` and `cancel_request`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    request_id: _RequestId
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


class RespondRequest(ToolArguments):
    """Arguments of `respond_request`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    request_id: _RequestId
    action: Literal["done", "rejected", "approved"] = Field(
        description="done or rejected for a task; approved or rejected for an approval."
    )
    message: str = Field(default="", description="What to say with it, such as the result or the reason.")
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


class AddRequestMessage(ToolArguments):
    """Arguments of `add_request_message`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    request_id: _RequestId
    message: Text = Field(description="What to ask or to say.")
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


class InstallPlugin(ToolArguments):
    """Arguments of `install_plugin`."""

    acting_names: ClassVar[tuple[str, ...]] = ("source_workspace_id", "workspace_id")

    source: Text = Field(description="Where the plugin comes from: local://name or github://owner/repo[#ref].")
    workspace_id: WorkspaceAlias = None
    source_workspace_id: SourceWorkspace = None


# Desktop


class DesktopScreenshot(ToolArguments):
    """Arguments of `desktop_screenshot`."""

    path: str = Field(
        default="", description="File name for the PNG; folders are ignored. Made from the time if absent."
    )
    source_workspace_id: SourceWorkspace = None


class DesktopClick(ToolArguments):
    """Arguments of `desktop_click`."""

    x: int = Field(ge=0, description="Pixels from the left edge of the screen.")
    y: int = Field(ge=0, description="Pixels from the top edge of the screen.")
    button: int = Field(default=1, ge=1, le=3, description="1 left, 2 middle, 3 right.")
    source_workspace_id: SourceWorkspace = None


class DesktopType(ToolArguments):
    """Arguments of `desktop_type`."""

    # Plain `str`: a space is a thing to type.
    text: str = Field(min_length=1, description="The text to type into whatever has the focus.")
    delay_ms: int = Field(default=0, ge=0, le=1000, description="Pause between keystrokes in milliseconds.")
    source_workspace_id: SourceWorkspace = None


class DesktopKey(ToolArguments):
    """Arguments of `desktop_key`."""

    keys: Text = Field(description="A key or chord in X11 names, such as Return, Escape or ctrl+shift+t.")
    source_workspace_id: SourceWorkspace = None


class DesktopOpenUrl(ToolArguments):
    """Arguments of `desktop_open_url`."""

    url: str = Field(min_length=1, pattern="^https?://", description="The http or https address to open.")
    source_workspace_id: SourceWorkspace = None


class DesktopWaitForControl(ToolArguments):
    """Arguments of `desktop_wait_for_control`."""

    timeout_s: int = Field(default=60, ge=1, le=600, description="How many seconds to wait at most.")
    source_workspace_id: SourceWorkspace = None


# Inbox and history

_OnlyFor = Annotated[
    str | None,
    AfterValidator(_blank_is_none),
    Field(description="Only messages that arrived for this one of your workspaces. Without it, for any of them."),
]


class WaitForMessage(ToolArguments):
    """Arguments of `wait_for_message`."""

    timeout_secs: float = Field(default=60, ge=0, le=300, description="How many seconds to wait at most; 0 only looks.")
    source_workspace_id: _OnlyFor = None


class InboxPeek(ToolArguments):
    """Arguments of `inbox_peek`."""

    limit: int = Field(default=10, ge=1, description="How many messages to return at most.")
    source_workspace_id: _OnlyFor = None


class InboxPop(ToolArguments):
    """Arguments of `inbox_pop`."""

    activity_id: Text = Field(description="The activity_id of the message that you have dealt with.")
    source_workspace_id: _OnlyFor = None


class ChatHistory(ToolArguments):
    """Arguments of `chat_history`."""

    peer_id: Text = Field(description="Id of the peer whose conversation to read.")
    limit: int = Field(default=20, ge=1, le=500, description="How many messages to return at most.")
    before_ts: Annotated[str | None, AfterValidator(_rfc3339)] = Field(
        default=None,
        description="Only messages before this RFC 3339 time: pass the oldest created_at to read further back.",
        json_schema_extra={"format": "date-time"},
    )
    source_workspace_id: SourceWorkspace = None


# Memory


_MemoryKind = Literal["fact", "summary", "checkpoint"]


class CommitMemory(ToolArguments):
    """Arguments of `commit_memory`."""

    content: Text = Field(description="The fact to remember, understandable on its own. No secrets.")
    scope: Literal["LOCAL", "TEAM", "GLOBAL"] = Field(
        default="LOCAL",
        description="Who can recall it. LOCAL: you. TEAM: you, your parent and your siblings. GLOBAL: the organisation.",
    )
    source: str = Field(
        default="",
        description=(
            "Where you have it from: 'user' for what the user said, 'self' for your own conclusion, else the id of the peer, "
            "the URL or the file. All but 'user' and 'self' is recalled as quoted text."
        ),
    )
    kind: _MemoryKind = Field(
        default="fact", description="What it is: fact, summary of work, or checkpoint of a state."
    )
    source_workspace_id: SourceWorkspace = None


class RecallMemory(ToolArguments):
    """Arguments of `recall_memory`."""

    query: str = Field(default="", description="Words to look for. Empty returns the most recent memories.")
    scope: Literal["LOCAL", "TEAM", "GLOBAL", ""] = Field(
        default="", description="Only memories of this scope. Empty searches what this workspace stored itself."
    )
    kind: _MemoryKind | None = Field(default=None, description="Only memories of this kind.")
    limit: int = Field(default=20, ge=1, le=50, description="How many memories to return at most.")
    source_workspace_id: SourceWorkspace = None


class ForgetMemory(ToolArguments):
    """Arguments of `forget_memory`."""

    memory_id: Text = Field(description="Id of the memory, as commit_memory returned it and recall_memory shows it.")
    source_workspace_id: SourceWorkspace = None


# Goals and tasks


class GoalSet(ToolArguments):
    """Arguments of `goal_set`."""

    goal: Text = Field(description="The goal, with how you will know that it is reached.")
    cadence_seconds: int = Field(
        default=3600, ge=300, description="How often, in seconds, the goal should be looked at again."
    )
    source_workspace_id: SourceWorkspace = None


_TASK_STATUSES = "open, in_progress, blocked or completed"


class TaskList(ToolArguments):
    """Arguments of `task_list`."""

    status: str = Field(default="", description=f"Only tasks with this status: {_TASK_STATUSES}. Empty returns all.")
    limit: int = Field(default=20, ge=1, description="How many tasks to return at most.")
    source_workspace_id: SourceWorkspace = None


class TaskAdd(ToolArguments):
    """Arguments of `task_add`."""

    title: Text = Field(description="One line that says what is to be done.")
    next_action: str = Field(default="", description="The next concrete step.")
    source_workspace_id: SourceWorkspace = None


class TaskUpdate(ToolArguments):
    """Arguments of `task_update`."""

    task_id: Text = Field(description="Id of the task, as task_list shows it.")
    status: Text | None = Field(default=None, description=f"The new status: {_TASK_STATUSES}.")
    next_action: str | None = Field(default=None, description="The new next step. An empty string clears it.")
    source_workspace_id: SourceWorkspace = None


class TaskComplete(ToolArguments):
    """Arguments of `task_complete`."""

    task_id: Text = Field(description="Id of the task, as task_list shows it.")
    source_workspace_id: SourceWorkspace = None


# Code


class RunCode(ToolArguments):
    """Arguments of `run_code`."""

    code: Text = Field(description="The code, complete: nothing of an earlier run is there any more.")
    language: Literal["python", "node", "bash"] = Field(default="python", description="What it is written in.")
    files: list[Text] = Field(
        default=[],
        description="Paths of files in your folder that it needs. Copies lie beside the code under their last names.",
    )
    collect: list[Text] = Field(
        default=[],
        description="Plain names of files that it writes into the folder it starts in and that you want to have.",
    )
    source_workspace_id: SourceWorkspace = None
