"""For LangGraph agents: `graph.astream_events` as the events of an agent. langgraph is imported when an executor is made."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any, Protocol, cast

from molecule_runtime.a2a.executors.events import TextDelta, TextEnd, ToolFinished, ToolStarted
from molecule_runtime.a2a.executors.failures import AgentFailure
from molecule_runtime.a2a.executors.streaming import StreamingExecutor
from molecule_runtime.core import env
from molecule_runtime.core.errors import MissingFeatureError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from molecule_runtime.a2a.executor import Turn
    from molecule_runtime.a2a.executors.attachments import Attachments
    from molecule_runtime.a2a.executors.events import AgentEvent

logger = logging.getLogger(__name__)

RECURSION_LIMIT_REACHED = "recursion_limit"

MAX_HISTORY = 20
"""Messages that a caller may bring along in `metadata.history`; the canvas sends as many (contract `workspace-host.md` 9)."""


class Graph(Protocol):
    """What is asked of a compiled graph: its state has `messages`, as those of `create_agent` and `MessagesState` do."""

    def astream_events(self, input: Any, config: Any = ..., *, version: Any = ...) -> AsyncIterator[Any]:
        """Run the graph and tell of each step."""
        ...


class LangGraphExecutor(StreamingExecutor):
    """Runs a compiled graph for each turn: its thread is the conversation, its text and tools are streamed.

    A graph with a checkpointer remembers the conversation; for one without, the history in the message's metadata is put first.
    `LANGGRAPH_RECURSION_LIMIT` bounds the steps and is read for each turn. A turn that is cancelled stops the graph.

    Args:
        graph: compiled.
        attachments: see `StreamingExecutor`.

    Raises:
        MissingFeatureError: langgraph is not installed.
    """

    def __init__(self, graph: Graph, *, attachments: Attachments | None = None) -> None:
        super().__init__(self._events, attachments=attachments)
        self._graph = graph
        try:
            errors = importlib.import_module("langgraph.errors")
        except ImportError as exc:
            raise MissingFeatureError("langgraph", distribution="langgraph") from exc
        self._in_circles: type[Exception] = errors.GraphRecursionError

    async def _events(self, turn: Turn) -> AsyncGenerator[AgentEvent, None]:
        limit = recursion_limit()
        config = {
            "configurable": {"thread_id": turn.context_id},
            "recursion_limit": limit,
            "run_name": f"a2a-{turn.context_id[:8]}",
        }
        remembers = getattr(self._graph, "checkpointer", None) not in (None, False)
        history = [] if remembers else history_in(turn.metadata)
        messages = [*history, ("human", turn.text)]
        stream = self._graph.astream_events({"messages": messages}, config, version="v2")
        speaking = ""
        try:
            async for step in stream:
                run, data = str(step.get("run_id", "")), step.get("data", {})
                match step["event"]:
                    case "on_chat_model_stream":
                        text = text_of(data.get("chunk"))
                        if text and run != speaking:
                            # Another call of the model: its text is no continuation of the one before.
                            speaking = run
                            yield TextEnd()
                        if text:
                            yield TextDelta(text)
                    case "on_chat_model_end" if run != speaking:
                        # A model that cannot stream says all of it at its end.
                        if text := text_of(data.get("output")):
                            yield TextEnd()
                            yield TextDelta(text)
                    case "on_tool_start":
                        yield ToolStarted(id=run, name=step["name"], input=data.get("input", ""))
                    case "on_tool_end" | "on_tool_error":
                        output = data.get("output", data.get("error", ""))
                        yield ToolFinished(id=run, name=step["name"], output=getattr(output, "content", output))
                    case _:
                        continue
        except self._in_circles as exc:
            raise AgentFailure(RECURSION_LIMIT_REACHED, str(exc)) from exc
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()


def recursion_limit() -> int:
    """Return how many steps a graph may take; a value that makes no sense counts as the default, and the log says so."""
    variable = env.LANGGRAPH_RECURSION_LIMIT
    try:
        limit = int(variable.get())
    except ValueError:
        limit = 0
    if limit > 0:
        return limit
    logger.warning("%s; %s is used", variable.problem() or f"{variable.name} must be a whole number", variable.default)
    return int(variable.default)


def text_of(message: object) -> str:
    """Return the text of a LangChain message or chunk, whose content is a string or a list of blocks."""
    content: object = getattr(message, "content", None)
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(_block_text(block) for block in cast("list[object]", content))


def _block_text(block: object) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, dict):
        fields = cast("dict[str, object]", block)
        text = fields.get("text")
        if fields.get("type") == "text" and isinstance(text, str):
            return text
    return ""


def history_in(metadata: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return what was said before, as `("human" | "ai", text)`, from the metadata of a message; what cannot be read is left out."""
    said = metadata.get("history")
    if not isinstance(said, list):
        return []
    messages: list[tuple[str, str]] = []
    for entry in cast("list[object]", said)[-MAX_HISTORY:]:
        if not isinstance(entry, dict):
            continue
        fields = cast("dict[str, object]", entry)
        parts = fields.get("parts")
        texts = [
            cast("dict[str, object]", part).get("text")
            for part in (cast("list[object]", parts) if isinstance(parts, list) else [])
            if isinstance(part, dict)
        ]
        text = " ".join(text for text in texts if isinstance(text, str) and text).strip()
        if text:
            messages.append(("human" if fields.get("role") == "user" else "ai", text))
    return messages
