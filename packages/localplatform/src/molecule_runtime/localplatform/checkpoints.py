"""Checkpoints of workflows, so that one that broke off goes on behind its last step (contract 13.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import checkpoints as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.keyvalue import kept_json
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import checkpoints
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.checkpoints import CheckpointRow

MAX_PAYLOAD_BYTES = 1024 * 1024
NOT_FOUND = "checkpoint not found"
LATEST = "latest"


async def create(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/checkpoints`: a step that is done, stored anew when it is done again."""
    own = await require_own(platform, request)
    wanted = web.validate(wire.CheckpointRequest, await web.read_object(request))
    hint = f"at most {MAX_PAYLOAD_BYTES} bytes of JSON; store it elsewhere, and where it is here"
    payload = kept_json("payload", wanted.payload, most=MAX_PAYLOAD_BYTES, hint=hint)

    def store(connection: sqlite3.Connection) -> str:
        if not checkpoints.has_room(connection, own.id, wanted.workflow_id, wanted.step_name, len(payload)):
            limits = (
                f"at most {checkpoints.MAX_STEPS} steps of one workflow and {checkpoints.MAX_BYTES} bytes of payloads"
            )
            raise Refusal(409, "too many steps", hint=f"{limits}; delete the workflow's steps when it is over")
        return checkpoints.put(
            connection,
            workspace_id=own.id,
            workflow_id=wanted.workflow_id,
            step_name=wanted.step_name,
            step_index=wanted.step_index,
            payload_json=payload.decode(),
            now=platform.now(),
        )

    checkpoint_id = await platform.store.write(store)
    body = {
        "id": checkpoint_id,
        "workspace_id": own.id,
        "workflow_id": wanted.workflow_id,
        "step_name": wanted.step_name,
    }
    return web.answer(body, 201)


async def list_workflow(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/checkpoints/:wfid`: the last step first."""
    own = await require_own(platform, request)
    rows = await platform.store.read(checkpoints.of_workflow, own.id, request.path_params["workflow_id"])
    if not rows:
        raise Refusal(404, NOT_FOUND)
    return web.answer([_body(row) for row in rows])


async def latest(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/checkpoints/latest`: of any workflow."""
    own = await require_own(platform, request)
    row = await platform.store.read(checkpoints.latest, own.id)
    if row is None:
        raise Refusal(404, NOT_FOUND)
    return web.answer(_body(row))


async def delete(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/checkpoints/:wfid`: also of a workflow that is called `latest`, which cannot be read (23.16)."""
    own = await require_own(platform, request)
    workflow_id: str = request.path_params.get("workflow_id", LATEST)
    deleted = await platform.store.write(checkpoints.delete, own.id, workflow_id)
    if not deleted:
        raise Refusal(404, NOT_FOUND)
    return web.answer({"deleted": deleted, "workflow_id": workflow_id})


def _body(row: CheckpointRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "workspace_id": row.workspace_id,
        "workflow_id": row.workflow_id,
        "step_name": row.step_name,
        "step_index": row.step_index,
        "completed_at": timestamps.render(row.completed_at),
        "payload": web.loads(row.payload_json),
    }


_TEST = "test_checkpoints.py::test_steps_of_a_workflow_are_listed_from_the_last"

ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/checkpoints", handler=create, section="13.2", access="workspace",
        summary="A step is done.", body=wire.CheckpointRequest, answers={201: wire.Saved}, refusals=(409,), test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/checkpoints/latest", handler=latest, section="13.2", access="workspace",
        summary="The step that was done last.", answers={200: wire.Checkpoint}, test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/checkpoints/{workflow_id}", handler=list_workflow, section="13.2", access="workspace",
        summary="The steps of a workflow.", answers={200: list[wire.Checkpoint]}, test=_TEST,
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/checkpoints/{workflow_id}", handler=delete, section="13.2", access="workspace",
        summary="The workflow is over.", answers={200: wire.Deleted}, test=_TEST,
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/checkpoints/latest", handler=delete, section="13.2, 23.16", access="workspace",
        summary="The same, of a workflow that is called `latest`.", answers={200: wire.Deleted},
        test="test_checkpoints.py::test_a_workflow_called_latest_is_stored_and_deleted_and_cannot_be_read",
    ),
)  # fmt: skip
