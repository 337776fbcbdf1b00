"""What a tool call answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_TEXT_BYTES = 24 * 1024
"""UTF-8 bytes of one answer. A client may read lines of at most 64 KiB (contract `consumers.md` 4.1), the text stands in an answer
twice (content and structured content), and JSON escapes make it longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer of one call.

    Attributes:
        text: for the model.
        structured: the same as a JSON object, for programs.
        is_error: the tool did not do what was asked, and `text` says why.
    """

    text: str
    structured: Mapping[str, Any]
    is_error: bool = False


def failed(text: str, **details: Any) -> ToolResult:
    """Return an error result."""
    return ToolResult(text=text, structured={"error": text, **details}, is_error=True)


def as_json(data: Mapping[str, Any]) -> ToolResult:
    """Return an object as readable JSON."""
    return ToolResult(text=json.dumps(data, ensure_ascii=False, indent=2), structured=data)


def as_json_list(key: str, items: Sequence[Mapping[str, Any]], *, keep: str = "first") -> ToolResult:
    """Return a JSON array, with the same rows under `key` in the structured form.

    Rows that do not fit into `MAX_TEXT_BYTES` are left out, the last ones or (`keep="last"`) the first ones; `omitted` counts them.
    """
    rows = list(items)
    omitted = 0
    while len(rows) > 1 and len(json.dumps(rows, ensure_ascii=False).encode()) > MAX_TEXT_BYTES:
        rows.pop(0 if keep == "last" else -1)
        omitted += 1
    structured: dict[str, Any] = {key: rows}
    if omitted:
        structured["omitted"] = omitted
    return ToolResult(text=json.dumps(rows, ensure_ascii=False), structured=structured)


def bounded(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Cut a text to `max_bytes` of UTF-8, with a last line that says how much is missing."""
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    kept = encoded[:max_bytes].decode(errors="ignore")
    return f"{kept}\n[cut: {len(text) - len(kept)} more characters]"
