"""The predecessor's `builtin_tools.hitl`: a person approves a call before it runs, or says when a task goes on (contract 19.6).

New code uses `molecule_runtime.tools.requires_approval`, which raises instead of returning what looks like an answer.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.legacy import calling, gates
from molecule_runtime.tools import ApprovalDeniedError, ApprovalGate, ApprovalTimeoutError
from molecule_runtime.tools import requires_approval as _requires_approval

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["list_paused_tasks", "pause_task", "requires_approval", "resume_task"]

MAX_PAUSED = 256
PAUSE_SECONDS = 300.0
"""That `pause_task` waits; `hitl.default_timeout` of the contract."""

_LOOK_SECONDS = 20.0
"""For one look at the request, between which `resume_task` is heard at once."""

_gate: ContextVar[ApprovalGate] = ContextVar("molecule_legacy_gate")


class _Paused:
    """One task that waits in this process."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.message = ""
        self.resumed = anyio.Event()


_paused: dict[str, _Paused] = {}


def requires_approval(
    action_description: str = "", reason_template: str = "", bypass_roles: Sequence[str] | None = None
) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
    """Have a person approve each call of an async function before it runs.

    A call that is not approved, or nobody can be asked about, does not run and returns
    `{"success": False, "error": ..., "approval_id": ...}`.

    Args:
        action_description: what would be done; the function's name by default. `{name}` stands for the argument of that name.
        reason_template: why, likewise.
        bypass_roles: roles of the workspace that are not asked; `hitl.bypass_roles` by default.

    Raises:
        TypeError: the function is not async.
    """

    def decorate(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        action = action_description or getattr(function, "__name__", "a call").replace("_", " ")
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"requires_approval: {action!r} must be an async function")

        # The question alone, with the arguments of the call: the function runs outside, so that what it raises is its own.
        @functools.wraps(function)
        async def question(*args: Any, **kwargs: Any) -> None: ...

        ask = _requires_approval(_gate.get, action, reason=reason_template)(question)

        @functools.wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                async with gates.gate(bypass_roles) as opened:
                    token = _gate.set(opened)
                    try:
                        await ask(*args, **kwargs)
                    finally:
                        _gate.reset(token)
            except (ApprovalDeniedError, ApprovalTimeoutError) as exc:
                return {"success": False, "error": str(exc), "approval_id": exc.request_id}
            except MoleculeError as exc:
                return {"success": False, "error": str(exc)}
            return await function(*args, **kwargs)

        return guarded

    return decorate


async def pause_task(task_id: str, reason: str = "") -> dict[str, Any]:
    """Ask a person whether a task goes on, and wait until they say so or `resume_task` does, for `PAUSE_SECONDS`.

    Returns:
        `status` `resumed`, with `success` True and the `message` of `resume_task`; `rejected` and the like when a person decided so; or
        `paused` after that time: the request stays open, and the same call again goes on waiting for it.
    """
    if not task_id.strip():
        return {"success": False, "error": "task_id is empty; name the task"}
    if task_id in _paused:
        return {"success": False, "task_id": task_id, "error": f"task {task_id!r} is paused already"}
    if len(_paused) >= MAX_PAUSED:
        return {"success": False, "task_id": task_id, "error": f"{MAX_PAUSED} tasks are paused already"}
    paused = _paused[task_id] = _Paused(reason)
    try:
        return {"task_id": task_id, **await _decided(task_id, reason, paused)}
    except ConfigurationError as exc:
        return {"success": False, "task_id": task_id, "error": str(exc)}
    finally:
        del _paused[task_id]


async def resume_task(task_id: str, message: str = "") -> dict[str, Any]:
    """Have a task go on that is paused in this process; the request to the person is taken back."""
    paused = _paused.get(task_id)
    if paused is None:
        error = f"no task {task_id!r} is paused here; a person lets it go on by approving {_title(task_id)!r}"
        return {"success": False, "task_id": task_id, "error": error}
    paused.message = message
    paused.resumed.set()
    return {"success": True, "task_id": task_id, "status": "resumed"}


async def list_paused_tasks() -> dict[str, Any]:
    """Return the tasks that are paused in this process."""
    rows = [{"task_id": task_id, "reason": paused.reason} for task_id, paused in _paused.items()]
    return {"paused_tasks": rows, "count": len(rows)}


async def _decided(task_id: str, reason: str, paused: _Paused) -> dict[str, Any]:
    asking = {"kind": "approval", "title": _title(task_id), "detail": reason}
    first = await calling.call("create_request", asking)
    if first.is_error:
        return {"success": False, "error": first.text}
    request_id, status = str(first.structured["request_id"]), str(first.structured["status"])
    with anyio.move_on_after(PAUSE_SECONDS):
        while status in {"pending", "info_requested"}:
            async with anyio.create_task_group() as group:

                async def look(done: anyio.CancelScope) -> None:
                    nonlocal status
                    answer = await calling.call("create_request", {**asking, "wait_secs": _LOOK_SECONDS})
                    status = "failed" if answer.is_error else str(answer.structured["status"])
                    done.cancel()

                group.start_soon(look, group.cancel_scope)
                await paused.resumed.wait()
                group.cancel_scope.cancel()
            if paused.resumed.is_set():
                await calling.call("cancel_request", {"request_id": request_id})
                return {"success": True, "status": "resumed", "message": paused.message}
            if status == "info_requested":
                # Somebody asks about it: looked at again soon, and not in a circle.
                await anyio.sleep(1)
    if status == "approved":
        return {"success": True, "status": "resumed", "message": ""}
    if status in {"pending", "info_requested"}:
        error = f"nobody decided within {PAUSE_SECONDS:.0f} s; it stays paused"
        return {"success": False, "status": "paused", "request_id": request_id, "error": error}
    return {"success": False, "status": status, "request_id": request_id, "error": f"the task does not go on: {status}"}


def _title(task_id: str) -> str:
    return f"Go on with task {task_id}"
