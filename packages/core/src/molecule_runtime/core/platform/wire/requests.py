"""Requests between agents and people, and approvals (contract `platform-api.md` 9, 24.8)."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from molecule_runtime.core.platform.wire import JsonObject, NonEmpty, Request, Response

Kind = Literal["task", "approval"]
Party = Literal["user", "agent"]
Action = Literal["done", "rejected", "approved"]

MAX_TITLE_CHARS = 2000
MAX_TEXT_CHARS = 64 * 1024

Title = Annotated[NonEmpty, StringConstraints(max_length=MAX_TITLE_CHARS)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]


class CreateRequest(Request):
    """24.8: `POST /workspaces/:id/requests`; for the person `recipient_id` is empty."""

    kind: Kind
    recipient_type: Party
    recipient_id: str = ""
    title: Title
    detail: Text | None = None
    priority: int | None = Field(default=None, ge=-(2**31), lt=2**31)


class CreateRequestResponse(Response):
    """24.8: the new request."""

    request_id: str
    status: str


class RequestRow(Response):
    """24.8: one row of the lists."""

    id: str
    kind: str
    requester_type: str = "agent"
    requester_id: str = ""
    org_id: str | None = None
    recipient_type: str = ""
    recipient_id: str = ""
    title: str = ""
    detail: str | None = None
    status: str = ""
    responder_type: str | None = None
    responder_id: str | None = None
    priority: int | None = None
    created_at: str = ""
    updated_at: str = ""
    responded_at: str | None = None
    workspace_name: str | None = None


class RequestMessage(Response):
    """24.8: one message of a request."""

    id: str
    request_id: str = ""
    author_type: str = ""
    author_id: str = ""
    body: str = ""
    created_at: str = ""


class RequestDetail(Response):
    """24.8: a request with its messages, the oldest first."""

    request: RequestRow
    messages: list[RequestMessage] = Field(default_factory=list[RequestMessage])


class RespondRequest(Request):
    """24.8: the outcome. An agent must name itself, else it is recorded as a person."""

    action: Action
    responder_type: Party = "user"
    responder_id: str | None = None


class RequestOutcome(Response):
    """24.8: what became of it."""

    request_id: str
    status: str


class AddMessageRequest(Request):
    """24.8: something to say about a request; on the wire the text is `body`."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    text: Annotated[NonEmpty, StringConstraints(max_length=MAX_TEXT_CHARS)] = Field(alias="body")
    author_type: Party
    author_id: str | None = None

    def body(self) -> JsonObject:
        """Return the JSON body with the wire's own key names."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class AddMessageResponse(Response):
    """24.8: the new message."""

    request_id: str
    message_id: str
    status: str


class CreateApprovalRequest(Request):
    """9.1: `POST /workspaces/:id/approvals`."""

    action: Title
    reason: Text | None = None
    task_id: Annotated[str, StringConstraints(max_length=256)] | None = None
    context: JsonObject = Field(default_factory=dict[str, Any])


class CreateApprovalResponse(Response):
    """9.1: the new approval."""

    approval_id: str
    status: str


class ApprovalRow(Response):
    """9.2: one row of the list that a requester polls."""

    id: str
    task_id: str = ""
    action: str = ""
    reason: str | None = None
    status: str = ""
    decided_by: str | None = None
    decided_at: str | None = None
    created_at: str = ""


class DecideRequest(Request):
    """9.3: `POST …/approvals/:approvalId/decide`."""

    decision: Literal["approved", "denied"]
    decided_by: Annotated[str, StringConstraints(max_length=256)] = "human"


class DecideResponse(Response):
    """9.3: what was decided."""

    approval_id: str
    status: str
