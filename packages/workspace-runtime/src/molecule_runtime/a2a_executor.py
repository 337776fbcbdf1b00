"""The predecessor's `a2a_executor`: LangGraph agents are run by `molecule_runtime.a2a.executors.LangGraphExecutor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.a2a.executors import LangGraphExecutor
from molecule_runtime.legacy import workspace

if TYPE_CHECKING:
    from molecule_runtime.a2a.executors.langgraph import Graph

__all__ = ["LangGraphA2AExecutor"]


class LangGraphA2AExecutor(LangGraphExecutor):
    """`LangGraphExecutor` under its old name. A failure fails the task, and a turn that is cancelled stops the graph.

    Args:
        agent: the compiled graph.
        heartbeat: not used: the host beats by itself.
        model: not used: the graph has its model.

    Raises:
        MissingFeatureError: langgraph is not installed.
    """

    def __init__(self, agent: Graph, heartbeat: object = None, model: str = "unknown") -> None:
        super().__init__(agent, attachments=workspace.attachments())
