"""Smoke mode: whether an image can run its agent at all, without a platform and without credentials (contract `runtime.md` 12.2).

It fails for what a new image breaks: something cannot be imported, or the process ends up unable to recover. An agent that cannot log in,
cannot reach its model or takes too long is no fault of the image.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import uuid
from typing import TYPE_CHECKING, cast

import anyio

from molecule_runtime.a2a.adapter_config import adapter_config_of
from molecule_runtime.a2a.errors import BootError
from molecule_runtime.a2a.loading import load_adapter
from molecule_runtime.core import env, wedge
from molecule_runtime.core.adapter import PrivilegedPluginInstallError
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from a2a.server.agent_execution import AgentExecutor, RequestContext
    from a2a.server.events import EventQueue

    from molecule_runtime.a2a.settings import HostSettings
    from molecule_runtime.a2a.stopping import StopSignal
    from molecule_runtime.core.adapter import BaseAdapter
    from molecule_runtime.core.config import WorkspaceConfig

logger = logging.getLogger(__name__)

DEFAULT_SECONDS = 5.0

SETUP_SECONDS = 60.0
"""For setup and executor, which may look for a service that is not there."""

TEXT = "smoke test"

_ON = frozenset({"1", "true", "yes", "on"})
_IMPORT_FAULT = re.compile(r"\b(ModuleNotFoundError|ImportError)\b")
_MAX_REASON = 300
_GRACE = 5.0


def is_smoke_mode(environ: Mapping[str, str] | None = None) -> bool:
    """Tell whether the environment asks for it: 1, true, yes or on, in any case."""
    return env.MOLECULE_SMOKE_MODE.get(environ).lower() in _ON


def smoke_seconds(environ: Mapping[str, str] | None = None) -> float:
    """Return the seconds of the turn; whatever is no positive number means the default."""
    try:
        seconds = float(env.MOLECULE_SMOKE_TIMEOUT_SECS.get(environ))
    except ValueError:
        return DEFAULT_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else DEFAULT_SECONDS


async def smoke(
    settings: HostSettings, config: WorkspaceConfig, stop: StopSignal, *, seconds: float, whole_process: bool
) -> None:
    """Load the adapter, set it up and run one turn; nothing listens, and the platform hears nothing.

    Args:
        settings: of the host.
        config: its config.yaml.
        stop: ends it early.
        seconds: for the turn.
        whole_process: end the process when the agent blocks it for too long, as a success: that is a timeout too.

    Raises:
        BootError: the image is broken.
    """
    adapter = await load_adapter(settings.adapter_module, config.runtime)
    overtime = threading.Timer(SETUP_SECONDS + seconds + _GRACE, _end_process)
    overtime.daemon = True
    if whole_process:
        overtime.start()
    broken = ""
    try:
        async with anyio.create_task_group() as tasks:

            async def until_stop() -> None:
                await stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(until_stop)
            broken = await _broken(adapter, settings, config, seconds)
            tasks.cancel_scope.cancel()
    finally:
        overtime.cancel()
    if stop.requested:
        raise BootError(f"smoke test: ended by {stop.reason} before it was over")
    if broken:
        raise BootError(f"smoke test: {broken}")
    logger.info("smoke test: passed")


async def run_executor_smoke(executor: AgentExecutor, seconds: float | None = None) -> int:
    """Run one turn of an executor; returns 0, or 1 for what cannot be imported and for a process that cannot recover."""
    return 1 if await _turn(executor, smoke_seconds() if seconds is None else seconds) else 0


async def _broken(adapter: BaseAdapter, settings: HostSettings, config: WorkspaceConfig, seconds: float) -> str:
    """Return what is broken, or `""`."""
    async with ConnectionPools() as pools, PlatformClient(settings.target, pools) as client:
        adapter_config = adapter_config_of(settings, config, client)
        try:
            with anyio.fail_after(SETUP_SECONDS):
                await adapter.setup(adapter_config)
                executor = await adapter.create_executor(adapter_config)
        except PrivilegedPluginInstallError as exc:
            return f"a privileged plugin could not be installed: {_reason(exc)}"
        except Exception as exc:  # an adapter may raise anything
            return _judged(exc, "the adapter's setup")
        if not callable(getattr(executor, "execute", None)):
            return f"create_executor returned {type(executor).__name__}, not an AgentExecutor"
        return await _turn(executor, seconds)


async def _turn(executor: AgentExecutor, seconds: float) -> str:
    try:
        context, queue, said = _stub()
    except Exception as exc:  # whatever the SDK raises
        return f"the turn cannot be built: {_reason(exc)}"
    broken = ""
    try:
        with anyio.fail_after(seconds):
            await executor.execute(context, queue)
    except Exception as exc:  # an executor may raise anything
        broken = _judged(exc, "the turn")
    if not broken and (fault := next((text for text in said if _IMPORT_FAULT.search(text)), "")):
        # Most executors answer with the failure instead of raising it.
        broken = f"the turn: {redact_text(fault)[:_MAX_REASON]}"
    if not broken and wedge.is_wedged():
        broken = f"the agent cannot recover: {wedge.wedge_reason()}"
    return broken


def _stub() -> tuple[RequestContext, EventQueue, list[str]]:
    """Return a turn with real objects of the SDK, and the texts that it will have been answered with."""
    from a2a.helpers import get_message_text
    from a2a.server.agent_execution import RequestContext
    from a2a.server.context import ServerCallContext
    from a2a.server.events import EventQueue
    from a2a.types import Message, Part, Role, SendMessageRequest, Task, TaskState, TaskStatusUpdateEvent

    said: list[str] = []
    failures = {TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_REJECTED}

    class Queue(EventQueue):
        def __init__(self) -> None:
            pass

        async def enqueue_event(self, event: object) -> None:
            if isinstance(event, Message):
                said.append(get_message_text(event))
            elif isinstance(event, (Task, TaskStatusUpdateEvent)) and event.status.state in failures:
                said.append(get_message_text(event.status.message))

    message = Message(message_id=str(uuid.uuid4()), role=Role.ROLE_USER, parts=[Part(text=TEXT)])
    return RequestContext(ServerCallContext(), SendMessageRequest(message=message)), Queue(), said


def _judged(exc: Exception, where: str) -> str:
    fault = _import_fault(exc)
    if fault is not None:
        return f"{where}: {_reason(fault)}"
    logger.info("smoke test: %s did not succeed, which is no fault of the image: %s", where, _reason(exc))
    return ""


def _import_fault(exc: BaseException) -> ImportError | None:
    """Return what could not be imported: itself, what it was raised from, or one of a group.

    Not what merely came before it: an optional module may be missing when a login fails.
    """
    if isinstance(exc, ImportError):
        return exc
    inner: list[BaseException] = [exc.__cause__] if exc.__cause__ is not None else []
    if isinstance(exc, BaseExceptionGroup):
        inner += cast("BaseExceptionGroup[BaseException]", exc).exceptions
    return next((fault for one in inner if (fault := _import_fault(one)) is not None), None)


def _reason(exc: BaseException) -> str:
    text = " ".join(redact_text(str(exc)).split())
    return f"{type(exc).__name__}: {text or 'no message'}"[:_MAX_REASON]


def _end_process() -> None:
    logger.warning("smoke test: the agent blocks the process, which is no fault of the image; ending it")
    sys.stderr.flush()
    os._exit(0)
