"""The platform's JSON shapes, once: the client sends and reads them, the local platform answers with them.

Requests carry only keys of the workspace-comms schemas, which forbid others (contract `platform-api.md` 24.12); answers keep keys
that we do not know, since a newer platform may add some. Section numbers are those of `platform-api.md`.

Here are the shapes that every client needs; those of one subject each stand in a module beside this one (`memory`, `requests`, …), so
that a process pays at its start only for what it speaks.
"""

from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from molecule_runtime.core.first_use import BUILT_ON_FIRST_USE

DeliveryMode = Literal["push", "poll"]
JsonObject = dict[str, Any]


def _encodable(value: object) -> object:
    # Half of an emoji, cut by a model or a script: pydantic refuses it in a constrained text, and nobody could mend it.
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


NonEmpty = Annotated[str, BeforeValidator(_encodable), StringConstraints(min_length=1)]


def _object_or_none(value: object) -> object:
    return cast("JsonObject", value) if isinstance(value, dict) else None


def _objects(value: object) -> object:
    if not isinstance(value, list):
        return None
    return [cast("JsonObject", item) for item in cast("list[object]", value) if isinstance(item, dict)]


Coordinate = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]

# What other agents wrote: the platform takes any JSON for a card (4.1), and one peer's odd one must not spoil a whole list.
AgentCard: TypeAlias = Annotated[JsonObject | None, BeforeValidator(_object_or_none)]
Attachments: TypeAlias = Annotated[list[JsonObject] | None, BeforeValidator(_objects)]


class Request(BaseModel):
    """A body that a client sends."""

    model_config = ConfigDict(extra="ignore", defer_build=BUILT_ON_FIRST_USE)

    def body(self) -> JsonObject:
        """Return the JSON body, without the keys that were not set (absent and null differ on this wire)."""
        return self.model_dump(mode="json", exclude_unset=True)


class Response(BaseModel):
    """A body that the platform answers."""

    model_config = ConfigDict(extra="allow", defer_build=BUILT_ON_FIRST_USE)


class ErrorBody(Response):
    """1.2: every refusal."""

    error: str


class RegisterRequest(Request):
    """4.1, 24.1: `POST /registry/register`."""

    id: NonEmpty
    agent_card: JsonObject
    url: str = ""
    delivery_mode: DeliveryMode | None = None
    kind: Literal["workspace", "platform"] | None = None
    mcp_server_present: bool | None = None


class RegisterResponse(Response):
    """24.1: `auth_token` comes once, `platform_inbound_secret` every time (June)."""

    status: str
    delivery_mode: str | None = None
    auth_token: str | None = Field(default=None, repr=False)
    platform_inbound_secret: str | None = Field(default=None, repr=False)


class RuntimeMetadata(Request):
    """4.2.1: capability flags and the idle timeout of this workspace, in seconds."""

    capabilities: dict[str, bool] = Field(default_factory=dict)
    idle_timeout_seconds: int | None = None


class HeartbeatRequest(Request):
    """4.2, 24.2: `POST /registry/heartbeat`."""

    workspace_id: NonEmpty
    error_rate: float = Field(default=0.0, ge=0.0, le=1.0)
    sample_error: str = ""
    active_tasks: int = Field(default=0, ge=0)
    is_busy: bool | None = None
    uptime_seconds: int = Field(default=0, ge=0)
    current_task: str = ""
    monthly_spend: int | None = None
    runtime_state: str = ""
    runtime_metadata: RuntimeMetadata | None = None
    agent_card: JsonObject | None = None
    mcp_server_present: bool | None = None
    loaded_mcp_tools: list[str] | None = None


class HeartbeatResponse(Response):
    """24.2: the secret is sent again so that a runtime that missed it heals."""

    status: str
    platform_inbound_secret: str | None = Field(default=None, repr=False)


class UpdateCardRequest(Request):
    """4.3: `POST /registry/update-card`."""

    workspace_id: NonEmpty
    agent_card: JsonObject


class CheckAccessRequest(Request):
    """4.6: `POST /registry/check-access`."""

    caller_id: NonEmpty
    target_id: NonEmpty


class CheckAccessResponse(Response):
    """4.6: whether rule 2.1 lets them talk; unknown ids may not."""

    allowed: bool


class StatusResponse(Response):
    """An answer that says only what happened, in the verb's own word (23.1)."""

    status: str


class Discovered(Response):
    """4.4: `GET /registry/discover/:id`."""

    id: str
    name: str = ""
    url: str = ""


class Peer(Response):
    """4.5: one row of `GET /registry/:id/peers`."""

    id: str
    name: str | None = None
    role: str | None = None
    tier: int | None = None
    status: str | None = None
    agent_card: AgentCard = None
    url: str | None = None
    parent_id: str | None = None
    active_tasks: int | None = None


class Workspace(Response):
    """14.1: `GET /workspaces/:id`."""

    id: str
    name: str | None = None
    role: str | None = None
    tier: int | None = None
    status: str | None = None
    url: str | None = None
    parent_id: str | None = None
    agent_card: AgentCard = None
    active_tasks: int | None = None
    runtime: str | None = None
    delivery_mode: str | None = None


class ActivityRow(Response):
    """7.1, 24.4: one row of the activity list."""

    id: str
    workspace_id: str = ""
    activity_type: str = ""
    source_id: str | None = None
    target_id: str | None = None
    method: str | None = None
    summary: str | None = None
    duration_ms: int | None = None
    status: str | None = None
    error_detail: str | None = None
    created_at: str = ""
    seq: int | None = None
    request_body: Any = None
    response_body: Any = None
    tool_trace: Any = None
    peer_name: str | None = None
    peer_role: str | None = None
    agent_card_url: str | None = None
    attachments: Attachments = None


