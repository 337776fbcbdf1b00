"""The life of a workspace (contract 14.1, 14.3): its state, and stopping and starting whoever runs it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.wire import workspaces as shapes
from molecule_runtime.localplatform import web
from molecule_runtime.localplatform.access import check_itself, require_own
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.provisioning import Provisioner
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

_NO_PROVISIONER = "this platform does not run the workspace"
_HINT = "stop and start its process where it runs; `molecule-local up --seed FILE` runs processes itself"


async def state(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/state`: how a remote agent learns that it was paused or deleted."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)

    def read(connection: sqlite3.Connection) -> WorkspaceRow | None:
        platform.auth.require_workspace(connection, credentials, workspace_id)
        row = workspaces.get(connection, workspace_id)
        if row is not None and not row.removed:
            check_itself(connection, platform, credentials, workspace_id)
        return row

    row = await platform.store.read(read)
    if row is None:
        return web.answer({"workspace_id": workspace_id, "deleted": True}, 404)
    if row.removed:
        return web.answer({"workspace_id": workspace_id, "deleted": True, "status": "removed"}, 404)
    body = {"workspace_id": row.id, "status": row.status, "paused": row.status == "paused", "deleted": False}
    return web.answer(body)


async def pause(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/pause`: messages are refused until it is resumed; a process that runs here ends."""
    own = await require_own(platform, request)
    await _set_status(platform, own, "paused", "WORKSPACE_PAUSED")
    if (provisioner := platform.hosting.of(own.id)) is not None:
        await provisioner.stop(own.id)
    return web.answer({"status": "paused", "paused_count": 1})


async def hibernate(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/hibernate`: the next message wakes it."""
    own = await require_own(platform, request)
    await _set_status(platform, own, "hibernated", "WORKSPACE_HIBERNATED")
    if (provisioner := platform.hosting.of(own.id)) is not None:
        await provisioner.stop(own.id)
    return web.answer({"status": "hibernated"})


async def resume(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/resume`."""
    own = await require_own(platform, request)
    provisioner = platform.hosting.of(own.id)
    if provisioner is None and own.status not in {"paused", "hibernated"}:
        raise Refusal(503, _NO_PROVISIONER, hint=_HINT)
    await _set_status(platform, own, "provisioning" if provisioner else "offline", "WORKSPACE_PROVISIONING")
    if provisioner is not None:
        await provisioner.start(own.id)
    return web.answer({"status": "provisioning", "resumed_count": 1})


async def restart(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/restart`."""
    own = await require_own(platform, request)
    provisioner = _require_provisioner(platform, own)
    await _set_status(platform, own, "provisioning", "WORKSPACE_PROVISIONING")
    await provisioner.restart(own.id)
    return web.answer({"status": "provisioning", "config_dir": own.workspace_dir or "", "reset_session": False})


def _require_provisioner(platform: Platform, own: WorkspaceRow) -> Provisioner:
    provisioner = platform.hosting.of(own.id)
    if provisioner is None:
        raise Refusal(503, _NO_PROVISIONER, hint=_HINT)
    return provisioner


async def _set_status(platform: Platform, own: WorkspaceRow, status: str, event: str) -> None:
    changes: dict[str, Any] = {"status": status}
    await platform.store.write(workspaces.update, own.id, changes, platform.now())
    platform.bus.publish(event, own.id, {"name": own.name})


_TEST = "test_lifecycle.py::test_a_paused_workspace_takes_no_messages_until_it_is_resumed"

ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/state", handler=state, section="14.1", access="itself",
        summary="Paused or deleted?", answers={200: shapes.State, 404: shapes.State},
        test="test_lifecycle.py::test_a_workspace_reads_its_state_with_its_own_token_only",
    ),
    Route(
        method="POST", path="/workspaces/{id}/pause", handler=pause, section="14.3", access="workspace",
        summary="Take no messages, and end its process where it runs here.", answers={200: wire.StatusResponse}, test=_TEST,
    ),
    Route(
        method="POST", path="/workspaces/{id}/resume", handler=resume, section="14.3", access="workspace",
        summary="Take messages again.", answers={200: wire.StatusResponse}, test=_TEST,
    ),
    Route(
        method="POST", path="/workspaces/{id}/hibernate", handler=hibernate, section="14.3, 5.2", access="workspace",
        summary="Sleep until the next message.", answers={200: wire.StatusResponse},
        test="test_lifecycle.py::test_a_message_to_a_hibernated_workspace_says_that_it_wakes",
    ),
    Route(
        method="POST", path="/workspaces/{id}/restart", handler=restart, section="14.3", access="workspace",
        summary="Run its process anew, where it runs here.", answers={200: wire.StatusResponse},
        test="test_lifecycle.py::test_restart_is_refused_where_nobody_runs_the_workspace",
    ),
)  # fmt: skip
