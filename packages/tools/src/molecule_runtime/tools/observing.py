"""What is written down about a call: its spans and metrics, and its record in the audit ledger. Neither where nobody asked for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core import registry
from molecule_runtime.core.identity import origin_of
from molecule_runtime.tools import telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.audit import AuditTrail
    from molecule_runtime.tools.context import ToolContext
    from molecule_runtime.tools.result import ToolResult
    from molecule_runtime.tools.telemetry import Telemetry

_WAITING: Final = frozenset({"wait_for_message", "inbox_peek"})
"""Asked every few seconds and doing nothing: in the ledger only when they are refused."""


async def observed(
    name: str,
    arguments: Mapping[str, Any] | None,
    context: ToolContext,
    run: Callable[[], Awaitable[ToolResult]],
) -> ToolResult:
    """Run a call of a tool and write down what it was and how it ended, also when it is cancelled."""
    if not context.telemetry.is_on() and context.audit is None:
        return await run()
    client = _acting(arguments, context)
    is_shared = len(context.clients) > 1 and _serves_several_tenants(context)
    observer = Observer(telemetry=context.telemetry, audit=context.audit, client=client, is_shared=is_shared)
    return await observer.watch(name, arguments, run, action=_action(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observer:
    """Who writes down what one workspace does.

    Attributes:
        audit: None for no ledger.
        client: of the workspace that acts; None where that is not known.
        is_shared: see `Telemetry.tool_call`.
    """

    telemetry: Telemetry = telemetry.PROCESS
    audit: AuditTrail | None = None
    client: PlatformClient | None = None
    is_shared: bool = False

    async def watch(
        self,
        name: str,
        arguments: Mapping[str, Any] | None,
        run: Callable[[], Awaitable[ToolResult]],
        *,
        action: str | None,
    ) -> ToolResult:
        """Run something and write down what it was and how it ended, also when it is cancelled.

        Args:
            name: of the tool, or of what is like one.
            arguments: of the call.
            run: does it.
            action: the permission that it takes.
        """
        result: ToolResult | None = None
        trace_id = ""
        try:
            with ExitStack() as stack:
                if self.telemetry.is_on():
                    span = stack.enter_context(
                        self.telemetry.tool_call(name, arguments, client=self.client, is_shared=self.is_shared)
                    )
                    trace_id = span.trace_id
                    result = await run()
                    span.finish(result)
                else:
                    result = await run()
            return result
        finally:
            if self.audit is not None and not (name in _WAITING and result is not None and not result.is_error):
                await self.audit.tool_call(
                    name,
                    action=action,
                    agent_id=self.client.workspace_id if self.client else "",
                    outcome=_outcome(result),
                    arguments=arguments,
                    answer=result.text if result else None,
                    trace_id=trace_id,
                    anchor=None if self.is_shared else self.client,
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