class AckRequest(Request):
    """24.4: `POST /workspaces/:id/activity/ack`."""

    acked_seq: Annotated[int, Field(ge=0, strict=True)]


class AckResponse(Response):
    """24.4: up to where rows are acknowledged now."""

    last_acked_seq: int = 0


class ActivityRequest(Request):
    """7.2: `POST /workspaces/:id/activity`."""

    activity_type: NonEmpty
    method: str | None = None
    summary: str | None = None
    target_id: str | None = None
    source_id: str | None = None
    status: str = "ok"
    error_detail: str | None = None
    duration_ms: int | None = None
    request_body: Any = None
    response_body: Any = None
    metadata: Any = None


class Attachment(Request):
    """7.3: a file that was uploaded before."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    uri: NonEmpty
    name: NonEmpty
    mime_type: str | None = Field(default=None, alias="mimeType")
    size: int | None = None

    def body(self) -> JsonObject:
        """Return the JSON body with the wire's own key names."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


class NotifyRequest(Request):
    """7.3: `POST /workspaces/:id/notify`."""

    message: NonEmpty
    attachments: list[Attachment] = Field(default_factory=list[Attachment])

    def body(self) -> JsonObject:
        """Return the JSON body; no `attachments` key when there are none."""
        data: JsonObject = {"message": self.message}
        if self.attachments:
            data["attachments"] = [attachment.body() for attachment in self.attachments]
        return data


class DelegateRequest(Request):
    """6.1: `POST /workspaces/:id/delegate`."""

    target_id: NonEmpty
    task: NonEmpty
    idempotency_key: str | None = None
    metadata: dict[str, Any] | None = None
    """Ours: goes into the metadata of the message, such as the chain of those who handed the task on. Other platforms ignore it."""


class RecordDelegationRequest(Request):
    """6.3: `POST /workspaces/:id/delegations/record`."""

    target_id: NonEmpty
    task: NonEmpty
    delegation_id: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class UpdateDelegationRequest(Request):
    """6.3: `POST /workspaces/:id/delegations/:delegation_id/update`."""

    status: Literal["completed", "failed"]
    error: str | None = None
    response_preview: str | None = None


class DelegateResponse(Response):
    """6.1: 202 for a new delegation, 200 with `idempotent_hit` for one that exists."""

    delegation_id: str
    status: str
    target_id: str = ""
    idempotent_hit: bool = False
    warning: str | None = None


class Delegation(Response):
    """6.2, 24.6: one row of `GET /workspaces/:id/delegations`, in the ledger or the two-row form."""

    delegation_id: str | None = None
    source_id: str | None = None
    target_id: str | None = None
    summary: str | None = None
    status: str = ""
    created_at: str = ""
    updated_at: str | None = None
    response_preview: str | None = None
    error: str | None = None


class QueuedMessage(Response):
    """24.5: a message that waits for a busy target; `response_body` is base64 of what it answered."""

    queue_id: str = ""
    status: str
    last_error: str | None = None
    response_body: str | None = None


class JsonRpcRequest(Request):
    """5.1: what the A2A proxy takes; without `jsonrpc` it is wrapped."""

    model_config = ConfigDict(extra="allow")

    method: str
    params: JsonObject = Field(default_factory=dict)


class PatchWorkspaceRequest(Request):
    """14.3: `PATCH /workspaces/:id`; absent keys stay as they are, and a null parent makes it a root."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = None
    role: Annotated[str, StringConstraints(max_length=1000)] | None = None
    tier: int | None = Field(default=None, ge=0, le=4)
    parent_id: str | None = None
    runtime: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    workspace_dir: Annotated[str, StringConstraints(max_length=4096)] | None = None
    x: Coordinate | None = None
    y: Coordinate | None = None
    collapsed: bool | None = Field(default=None, strict=True)


class Canvas(Request):
    """14.2: where the workspace stands on the page."""

    x: Coordinate = 0.0
    y: Coordinate = 0.0


class InitialMemory(Request):
    """14.2: a memory that the workspace begins with."""

    content: NonEmpty
    scope: Literal["LOCAL", "TEAM", "GLOBAL"] = "LOCAL"


class CreateWorkspaceRequest(Request):
    """14.2: `POST /workspaces` (admin)."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    role: Annotated[str, StringConstraints(max_length=1000)] | None = None
    runtime: Annotated[str, StringConstraints(max_length=100)] | None = None
    model: Annotated[str, StringConstraints(max_length=100)] | None = None
    tier: int = Field(default=3, ge=0, le=4)
    external: bool = False
    url: str | None = None
    parent_id: str | None = None
    delivery_mode: DeliveryMode | None = None
    kind: Literal["workspace", "platform"] = "workspace"
    max_concurrent_tasks: int = Field(default=1, ge=1)
    budget_limit: Annotated[int, Field(ge=0, strict=True)] | None = None
    workspace_dir: Annotated[str, StringConstraints(max_length=4096)] | None = None
    workspace_access: Literal["none", "read_only", "read_write"] = "none"
    canvas: Canvas | None = None
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)
    initial_memories: list[InitialMemory] = Field(default_factory=list[InitialMemory], max_length=100)


class Connection(Response):
    """14.5: what an external workspace needs to connect; the token is shown once."""

    workspace_id: str
    platform_url: str
    auth_token: str = Field(repr=False)
    registry_endpoint: str = ""
    heartbeat_endpoint: str = ""


class CreateWorkspaceResponse(Response):
    """14.2, 14.5: the new row."""

    id: str
    status: str
    external: bool = False
    connection: Connection | None = None


class TokenResponse(Response):
    """14.4: `POST /workspaces/:id/tokens`; the token is shown once."""

    auth_token: str = Field(repr=False)
    workspace_id: str
