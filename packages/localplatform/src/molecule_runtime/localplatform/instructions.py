"""Rules that the admin gives to every agent or to one, and the text that an agent reads at its start (contract 11.5)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import StatusResponse
from molecule_runtime.core.platform.wire import boot as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import instructions, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.instructions import InstructionRow

NOT_FOUND = "instruction not found"

_HEADINGS = {"global": "Platform-Wide Rules", "workspace": "Role-Specific Rules"}


def render(rows: Iterable[InstructionRow]) -> str:
    """Return the rules as one text, in the order in which they come; empty when there are none."""
    lines: list[str] = []
    scope = None
    for row in rows:
        if row.scope != scope:
            scope = row.scope
            lines.append(f"\n## {_HEADINGS[scope]}\n\n")
        lines.append(f"### {row.title}\n{row.content}\n\n")
    return "".join(lines)


async def resolve(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/instructions/resolve`."""
    own = await require_own(platform, request)
    rows = await platform.store.read(instructions.in_force, own.id)
    return web.answer({"workspace_id": own.id, "instructions": render(rows)})


async def list_all(platform: Platform, request: Request) -> Response:
    """`GET /instructions` (admin)."""
    require_admin(platform, request)
    return web.answer([_body(row) for row in await platform.store.read(instructions.every)])


async def create(platform: Platform, request: Request) -> Response:
    """`POST /instructions` (admin)."""
    require_admin(platform, request)
    wanted = web.validate(wire.CreateInstructionRequest, _checked(await web.read_object(request)))

    def store(connection: sqlite3.Connection) -> str:
        if instructions.count(connection) >= instructions.MAX_ROWS:
            raise Refusal(409, "too many instructions", hint=f"at most {instructions.MAX_ROWS}; delete one first")
        return instructions.insert(
            connection,
            scope=wanted.scope,
            scope_target=_target(connection, wanted.scope, wanted.scope_target),
            title=wanted.title,
            content=wanted.content,
            priority=wanted.priority,
            enabled=wanted.enabled,
            now=platform.now(),
        )

    return web.answer({"id": await platform.store.write(store)}, 201)


async def update(platform: Platform, request: Request) -> Response:
    """`PUT /instructions/:id` (admin)."""
    require_admin(platform, request)
    instruction_id: str = request.path_params["id"]
    wanted = web.validate(wire.UpdateInstructionRequest, _checked(await web.read_object(request)))
    changes = wanted.model_dump(exclude_unset=True)

    def store(connection: sqlite3.Connection) -> None:
        row = instructions.get(connection, instruction_id)
        if row is None:
            raise Refusal(404, NOT_FOUND)
        row = replace(row, **changes)
        target = row.scope_target if row.scope == "workspace" else wanted.scope_target
        row = replace(row, scope_target=_target(connection, row.scope, target))
        instructions.update(connection, row, platform.now())

    await platform.store.write(store)
    return web.answer({"status": "updated"})


async def delete(platform: Platform, request: Request) -> Response:
    """`DELETE /instructions/:id` (admin)."""
    require_admin(platform, request)
    if not await platform.store.write(instructions.delete, request.path_params["id"]):
        raise Refusal(404, NOT_FOUND)
    return web.answer({"status": "deleted"})


def _checked(data: dict[str, Any]) -> dict[str, Any]:
    if data.get("scope") == "team":
        raise Refusal(400, "team scope is not supported", hint="use 'global', or 'workspace' with scope_target")
    return data


def _target(connection: sqlite3.Connection, scope: str, target: str | None) -> str | None:
    if scope == "global":
        if target:
            raise Refusal(400, "scope_target is only for scope 'workspace'")
        return None
    if not target:
        raise Refusal(400, "scope_target is required for scope 'workspace'", hint="the id of the workspace")
    row = workspaces.get(connection, target)
    if row is None or row.removed:
        raise Refusal(400, "scope_target is not a workspace", hint="`molecule-local workspace list` shows their ids")
    return target


def _body(row: InstructionRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "scope": row.scope,
        "scope_target": row.scope_target,
        "title": row.title,
        "content": row.content,
        "priority": row.priority,
        "enabled": bool(row.enabled),
        "created_at": timestamps.render(row.created_at),
        "updated_at": timestamps.render(row.updated_at),
    }


ROUTES = (
    Route(
        method="GET", path="/workspaces/{id}/instructions/resolve", handler=resolve, section="11.5", access="workspace",
        summary="The rules for this workspace as one text.", answers={200: wire.ResolvedInstructions},
        test="test_instructions.py::test_rules_for_all_and_for_a_workspace_are_one_text_by_priority",
    ),
    Route(
        method="GET", path="/instructions", handler=list_all, section="11.5", access="admin", summary="Every rule.",
        answers={200: list[wire.InstructionRow]}, test="test_instructions.py::test_the_admin_keeps_the_rules",
    ),
    Route(
        method="POST", path="/instructions", handler=create, section="11.5", access="admin",
        summary="Add a rule for all workspaces or for one.", body=wire.CreateInstructionRequest, answers={201: wire.Created},
        refusals=(409,), test="test_instructions.py::test_the_admin_keeps_the_rules",
    ),
    Route(
        method="PUT", path="/instructions/{id}", handler=update, section="11.5", access="admin", summary="Change a rule.",
        body=wire.UpdateInstructionRequest, answers={200: StatusResponse},
        test="test_instructions.py::test_the_admin_keeps_the_rules",
    ),
    Route(
        method="DELETE", path="/instructions/{id}", handler=delete, section="11.5", access="admin", summary="Delete a rule.",
        answers={200: StatusResponse}, test="test_instructions.py::test_the_admin_keeps_the_rules",
    ),
)  # fmt: skip
