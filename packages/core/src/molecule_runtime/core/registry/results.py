"""What every tool returns on success beside its text, declared once: `structuredContent` of MCP. The schemas derive from these models.

A schema promises the keys that are always there and the types of the others; more keys may come, since a platform's own fields are kept.
Where an answer is too long to be read, strings are cut and lists are shortened, with an `{"omitted": n}` in place of the rest: so the
fields of a list's items are typed and not required. Importing this costs pydantic, as `arguments` does.
"""

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator

from molecule_runtime.core.first_use import BUILT_ON_FIRST_USE


class ToolResults(BaseModel):
    """Base of the models below."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True, defer_build=BUILT_ON_FIRST_USE)

    forms: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """For a tool with several kinds of results: the keys that each kind always has."""

    @model_validator(mode="after")
    def _is_of_one_form(self) -> Self:
        if self.forms and not any(self.model_fields_set.issuperset(form) for form in self.forms):
            raise ValueError(f"must have all keys of one of: {', '.join(map(str, self.forms))}")
        return self


class _Item(ToolResults):
    """One of a list: everything may be missing where the list was shortened."""

    omitted: int = 0


class Continuation(ToolResults):
    """The call that goes on where this one stopped waiting."""

    tool: str


class Peer(_Item):
    """A peer, and through which served workspace it is one."""

    id: str = ""
    name: str = ""
    role: str | None = None
    status: str = ""
    description: str = ""
    skills: list[str] = []
    via: str = ""


class Peers(ToolResults):
    """`list_peers`. `problems`: why a workspace has no list, by its id."""

    peers: list[Peer]
    problems: dict[str, str] = {}


class WorkspaceRow(ToolResults):
    """`get_workspace_info`: the platform's row."""

    id: str
    name: str = ""
    role: str = ""
    status: str = ""
    url: str = ""
    tier: int = 0
    runtime: str = ""
    delivery_mode: str = ""


class Identity(ToolResults):
    """`get_runtime_identity`."""

    model: str
    model_provider: str
    molecule_model: str
    anthropic_base_url: str
    tier: str
    workspace_id: str
    runtime: str


class Done(ToolResults):
    """`update_agent_card`, `forget_memory`."""

    success: bool
    id: str = ""
    status: str = ""


class ChatMessage(_Item):
    """One message of a conversation."""

    activity_id: str = ""
    direction: str = ""
    text: str = ""
    reply: str = ""
    created_at: str = ""


class ChatMessages(ToolResults):
    """`chat_history`, oldest first."""

    messages: list[ChatMessage]
    omitted: int = 0


class File(_Item):
    """A file of an answer."""

    uri: str = ""
    name: str = ""
    mime_type: str = ""


class Delegated(ToolResults):
    """`delegate_task`: the peer's answer, or how to follow the task."""

    forms = (("text",), ("delegation_id",))

    status: str
    workspace_id: str
    name: str = ""
    text: str = ""
    state: str | None = None
    delegation_id: str = ""
    delivery_mode: str = ""
    files: list[File] = []
    continue_with: Continuation | None = None


class DelegationStarted(ToolResults):
    """`delegate_task_async`."""

    delegation_id: str
    workspace_id: str
    status: str
    note: str = ""
    warning: str = ""


class Delegation(_Item):
    """How one delegation stands."""

    delegation_id: str = ""
    target_id: str = ""
    status: str = ""
    summary: str = ""
    created_at: str = ""
    note: str = ""
    error: str = ""
    response_preview: str = ""


class DelegationStates(Delegation):
    """`check_task_status`: one delegation, or the newest in `delegations`."""

    forms = (("delegation_id", "status"), ("delegations", "count"))

    response: str = ""
    already_collected: str = ""
    delegations: list[Delegation] = []
    count: int = 0


class Sent(ToolResults):
    """`send_message_to_user`."""

    status: str
    attachments: int


class Broadcast(ToolResults):
    """`broadcast_message`."""

    status: str
    delivered: int


class Asked(ToolResults):
    """`create_request`, `create_approval`. `fingerprint`: of the action and its arguments; an approval holds for them alone."""

    request_id: str
    kind: str
    status: str
    decided_by: str = ""
    fingerprint: str = ""
    valid_seconds: int = 0
    continue_with: Continuation | None = None


