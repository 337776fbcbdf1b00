"""Schedules of a workspace: prompts that the platform sends at set times (contract 12); `scheduler` sends them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import schedules as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own, require_row
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.cron import CronError, next_after
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import schedules, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.schedules import ScheduleRow

NOT_FOUND = "schedule not found"

_TIMING = frozenset({"cron_expr", "timezone", "enabled"})


async def list_all(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/schedules`."""
    own = await require_own(platform, request)
    return web.answer([_body(row) for row in await platform.store.read(schedules.of_workspace, own.id)])


async def create(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/schedules`."""
    own = await require_own(platform, request)
    wanted = web.validate(wire.CreateScheduleRequest, await web.read_object(request))
    now = platform.now()
    following = _next_run(wanted.cron_expr, wanted.timezone, now)

    def store(connection: sqlite3.Connection) -> str:
        _require_free_name(connection, own.id, wanted.name)
        if len(schedules.of_workspace(connection, own.id)) >= schedules.MAX_ROWS:
            hint = f"a workspace has at most {schedules.MAX_ROWS}; delete one first"
            raise Refusal(409, "too many schedules", hint=hint)
        return schedules.insert(
            connection,
            workspace_id=own.id,
            name=wanted.name,
            cron_expr=wanted.cron_expr,
            timezone=wanted.timezone,
            prompt=wanted.prompt,
            enabled=wanted.enabled,
            next_run_at=following if wanted.enabled else None,
            now=now,
        )

    schedule_id = await platform.store.write(store)
    shown = timestamps.render(following if wanted.enabled else None)
    return web.answer({"id": schedule_id, "status": "created", "next_run_at": shown}, 201)


async def update(platform: Platform, request: Request) -> Response:
    """`PATCH /workspaces/:id/schedules/:sid`."""
    own = await require_own(platform, request)
    schedule_id: str = request.path_params["schedule_id"]
    wanted = web.validate(wire.UpdateScheduleRequest, await web.read_object(request))
    changes = wanted.model_dump(exclude_unset=True)

    def store(connection: sqlite3.Connection) -> None:
        before = _require(connection, own.id, schedule_id)
        row = replace(before, **changes)
        if row.name != before.name:
            _require_free_name(connection, own.id, row.name)
        now = platform.now()
        if _TIMING.intersection(changes):
            following = _next_run(row.cron_expr, row.timezone, now)
            row = replace(row, next_run_at=following if row.enabled else None)
        schedules.update(connection, row, now)

    await platform.store.write(store)
    return web.answer({"status": "updated"})


async def delete(platform: Platform, request: Request) -> Response:
    """`DELETE /workspaces/:id/schedules/:sid`."""
    own = await require_own(platform, request)
    if not await platform.store.write(schedules.delete, own.id, request.path_params["schedule_id"]):
        raise Refusal(404, NOT_FOUND)
    return web.answer({"status": "deleted"})


async def run(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/schedules/:sid/run`: only returns the prompt, which the caller sends (12.4)."""
    own = await require_own(platform, request)
    row = await platform.store.read(_require, own.id, request.path_params["schedule_id"])
    return web.answer({"status": "fired", "workspace_id": own.id, "prompt": row.prompt})


async def history(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/schedules/:sid/history`."""
    own = await require_own(platform, request)
    schedule_id: str = request.path_params["schedule_id"]

    def read(connection: sqlite3.Connection) -> list[schedules.RunRow]:
        _require(connection, own.id, schedule_id)
        return schedules.history(connection, own.id, schedule_id)

    runs = [
        {
            "timestamp": timestamps.render(row.created_at),
            "duration_ms": row.duration_ms,
            "status": row.status,
            "error_detail": row.error_detail or "",
            "request": None if row.request_json is None else web.loads(row.request_json),
        }
        for row in await platform.store.read(read)
    ]
    return web.answer(runs)


async def health(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/schedules/health`: for every workspace that may talk to this one."""
    workspace_id = web.workspace_id_of(request)
    credentials = credentials_of(request)
    claimed = request.headers.get("x-workspace-id", "").strip()

    def read(connection: sqlite3.Connection) -> list[ScheduleRow]:
        if not platform.auth.is_admin(credentials):
            if not claimed:
                raise Refusal(401, "X-Workspace-ID header is required")
            caller = platform.auth.caller(connection, credentials, claimed)
            if not workspaces.may_communicate(connection, caller.workspace_id or "", workspace_id):
                raise Refusal(403, "access denied: workspaces cannot communicate per hierarchy rules")
        require_row(connection, workspace_id)
        return schedules.of_workspace(connection, workspace_id)

    return web.answer([_health_body(row) for row in await platform.store.read(read)])


def _next_run(expression: str, zone: str, now: int) -> int:
    try:
        following = next_after(expression, zone, now)
    except CronError as exc:
        raise Refusal(
            400, str(exc), hint="for example `0 9 * * 1-5` in Europe/Berlin: at 9:00 on working days"
        ) from None
    if following is None:
        raise Refusal(400, "invalid cron expression: it names no moment of the next 50 years")
    return following


def _require(connection: sqlite3.Connection, workspace_id: str, schedule_id: str) -> ScheduleRow:
    row = schedules.get(connection, workspace_id, schedule_id)
    if row is None:
        raise Refusal(404, NOT_FOUND)
    return row


def _require_free_name(connection: sqlite3.Connection, workspace_id: str, name: str) -> None:
    if (taken := schedules.named(connection, workspace_id, name)) is not None:
        error = f"a schedule named {name!r} exists" if name else "a schedule without a name exists"
        raise Refusal(409, error, schedule_id=taken, hint="choose another name, or change that schedule")


def _health_body(row: ScheduleRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "enabled": bool(row.enabled),
        "last_run_at": timestamps.render(row.last_run_at),
        "next_run_at": timestamps.render(row.next_run_at),
        "run_count": row.run_count,
        "last_status": row.last_status,
        "last_error": row.last_error,
    }


def _body(row: ScheduleRow) -> dict[str, Any]:
    return {
        **_health_body(row),
        "workspace_id": row.workspace_id,
        "cron_expr": row.cron_expr,
        "timezone": row.timezone,
        "prompt": row.prompt,
        "source": row.source,
        "consecutive_empty_runs": row.consecutive_empty_runs,
        "created_at": timestamps.render(row.created_at),
        "updated_at": timestamps.render(row.updated_at),
    }


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/schedules", handler=list_all, section="12.1", access="workspace",
        summary="Its schedules.", answers={200: list[wire.Schedule]},
        test="test_schedules.py::test_a_schedule_is_created_listed_changed_and_deleted",
    ),
    Route(
        method="POST", path="/workspaces/{id}/schedules", handler=create, section="12.2", access="workspace",
        summary="Have a prompt sent at set times.", body=wire.CreateScheduleRequest, answers={201: wire.CreateScheduleResponse},
        refusals=(409,), test="test_schedules.py::test_a_schedule_is_created_listed_changed_and_deleted",
    ),
    Route(
        method="PATCH", path="/workspaces/{id}/schedules/{schedule_id}", handler=update, section="12.3", access="workspace",
        summary="Change a schedule.", body=wire.UpdateScheduleRequest, answers={200: StatusResponse}, refusals=(409,),
        test="test_schedules.py::test_a_schedule_is_created_listed_changed_and_deleted",
    ),
    Route(
        method="DELETE", path="/workspaces/{id}/schedules/{schedule_id}", handler=delete, section="12.3", access="workspace",
        summary="Delete a schedule.", answers={200: StatusResponse},
        test="test_schedules.py::test_a_schedule_is_created_listed_changed_and_deleted",
    ),
    Route(
        method="POST", path="/workspaces/{id}/schedules/{schedule_id}/run", handler=run, section="12.4", access="workspace",
        summary="The prompt, for the caller to send.", answers={200: wire.RunScheduleResponse},
        test="test_schedules.py::test_running_by_hand_returns_the_prompt",
    ),
    Route(
        method="GET", path="/workspaces/{id}/schedules/{schedule_id}/history", handler=history, section="12.5", access="workspace",
        summary="Its last 20 runs.", answers={200: list[wire.ScheduleRun]},
        test="test_schedules.py::test_a_new_schedule_has_no_history",
    ),
    Route(
        method="GET", path="/workspaces/{id}/schedules/health", handler=health, section="12.6", access="member",
        summary="How its schedules fare, for those who may talk to it.", answers={200: list[wire.ScheduleHealth]},
        parameters=(Parameter(name="X-Workspace-ID", place="header", meaning="the caller"),),
        test="test_schedules.py::test_peers_see_how_schedules_fare_and_strangers_do_not",
    ),
)  # fmt: skip
