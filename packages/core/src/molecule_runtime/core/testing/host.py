"""A host in memory: sets an adapter up and runs turns of its executor with real SDK objects, where the SDK is installed."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from molecule_runtime.core.adapter import AdapterConfig
from molecule_runtime.core.testing.platform import FakePlatform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from molecule_runtime.core.adapter import BaseAdapter

TERMINAL_STATES = frozenset({"completed", "failed", "canceled", "rejected"})
INTERRUPTED_STATES = frozenset({"input-required", "auth-required"})

PROMPT = "You are under test. Answer briefly."


class InjectedError(Exception):
    """What the host makes a turn fail with."""


def sdk_installed() -> bool:
    """Tell whether the A2A SDK is there to check executors with."""
    return importlib.util.find_spec("a2a") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What an executor sent, in plain values."""

    kind: Literal["message", "task", "status", "artifact", "other"]
    state: str = ""
    """Of a task, in the words of A2A 0.3: `working`, `completed`, ..."""
    text: str = ""
    task_id: str = ""
    context_id: str = ""


@dataclass(slots=True, kw_only=True)
class Turn:
    """One run of an executor."""

    events: list[Event] = field(default_factory=list[Event])
    error: BaseException | None = None
    """What `execute` raised."""
    injected: bool = False
    """The failure that was asked for did happen."""

    @property
    def state(self) -> str:
        """The last state of the task; `message` for a plain message, `""` for nothing."""
        for event in reversed(self.events):
            if event.kind == "message":
                return "message"
            if event.state:
                return event.state
        return ""


class FakeHost:
    """One workspace around an adapter."""

    def __init__(
        self,
        adapter: BaseAdapter,
        folder: Path,
        *,
        platform: FakePlatform | None = None,
        model: str = "openai:gpt-conformance",
        runtime_config: dict[str, Any] | None = None,
    ) -> None:
        self.adapter = adapter
        self.platform = platform or FakePlatform()
        configs = folder / "configs"
        configs.mkdir(exist_ok=True)
        (configs / "system-prompt.md").write_text(f"{PROMPT}\n", encoding="utf-8")
        (configs / "config.yaml").write_text(f"name: Conformance\nmodel: {model}\n", encoding="utf-8")
        self.config = AdapterConfig(
            model=model,
            runtime_config=runtime_config or {},
            config_path=str(configs),
            workspace_id=self.platform.workspace_id,
        )
        self.executor: Any = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[FakeHost]:
        """Set the adapter up and create its executor; the platform's client is open meanwhile."""
        async with self.platform.client() as client:
            self.config.platform = client
            await self.adapter.setup(self.config)
            self.executor = await self.adapter.create_executor(self.config)
            yield self

    async def turn(self, text: str, *, fail: bool = False) -> Turn:
        """Run one turn to its end. With `fail`, reading the message raises `InjectedError`.

        Raises:
            ModuleNotFoundError: the A2A SDK is not installed.
        """
        turn = Turn()
        context, queue = self._request(text, turn, fail=fail)
        try:
            await self.executor.execute(context, queue)
        except Exception as exc:
            turn.error = exc
        return turn

    async def cancelled_turn(self, text: str, *, seconds: float) -> tuple[Turn, bool, bool]:
        """Run a turn, hold it at its first event, and cancel it as a host does.

        Returns:
            The turn, whether it got as far as an event, and whether it ended within `seconds`.
        """
        turn = Turn()
        reached, gate = asyncio.Event(), asyncio.Event()
        context, queue = self._request(text, turn, reached=reached, gate=gate)
        running = asyncio.create_task(self.executor.execute(context, queue))
        arrived = asyncio.create_task(reached.wait())
        await asyncio.wait({running, arrived}, return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        in_flight = reached.is_set() and not running.done()
        if in_flight:
            cancel_context, cancel_queue = self._request(text, turn, context=context)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.executor.cancel(cancel_context, cancel_queue), seconds)
            running.cancel()
        done, _ = await asyncio.wait({running}, timeout=seconds)
        gate.set()
        if not done:
            # The loop must be able to close; a turn that ignores being cancelled may only end now.
            await asyncio.wait({running}, timeout=seconds)
            return turn, in_flight, False
        turn.error = None if running.cancelled() else running.exception()
        return turn, in_flight, True

    def _request(
        self,
        text: str,
        turn: Turn,
        *,
        fail: bool = False,
        reached: asyncio.Event | None = None,
        gate: asyncio.Event | None = None,
        context: Any = None,
    ) -> tuple[Any, Any]:
        """Return a request context and an event queue of the SDK."""
        types = importlib.import_module("a2a.types")
        helpers = importlib.import_module("a2a.helpers")
        execution = importlib.import_module("a2a.server.agent_execution")
        queues = importlib.import_module("a2a.server.events")
        calls = importlib.import_module("a2a.server.context")

        class Queue(queues.EventQueue):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                """Leave out the SDK's own queue: the events go to the turn."""

            async def enqueue_event(self, event: Any) -> None:
                if gate is not None and reached is not None:
                    reached.set()
                    await gate.wait()
                turn.events.append(_event(event, types, helpers))

        class Failing(execution.RequestContext):  # type: ignore[name-defined, misc]
            def get_user_input(self, delimiter: str = "\n") -> str:
                turn.injected = True
                raise InjectedError("injected by the conformance suite")

            @property
            def message(self) -> Any:
                turn.injected = True
                raise InjectedError("injected by the conformance suite")

        if context is not None:
            request = execution.RequestContext(
                calls.ServerCallContext(), task_id=context.task_id, context_id=context.context_id
            )
            request.current_task = types.Task(
                id=context.task_id,
                context_id=context.context_id,
                status=types.TaskStatus(state=types.TaskState.TASK_STATE_WORKING),
            )
            return request, Queue()
        message = types.Message(message_id=str(uuid.uuid4()), role=types.Role.ROLE_USER, parts=[types.Part(text=text)])
        kind = Failing if fail else execution.RequestContext
        return kind(calls.ServerCallContext(), types.SendMessageRequest(message=message)), Queue()


def _event(event: Any, types: Any, helpers: Any) -> Event:
    if isinstance(event, types.Message):
        return Event(kind="message", text=helpers.get_message_text(event), context_id=event.context_id)
    if isinstance(event, types.Task):
        return Event(kind="task", state=_state(event.status, types), task_id=event.id, context_id=event.context_id)
    if isinstance(event, types.TaskStatusUpdateEvent):
        said = event.status.message
        return Event(
            kind="status",
            state=_state(event.status, types),
            text=helpers.get_message_text(said) if said.parts else "",
            task_id=event.task_id,
            context_id=event.context_id,
        )
    if isinstance(event, types.TaskArtifactUpdateEvent):
        return Event(kind="artifact", task_id=event.task_id, context_id=event.context_id)
    return Event(kind="other", text=type(event).__name__)


def _state(status: Any, types: Any) -> str:
    name = str(types.TaskState.Name(status.state))
    return name.removeprefix("TASK_STATE_").lower().replace("_", "-")
