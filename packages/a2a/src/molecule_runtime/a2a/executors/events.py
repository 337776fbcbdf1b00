"""What an agent says while it works on a turn; `StreamingExecutor` turns it into A2A."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class TextEnd:
    """The piece of text ends here: what follows is a text of its own. A tool call ends it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolStarted:
    """The agent calls a tool.

    Attributes:
        id: finds the call again when it has finished.
        input: anything; its `str` is shown, cut and without credentials.
    """

    name: str
    id: str = ""
    input: Any = field(default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished:
    """A tool call ended; `id` and `name` as it started."""

    name: str = ""
    id: str = ""
    output: Any = field(default="")


@dataclass(frozen=True, slots=True)
class Progress:
    """What the agent is doing, for whoever waits; it is no part of the answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file for the reader, below one of the agent's folders. Only this attaches a file, never a path in a text."""

    path: str | Path
    name: str = ""


@dataclass(frozen=True, slots=True)
class Final:
    """The whole answer, where the engine says it at the end; it counts only when no text was streamed."""

    text: str


AgentEvent: TypeAlias = TextDelta | TextEnd | ToolStarted | ToolFinished | Progress | Attachment | Final