class Request(_Item):
    """A request of the platform."""

    id: str = ""
    kind: str = ""
    status: str = ""
    title: str = ""
    detail: str = ""
    requester_id: str = ""
    recipient_type: str = ""
    recipient_id: str | None = None
    created_at: str = ""


class Requests(ToolResults):
    """`list_inbox`, `check_requests`."""

    requests: list[Request]
    omitted: int = 0


class RequestMessage(_Item):
    """What was said about a request."""

    id: str = ""
    author_type: str = ""
    author_id: str | None = None
    created_at: str = ""
    body: str = ""


class RequestDetails(ToolResults):
    """`get_request`."""

    request: Request
    messages: list[RequestMessage]


class RequestChanged(ToolResults):
    """`respond_request`, `add_request_message`, `cancel_request`."""

    request_id: str
    status: str
    message_id: str = ""


class PluginInstalled(ToolResults):
    """`install_plugin`: installed, or (`status` working) still going on."""

    forms = (("plugin",), ("status", "continue_with"))

    source: str
    plugin: str = ""
    restarting: bool = False
    status: str = ""
    continue_with: Continuation | None = None


class MemoryStored(ToolResults):
    """`commit_memory`. `redacted`: how many credentials of each kind were left out."""

    success: bool
    id: str
    scope: str
    source: str = ""
    redacted: dict[str, int] = {}


class Memory(_Item):
    """A memory; `trusted` where the user or the workspace itself said it."""

    id: str = ""
    scope: str = ""
    content: str = ""
    trusted: bool = False


class Memories(ToolResults):
    """`recall_memory`."""

    memories: list[Memory]
    count: int
    omitted: int = 0


class Goal(ToolResults):
    """`goal_get`, `goal_set`, `goal_clear`: null for none."""

    goal: str | None
    cadence_seconds: int = 0
    set_at: str = ""
    cleared: bool = False


class Task(_Item):
    """An entry of the workspace's own list."""

    id: str = ""
    title: str = ""
    status: str = ""
    next_action: str = ""
    created_at: str = ""
    updated_at: str = ""


class Tasks(ToolResults):
    """`task_list`. `total`: also those that are not shown."""

    tasks: list[Task]
    count: int
    total: int


class TaskChanged(ToolResults):
    """`task_add`, `task_update`, `task_complete`."""

    task: Task


class SavedFile(_Item):
    """A file that the code wrote and that was collected; `size` in bytes."""

    name: str = ""
    path: str = ""
    size: int = 0


class CodeRun(ToolResults):
    """`run_code`."""

    exit_code: int | None
    stdout: str
    stderr: str
    language: str
    backend: str
    seconds: float
    source: str = ""
    files: list[SavedFile] = []
    not_collected: dict[str, str] = {}


class DesktopStatus(ToolResults):
    """`desktop_status`."""

    available: bool
    workspace_id: str
    mode: str = ""
    error: str = ""


class Screenshot(ToolResults):
    """`desktop_screenshot`; width and height in pixels."""

    ok: bool
    path: str
    width: int
    height: int
    vision_safe: bool
    warning: str = ""


class DesktopDone(ToolResults):
    """`desktop_click`, `desktop_type`, `desktop_key`, `desktop_open_url`."""

    ok: bool


class DesktopControl(ToolResults):
    """`desktop_wait_for_control`: who has the desktop."""

    ok: bool
    control: str
    waited_s: float = 0
    error: str = ""


class Message(_Item):
    """A message of the inbox (contract `runtime.md` 4.2)."""

    activity_id: str = ""
    text: str = ""
    kind: str = ""
    peer_id: str = ""
    method: str = ""
    created_at: str = ""
    arrival_workspace_id: str = ""
    attachments: list[dict[str, Any]] = []
    redelivered: bool = False
    delivery_count: int = 0
    leased: bool = False
    pushed: bool = False
    backpressure: str = ""


class NextMessage(Message):
    """`wait_for_message`: a message, or `timeout`."""

    forms = (("activity_id", "text", "kind"), ("timeout",))

    timeout: bool = False
    timeout_secs: float = 0
    note: str = ""


class Messages(ToolResults):
    """`inbox_peek`."""

    messages: list[Message]
    omitted: int = 0


class Popped(ToolResults):
    """`inbox_pop`."""

    removed: bool
    activity_id: str
