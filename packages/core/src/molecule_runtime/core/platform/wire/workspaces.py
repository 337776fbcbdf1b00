"""What is done with a workspace besides talking to it (contract `platform-api.md` 7.5, 13.1, 14, 24.7)."""

from typing import Annotated

from pydantic import Field, StringConstraints

from molecule_runtime.core.platform.wire import NonEmpty, Request, Response


class BroadcastRequest(Request):
    """24.7: `POST /workspaces/:id/broadcast`."""

    message: Annotated[NonEmpty, StringConstraints(max_length=256 * 1024)]


class BroadcastResponse(Response):
    """24.7: how many workspaces got it."""

    status: str
    delivered: int


class AbilitiesRequest(Request):
    """24.7: `PATCH /workspaces/:id/abilities`; absent keys stay as they are."""

    broadcast_enabled: bool | None = Field(default=None, strict=True)
    talk_to_user_enabled: bool | None = Field(default=None, strict=True)
    can_delegate: bool | None = Field(default=None, strict=True)


class ChatMessage(Response):
    """24.7: one message between the person and an agent."""

    id: str
    role: str
    text: str = ""
    created_at: str = ""
    attachments: list[dict[str, object]] = Field(default_factory=list[dict[str, object]])


class ChatHistory(Response):
    """24.7: the oldest first."""

    messages: list[ChatMessage]


class State(Response):
    """14.1: `GET …/state`; `deleted` comes with a 404."""

    workspace_id: str
    deleted: bool
    status: str | None = None
    paused: bool | None = None


class BudgetRequest(Request):
    """13.1: `PATCH /workspaces/:id/budget`, in cents; null takes the limit away."""

    budget_limit: Annotated[int, Field(ge=0, strict=True)] | None


class Budget(Response):
    """13.1: in cents."""

    budget_limit: int | None = None
    monthly_spend: int = 0
    budget_remaining: int | None = None


class UsageMetrics(Response):
    """7.5: what the models of a workspace used today, in UTC; the cost in US dollars, as text."""

    input_tokens: int
    output_tokens: int
    total_calls: int
    estimated_cost_usd: str
    period_start: str
    period_end: str


class OrgTokenRequest(Request):
    """14.4: `POST /org/tokens`."""

    name: Annotated[str, StringConstraints(max_length=100)] = ""


class OrgTokenResponse(Response):
    """14.4: the new token, shown once."""

    id: str
    prefix: str
    name: str = ""
    auth_token: str = Field(repr=False)
    warning: str = ""


class DroppedResponse(Response):
    """5.6: how many queued messages were dropped."""

    dropped: int
