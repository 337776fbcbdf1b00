"""The tools that an agent called in a turn, as the platform shows them: bounded, and without credentials."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from molecule_runtime.a2a.executors.events import ToolFinished, ToolStarted

MAX_ENTRIES, MAX_INPUT, MAX_OUTPUT = 200, 500, 300
"""Calls, and characters of each call's input and output (contract `runtime.md` 13.2)."""

_MAX_NAME = 100
_MAX_SCANNED = 20_000


class ToolTrace:
    """Collects the calls; `entries` is what goes into `metadata.tool_trace`."""

    def __init__(self) -> None:
        self.entries: list[dict[str, str]] = []
        self._open: dict[str, deque[dict[str, str]]] = {}

    def started(self, event: ToolStarted) -> None:
        """Note a call, unless there are too many already."""
        if len(self.entries) >= MAX_ENTRIES:
            return
        entry = {"tool": shown(event.name, _MAX_NAME), "input": shown(event.input, MAX_INPUT)}
        self.entries.append(entry)
        self._open.setdefault(event.id or event.name, deque()).append(entry)

    def finished(self, event: ToolFinished) -> None:
        """Note what a call gave; of a call that was not noted, nothing."""
        waiting = self._open.get(event.id or event.name)
        if waiting:
            waiting.popleft()["output_preview"] = shown(event.output, MAX_OUTPUT)


def shown(value: Any, most: int) -> str:
    """Return `value` as text for people: without credentials, at most `most` characters."""
    text = value if isinstance(value, str) else str(value)
    # Redacted before it is cut: the beginning of a secret is not recognised as one.
    return redact_text(text[:_MAX_SCANNED])[:most]
