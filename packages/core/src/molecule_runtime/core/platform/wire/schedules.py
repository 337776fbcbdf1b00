"""Schedules: prompts that the platform sends to a workspace at set times (contract `platform-api.md` 12)."""

from typing import Annotated, Any

from pydantic import AfterValidator, StringConstraints

from molecule_runtime.core.platform.wire import NonEmpty, Request, Response

MAX_PROMPT_CHARS = 64 * 1024
MAX_NAME_CHARS = 255


def _without_carriage_returns(prompt: str) -> str:
    prompt = prompt.replace("\r", "")
    if not prompt.strip():
        raise ValueError("the prompt is empty")
    return prompt


Prompt = Annotated[NonEmpty, StringConstraints(max_length=MAX_PROMPT_CHARS), AfterValidator(_without_carriage_returns)]
Name = Annotated[str, StringConstraints(max_length=MAX_NAME_CHARS, pattern=r"^[^\r\n]*$")]


class CreateScheduleRequest(Request):
    """12.2: `POST /workspaces/:id/schedules`; the expression has five fields."""

    cron_expr: NonEmpty
    prompt: Prompt
    name: Name = ""
    timezone: str = "UTC"
    enabled: bool = True


class UpdateScheduleRequest(Request):
    """12.3: `PATCH /workspaces/:id/schedules/:sid`: any of them."""

    cron_expr: NonEmpty | None = None
    prompt: Prompt | None = None
    name: Name | None = None
    timezone: NonEmpty | None = None
    enabled: bool | None = None


class CreateScheduleResponse(Response):
    """12.2: the new schedule; one that is switched off has no next run."""

    id: str
    status: str
    next_run_at: str | None = None


class ScheduleHealth(Response):
    """12.6: what other workspaces may see of a schedule."""

    id: str
    name: str = ""
    enabled: bool = True
    last_run_at: str | None = None
    next_run_at: str | None = None
    run_count: int = 0
    last_status: str = ""
    last_error: str = ""


class Schedule(ScheduleHealth):
    """12.1: one row of `GET /workspaces/:id/schedules`."""

    workspace_id: str = ""
    cron_expr: str = ""
    timezone: str = "UTC"
    prompt: str = ""
    source: str = ""
    consecutive_empty_runs: int = 0
    created_at: str = ""
    updated_at: str = ""


class RunScheduleResponse(Response):
    """12.4: the prompt, for the caller to send."""

    status: str
    workspace_id: str
    prompt: str


class ScheduleRun(Response):
    """12.5: one row of the history."""

    timestamp: str
    duration_ms: int | None = None
    status: str | None = None
    error_detail: str = ""
    request: Any = None
