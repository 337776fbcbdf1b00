"""For adapter authors: executors for agents that stream, that are programs or LangGraph graphs, and what those are made of."""

from molecule_runtime.a2a.current_task import describe_task
from molecule_runtime.a2a.executor import Turn
from molecule_runtime.a2a.executors.attachments import (
    AttachmentError,
    Attachments,
    Received,
    attachments_of,
    local_path,
)
from molecule_runtime.a2a.executors.cli import CliExecutor, CliLimits
from molecule_runtime.a2a.executors.events import (
    AgentEvent,
    Attachment,
    Final,
    Progress,
    TextDelta,
    TextEnd,
    ToolFinished,
    ToolStarted,
)
from molecule_runtime.a2a.executors.failures import AgentFailure, SessionLostError, classify, user_text
from molecule_runtime.a2a.executors.langgraph import LangGraphExecutor
from molecule_runtime.a2a.executors.sessions import Sessions, sessions_of
from molecule_runtime.a2a.executors.streaming import StreamingExecutor

__all__ = [
    "AgentEvent",
    "AgentFailure",
    "Attachment",
    "AttachmentError",
    "Attachments",
    "CliExecutor",
    "CliLimits",
    "Final",
    "LangGraphExecutor",
    "Progress",
    "Received",
    "SessionLostError",
    "Sessions",
    "StreamingExecutor",
    "TextDelta",
    "TextEnd",
    "ToolFinished",
    "ToolStarted",
    "Turn",
    "attachments_of",
    "classify",
    "describe_task",
    "local_path",
    "sessions_of",
    "user_text",
]
