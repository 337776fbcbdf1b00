"""Budgets, what the models used, and figures for a Prometheus (contract 3.2, 7.5, 13.1)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from molecule_runtime.core.platform.wire import workspaces as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own, require_row
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import figures, token_usage, workspaces

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

INPUT_USD = Decimal(3)
OUTPUT_USD = Decimal(15)
"""For a million tokens (contract 5.5)."""


async def read_budget(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/budget`."""
    return web.answer(_budget(await require_own(platform, request)))


async def set_budget(platform: Platform, request: Request) -> Response:
    """`PATCH /workspaces/:id/budget` (admin)."""
    require_admin(platform, request)
    workspace_id = web.workspace_id_of(request)
    data = await web.read_object(request)
    if "budget_limit" not in data:
        raise web.Refusal(400, "invalid request body", hint="budget_limit: cents, or null for no limit")
    limit = data["budget_limit"]
    if limit is not None:
        limit = web.clamp(web.validate(wire.BudgetRequest, data).budget_limit or 0)
    changes: dict[str, Any] = {"budget_limit": limit}

    def store(connection: sqlite3.Connection) -> WorkspaceRow:
        require_row(connection, workspace_id)
        workspaces.update(connection, workspace_id, changes, platform.now())
        return require_row(connection, workspace_id)

    return web.answer(_budget(await platform.store.write(store)))


async def read_usage(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/metrics`: of the current day, in UTC."""
    own = await require_own(platform, request)
    day = timestamps.render(platform.now())[:10]
    used = await platform.store.read(token_usage.on_day, own.id, day)
    cost = (used.input_tokens * INPUT_USD + used.output_tokens * OUTPUT_USD) / 1_000_000
    body = {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "total_calls": used.calls,
        "estimated_cost_usd": f"{cost:.6f}",
        "period_start": f"{day}T00:00:00Z",
        "period_end": timestamps.render(timestamps.parse(f"{day}T00:00:00Z") + 86_400 * timestamps.SECOND),
    }
    return web.answer(body)


async def prometheus(platform: Platform, request: Request) -> Response:
    """`GET /metrics`: figures without names or ids, since anyone may read them."""
    del request
    counted = await platform.store.read(figures.counts)
    lines: list[str] = []
    for name, meaning, samples in counted:
        lines += [f"# HELP molecule_{name} {meaning}", f"# TYPE molecule_{name} gauge"]
        lines += [f"molecule_{name}{_labels(labels)} {value}" for labels, value in samples]
    return Response("\n".join([*lines, ""]), media_type="text/plain; version=0.0.4")


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""


def _budget(row: WorkspaceRow) -> dict[str, int | None]:
    remaining = None if row.budget_limit is None else max(0, row.budget_limit - row.monthly_spend)
    return {"budget_limit": row.budget_limit, "monthly_spend": row.monthly_spend, "budget_remaining": remaining}


_TEST = "test_billing.py::test_a_budget_is_set_by_the_admin_and_read_by_the_workspace"

ROUTES = (
    Route(
        method="GET", path="/metrics", handler=prometheus, section="3.2", access="anyone", summary="Figures for a Prometheus.",
        answers={200: "text/plain"}, test="test_billing.py::test_figures_are_given_in_the_text_format_of_prometheus",
    ),
    Route(
        method="GET", path="/workspaces/{id}/budget", handler=read_budget, section="13.1", access="workspace",
        summary="Limit and spend, in cents.", answers={200: wire.Budget}, test=_TEST,
    ),
    Route(
        method="PATCH", path="/workspaces/{id}/budget", handler=set_budget, section="13.1", access="admin",
        summary="Set or lift the limit.", body=wire.BudgetRequest, answers={200: wire.Budget}, test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/metrics", handler=read_usage, section="7.5, 5.5", access="workspace",
        summary="What its models used today.", answers={200: wire.UsageMetrics},
        test="test_billing.py::test_usage_that_an_answer_states_is_counted",
    ),
)  # fmt: skip
