"""What is written down about a call: its spans and metrics, and its record in the audit ledger. Neither where nobody asked for it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core import registry
from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.context import ToolContext
    from molecule_runtime.tools.result import ToolResult

_WAITING: Final = frozenset({"wait_for_message", "inbox_peek"})
"""Asked every few seconds and doing nothing: in the ledger only when they are refused."""


async def observed(
    name: str,
    arguments: Mapping[str, Any] | None,
    context: ToolContext,
    run: Callable[[], Awaitable[ToolResult]],
) -> ToolResult:
    """Run a call and write down what it was and how it ended, also when it is cancelled."""
    is_traced = context.telemetry.is_on()
    if not is_traced and context.audit is None:
        return await run()
    client = _acting(arguments, context)
    is_shared = len(context.clients) > 1 and _serves_several_tenants(context)
    result: ToolResult | None = None
    trace_id = ""
    try:
        with ExitStack() as stack:
            if is_traced:
                span = stack.enter_context(
                    context.telemetry.tool_call(name, arguments, client=client, is_shared=is_shared)
                )
                trace_id = span.trace_id
                result = await run()
                span.finish(result)
            else:
                result = await run()
        return result
    finally:
        if context.audit is not None and not (name in _WAITING and result is not None and not result.is_error):
            await context.audit.tool_call(
                name,
                action=_action(name),
                agent_id=client.workspace_id if client else "",
                outcome=_outcome(result),
                arguments=arguments,
                answer=result.text if result else None,
                trace_id=trace_id,
                anchor=None if is_shared else client,
            )


def _acting(arguments: Mapping[str, Any] | None, context: ToolContext) -> PlatformClient | None:
    """Return the client of the workspace that acts; None where the call does not say, and will be refused."""
    named = (arguments or {}).get("source_workspace_id")
    if isinstance(named, str):
        return context.clients.get(named)
    return next(iter(context.clients.values())) if len(context.clients) == 1 else None


def _serves_several_tenants(context: ToolContext) -> bool:
    """Tell whether these workspaces belong to several tenants: what one did is no other platform's business, not even how much."""
    targets = [client.target for client in context.clients.values()]
    return len({(origin_of(target.platform_url), target.org_id) for target in targets}) > 1


def _action(name: str) -> str | None:
    return registry.by_name(name).permission if name in registry.tool_names() else None


def _outcome(result: ToolResult | None) -> str:
    if result is None:
        return "cancelled"
    return (result.error_type or "failure") if result.is_error else "success"
