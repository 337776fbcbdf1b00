"""The one way to run a tool: validate the arguments, check the permission, run it within a deadline, bound the answer."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import anyio
from pydantic import ValidationError

from molecule_runtime.core import registry
from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.core.platform.client import INSTALL_TIMEOUT
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.tools import (
    delegation,
    display,
    inbox,
    memory,
    messaging,
    peers,
    plugins,
    requests,
    sandbox,
    work,
)
from molecule_runtime.tools.context import Call, Progress, ToolContext
from molecule_runtime.tools.observing import observed
from molecule_runtime.tools.result import ToolResult, bounded, failed, fitted

if TYPE_CHECKING:
    from molecule_runtime.core.registry import ToolSpec

logger = logging.getLogger(__name__)

# Each takes a Call of its own argument model, which the registry pairs with its name.
Implementation: TypeAlias = Callable[[Any], Awaitable[ToolResult]]

_IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {
    "delegate_task": delegation.delegate_task,
    "delegate_task_async": delegation.delegate_task_async,
    "check_task_status": delegation.check_task_status,
    "list_peers": peers.list_peers,
    "get_workspace_info": peers.get_workspace_info,
    "get_runtime_identity": peers.get_runtime_identity,
    "update_agent_card": peers.update_agent_card,
    "send_message_to_user": messaging.send_message_to_user,
    "wait_for_message": inbox.wait_for_message,
    "inbox_peek": inbox.inbox_peek,
    "inbox_pop": inbox.inbox_pop,
    "chat_history": peers.chat_history,
    "commit_memory": memory.commit_memory,
    "recall_memory": memory.recall_memory,
    "forget_memory": memory.forget_memory,
    "broadcast_message": messaging.broadcast_message,
    "install_plugin": plugins.install_plugin,
    "desktop_status": display.desktop_status,
    "desktop_screenshot": display.desktop_screenshot,
    "desktop_click": display.desktop_click,
    "desktop_type": display.desktop_type,
    "desktop_key": display.desktop_key,
    "desktop_open_url": display.desktop_open_url,
    "desktop_wait_for_control": display.desktop_wait_for_control,
    "goal_get": work.goal_get,
    "goal_set": work.goal_set,
    "goal_clear": work.goal_clear,
    "task_list": work.task_list,
    "task_add": work.task_add,
    "task_update": work.task_update,
    "task_complete": work.task_complete,
    "create_request": requests.create_request,
    "create_approval": requests.create_approval,
    "list_inbox": requests.list_inbox,
    "check_requests": requests.check_requests,
    "get_request": requests.get_request,
    "respond_request": requests.respond_request,
    "add_request_message": requests.add_request_message,
    "cancel_request": requests.cancel_request,
    "run_code": sandbox.run_code,
}

_DEADLINE = 90.0
"""Seconds for a tool that does not wait for somebody."""

_GRACE = 15.0
"""Seconds on top of what a waiting tool was asked to wait."""


def available_tools() -> frozenset[str]:
    """Return the names of the tools that this build implements; the registry's others answer that they are not available."""
    return frozenset(_IMPLEMENTATIONS)


async def dispatch(
    name: str, arguments: Mapping[str, Any] | None, context: ToolContext, *, progress: Progress | None = None
) -> ToolResult:
    """Run one tool. Never raises for a failure of the tool: that is a result with `is_error`. Cancellation passes through."""

    async def run() -> ToolResult:
        return fitted(await _dispatch(name, arguments, context, progress or _no_progress))

    return await observed(name, arguments, context, run)


async def _dispatch(
    name: str, arguments: Mapping[str, Any] | None, context: ToolContext, progress: Progress
) -> ToolResult:
    try:
        spec = registry.by_name(name)
    except KeyError:
        close = difflib.get_close_matches(name, registry.tool_names(), n=1)
        return _refused(
            "unknown_tool", f"Unknown tool: {bounded(name, 80)}{f'. Did you mean {close[0]}?' if close else ''}"
        )
    try:
        validated = spec.arguments.model_validate(dict(arguments or {}))
    except ValidationError as exc:
        return _refused("invalid_arguments", _argument_errors(spec, exc))
    if spec.permission is not None and not context.permissions.allows(spec.permission):
        return _refused("permission_denied", context.permissions.denial(spec.permission))
    implementation = _IMPLEMENTATIONS.get(name)
    if implementation is None:
        return _refused("not_available", f"{name} is not available in this build of molecule-runtime-tools")
    call: Call[Any] = Call(arguments=validated, context=context, progress=progress)
    deadline = _deadline(name, validated, context)
    try:
        with anyio.move_on_after(deadline):
            return await implementation(call)
    except TimeoutError:
        pass  # of the tool's own making
    except MoleculeError as exc:
        return _refused(type(exc).__name__, redact_text(str(exc)))
    except Exception as exc:  # the top of a call: a defect in one tool must cost that call only
        logger.exception("%s failed", name)
        return _refused(
            type(exc).__name__,
            f"{name} failed by a defect of molecule-runtime ({type(exc).__name__}); its log has the details",
        )
    return _refused("timeout", f"{name} did not finish within {deadline:.0f} s; what it began may still be going on")


def _refused(error_type: str, text: str) -> ToolResult:
    return dataclasses.replace(failed(text), error_type=error_type)


def _deadline(name: str, arguments: Any, context: ToolContext) -> float:
    if name == "wait_for_message":
        return float(arguments.timeout_secs) + _GRACE
    if name == "desktop_wait_for_control":
        return float(arguments.timeout_s) + _GRACE
    if name == "install_plugin":
        return INSTALL_TIMEOUT + _GRACE
    if name == "run_code" and context.sandbox is not None:
        return context.sandbox.deadline + _GRACE
    if name == "delegate_task":
        return context.delegation_timeout + _GRACE
    if name in {"create_request", "create_approval"}:
        return float(arguments.wait_secs) + _DEADLINE
    return _DEADLINE


def _argument_errors(spec: ToolSpec, exc: ValidationError) -> str:
    """Name every wrong argument at once: which, what was expected, what came."""
    lines = [f"{spec.name}: the arguments are not usable:"]
    known = list(spec.input_schema.get("properties", {}))
    for error in exc.errors(include_url=False):
        where = ".".join(str(part) for part in error["loc"]) or "arguments"
        if error["type"] == "missing":
            lines.append(f"- {where}: required, but missing")
        elif error["type"] == "extra_forbidden":
            close = difflib.get_close_matches(where, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known) or 'none'}"
            lines.append(f"- {where}: not an argument of {spec.name}{hint}")
        else:
            got = redact_text(repr(error["input"]))
            lines.append(f"- {where}: {error['msg']}; got {got if len(got) <= 80 else got[:77] + '...'}")
    return "\n".join(lines)


async def _no_progress(text: str) -> None:
    """Nobody asked for progress."""
