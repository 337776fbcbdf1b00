"""Runs one tool for a client: its progress, its question which workspace acts, its result in the protocol's form."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types

from molecule_runtime.core import registry
from molecule_runtime.mcp.choosing import FIELD, can_ask, choose
from molecule_runtime.tools import dispatch
from molecule_runtime.tools.errors import WorkspaceNotNamedError

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

    from molecule_runtime.mcp.opening import Opened
    from molecule_runtime.mcp.settings import McpSettings
    from molecule_runtime.tools import ToolContext, ToolResult

PROGRESS_GAP: Final = 0.5
"""Seconds between two reports at least."""

ALIVE_SECONDS: Final = 10.0
"""After so long without a report, one says that the call is still at work."""


class _Reports:
    """The progress of one call: in order, not too often, and none after the result."""

    def __init__(self, ctx: ServerRequestContext[Any, Any], name: str) -> None:
        self._ctx = ctx
        self._name = name
        self._began = time.monotonic()
        self._last = float("-inf")
        self._step = 0
        self.over = False

    async def __call__(self, text: str) -> None:
        now = time.monotonic()
        if self.over or now - self._last < PROGRESS_GAP:
            return
        self._last = now
        self._step += 1
        await self._ctx.session.report_progress(self._step, None, text)

    async def stay_alive(self) -> None:
        """Report now and then that the call is still at work, until cancelled."""
        while True:
            await anyio.sleep(max(PROGRESS_GAP, self._last + ALIVE_SECONDS - time.monotonic()))
            if time.monotonic() - self._last >= ALIVE_SECONDS:
                await self(f"{self._name}: at work for {time.monotonic() - self._began:.0f} s")


async def call_tool(
    ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams, opened: Opened, settings: McpSettings
) -> types.CallToolResult | types.InputRequiredResult:
    """Run a tool and return its result, or (2026-07-28) the question that its user has to answer first."""
    began = time.monotonic()
    context, arguments = opened.context, dict(params.arguments or {})
    with opened.at_work(params.name):
        result = await _run(ctx, params.name, arguments, context)
        if result.error_type == WorkspaceNotNamedError.__name__ and _changes_something(params.name):
            choices = {
                client.workspace_id: f"{settings.name_of(client.workspace_id)} at {client.target.platform_url}"
                for client in context.clients.values()
            }
            chosen = await choose(ctx, params, choices) if can_ask(ctx, choices) else None
            if isinstance(chosen, types.InputRequiredResult):
                return chosen
            if chosen is not None:
                result = await _run(ctx, params.name, {**arguments, FIELD: chosen}, context)
    context.telemetry.mcp_call(params.name, time.monotonic() - began, result)
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=result.text)],
        structured_content=dict(result.structured),
        is_error=result.is_error,
    )


def _changes_something(name: str) -> bool:
    """Tell whether a tool acts: a question to the user about one that only reads would cost more than it is worth."""
    return not registry.by_name(name).annotations.read_only


async def _run(
    ctx: ServerRequestContext[Any, Any], name: str, arguments: dict[str, Any], context: ToolContext
) -> ToolResult:
    if not ctx.meta or ctx.meta.get("progress_token") is None:
        return await dispatch(name, arguments, context)
    reports = _Reports(ctx, name)
    result: ToolResult | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(reports.stay_alive)
            result = await dispatch(name, arguments, context, progress=reports)
            group.cancel_scope.cancel()
    finally:
        reports.over = True
    if result is None:  # only where the group was cancelled from outside, which has raised
        raise RuntimeError("a call ended without a result")
    return result
