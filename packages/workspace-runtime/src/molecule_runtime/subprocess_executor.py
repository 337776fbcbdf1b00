"""The predecessor's `subprocess_executor`: templates say how a text is answered, `StreamingExecutor` does the rest."""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from molecule_runtime.a2a.executors import Final, StreamingExecutor, describe_task
from molecule_runtime.adapters.shared_runtime import extract_message_text
from molecule_runtime.core import env
from molecule_runtime.executor_helpers import (  # pyright: ignore[reportMissingTypeStubs] - a namespace has no py.typed
    extract_attached_files,
)
from molecule_runtime.legacy.content import with_list

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from a2a.server.agent_execution import RequestContext
    from a2a.server.events import EventQueue

    from molecule_runtime.a2a.executor import Turn
    from molecule_runtime.a2a.executors import AgentEvent

__all__ = ["SubprocessA2AExecutor"]

_request: ContextVar[RequestContext] = ContextVar("molecule_request")


class SubprocessA2AExecutor(StreamingExecutor):
    """The base of executors that run a program or an engine for each message and answer with one text.

    A subclass implements `run_agent`. The answer is a Task; an exception fails it, and a turn that is cancelled cancels
    `run_agent`, which must not keep that to itself.

    Attributes:
        runtime_label: the engine's name, for logs of subclasses.
        workspace_id: of the workspace; `""` outside of one.
        heartbeat: as the adapter was given it.
    """

    runtime_label = "agent"

    def __init__(self, workspace_id: str = "", heartbeat: object = None) -> None:
        super().__init__(self._events)
        self.workspace_id = workspace_id or env.WORKSPACE_ID.get()
        self.heartbeat = heartbeat

    async def run_agent(self, task_text: str, session_id: str, context: RequestContext) -> str:
        """Return the answer to a text.

        Args:
            task_text: the message, with what `_decorate_message` made of its files.
            session_id: one for the workspace: `workspace:<id>`, else the conversation's id.
            context: the SDK's request.

        Raises:
            NotImplementedError: the subclass does not implement it.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement run_agent")

    def _decorate_message(self, user_message: str, attached: list[dict[str, str]]) -> Any:
        """Return the text with its files; a subclass may return an awaitable of it."""
        return with_list(user_message, attached)

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Answer one turn."""
        _request.set(context)
        await super().execute(context, event_queue)

    async def _events(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        context = _request.get()
        said = extract_message_text(context)
        describe_task(said)
        attached = await anyio.to_thread.run_sync(extract_attached_files, context.message)
        text = self._decorate_message(said, attached)
        if inspect.isawaitable(text):
            text = await text
        session = (
            f"workspace:{self.workspace_id}" if self.workspace_id else turn.context_id or turn.task_id or "default"
        )
        yield Final(await self.run_agent(str(text), session, context))
