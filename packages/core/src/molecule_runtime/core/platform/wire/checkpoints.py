"""Checkpoints of workflows (contract `platform-api.md` 13.2)."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from molecule_runtime.core.platform.wire import NonEmpty, Request, Response

MAX_NAME_CHARS = 256

Name = Annotated[NonEmpty, StringConstraints(max_length=MAX_NAME_CHARS)]
"""Of a workflow or a step."""


class CheckpointRequest(Request):
    """13.2: `POST …/checkpoints`."""

    workflow_id: Name
    step_name: Name
    step_index: Annotated[int, Field(ge=0, le=2**31, strict=True)] = 0
    payload: Any = None


class Saved(Response):
    """13.2: the step that was stored."""

    id: str
    workspace_id: str
    workflow_id: str
    step_name: str


class Checkpoint(Saved):
    """13.2: one step of a workflow that is done."""

    step_index: int = 0
    completed_at: str = ""
    payload: Any = None


class Deleted(Response):
    """13.2: how many steps a workflow had."""

    deleted: int
    workflow_id: str
