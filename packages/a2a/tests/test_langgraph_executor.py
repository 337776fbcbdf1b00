"""A real compiled graph on a real host, with a model that needs no network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from molecule_runtime.a2a.executors import LangGraphExecutor
from molecule_runtime.core.errors import MissingFeatureError

from .gated import call, said, send, state_of
from .support import DEADLINE, FakePlatform, Workspace, eventually, ready, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

pytestmark = pytest.mark.anyio

AGENT = """
    from pathlib import Path

    import httpx
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition
    from molecule_runtime.a2a.executors import LangGraphExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    @tool
    def add(a: int, b: int) -> int:
        "Add two numbers."
        return a + b

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "graph")
        display_name = staticmethod(lambda: "Graph")
        description = staticmethod(lambda: "Is a graph.")

        async def setup(self, config):
            self.platform = config.platform.target.platform_url
            self.remembers = config.runtime_config.get("remembers", True)

        async def create_executor(self, config):
            graph = StateGraph(MessagesState)
            graph.add_node("model", self.model)
            graph.add_node("tools", ToolNode([add]))
            graph.add_edge(START, "model")
            graph.add_conditional_edges("model", tools_condition)
            graph.add_edge("tools", "model")
            saver = InMemorySaver() if self.remembers else None
            return LangGraphExecutor(graph.compile(checkpointer=saver))

        async def model(self, state):
            last = state["messages"][-1]
            if last.content == "wait":
                try:
                    async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
                        await client.get(self.platform + "/gate/g")
                finally:
                    Path(__file__).with_name("closed").touch()
            call = {"name": "add", "args": {"a": 20, "b": 22}, "id": "call-1"}
            asked = [message.content for message in state["messages"] if message.type == "human"]
            if isinstance(last, ToolMessage) and "for ever" not in asked:
                says = AIMessage("It is " + last.content + " after " + ", ".join(asked))
            elif last.content.startswith("say"):
                says = AIMessage("I heard " + ", ".join(asked))
            else:
                says = AIMessage("Let me add.", tool_calls=[call])
            model = GenericFakeChatModel(messages=iter([says]))
            said = await model.ainvoke(state["messages"])
            # The fake model streams words and drops the calls.
            return {"messages": [said.model_copy(update={"tool_calls": says.tool_calls})]}
"""


@pytest.fixture
async def agent(make_workspace: Callable[..., Workspace]) -> AsyncGenerator[Workspace, None]:
    workspace = make_workspace(AGENT)
    async with serving(workspace):
        await ready(workspace)
        yield workspace


async def test_texts_are_apart_tools_are_traced_and_the_conversation_is_remembered(agent: Workspace) -> None:
    task = await send(agent, said("20 + 22", contextId="c"))
    texts = [[part["text"] for part in artifact["parts"]] for artifact in task["artifacts"]]
    assert texts == [["Let me add."], ["It is 42 after 20 + 22"]]
    (traced,) = task["metadata"]["tool_trace"]
    assert traced == {"tool": "add", "input": "{'a': 20, 'b': 22}", "output_preview": "42"}
    again = await send(agent, said("say", contextId="c"))
    assert "I heard 20 + 22, say" in str(again["artifacts"])
    other = await send(agent, said("say", contextId="d"))
    assert "I heard say" in str(other["artifacts"])


async def test_a_graph_that_runs_in_circles_is_stopped(
    agent: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LANGGRAPH_RECURSION_LIMIT", "6")
    failed = await send(agent, said("for ever"))
    assert state_of(failed) == "failed"
    assert "Agent error (recursion_limit)" in str(failed["status"])
    monkeypatch.setenv("LANGGRAPH_RECURSION_LIMIT", "many")
    assert state_of(await send(agent, said("20 + 22"))) == "completed"
    assert "LANGGRAPH_RECURSION_LIMIT is 'many'" in caplog.text


async def test_cancelling_stops_the_graph(agent: Workspace, platform: FakePlatform) -> None:
    waiting, _ = platform.gate("g")
    task = await send(agent, said("wait"), blocking=False)
    with anyio.fail_after(DEADLINE):
        await waiting.wait()
    assert state_of((await call(agent, "tasks/cancel", id=task["id"]))["result"]) == "canceled"
    await eventually((agent.root / "closed").exists, "the node of the graph is cancelled")


async def test_a_graph_without_a_memory_gets_the_history_of_the_message(
    make_workspace: Callable[..., Workspace],
) -> None:
    workspace = make_workspace(AGENT, "runtime_config: {remembers: false}")
    history = [
        {"role": "user", "parts": [{"kind": "text", "text": "earlier"}]},
        {"role": "agent", "parts": [{"kind": "text", "text": "an answer"}]},
        "nonsense",
        {"role": "user", "parts": None},
    ]
    async with serving(workspace):
        await ready(workspace)
        task = await send(workspace, said("say", metadata={"history": history}))
        assert "I heard earlier, say" in str(task["artifacts"])


class InstalledGraph:
    def astream_events(self, input: Any, config: Any = None, *, version: Any = None) -> AsyncIterator[Any]:
        raise NotImplementedError


def test_without_langgraph_the_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langgraph.errors", None)

    with pytest.raises(MissingFeatureError, match="pip install langgraph"):
        LangGraphExecutor(InstalledGraph())
