"""What a tool call answers, and how long an answer may be."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TEXT_BYTES: Final = 24 * 1024
"""Bytes of one text, as it stands inside a JSON string: a newline or a quote counts twice, a control character six times."""

MAX_ANSWER_BYTES: Final = 56 * 1024
"""Bytes of a whole answer on the wire. A client may read lines of at most 64 KiB (contract `consumers.md` 4.1); the text stands in an
answer twice, in the content and in the structured content."""

SHRINK_TO: Final = (16 * 1024, 8 * 1024, 4 * 1024, 1024, 256)
_MAX_DEPTH: Final = 32
_LEAST_KEYS: Final = 40
"""Of an object, however long the answer is: more than any output schema requires."""

_HALF: Final = re.compile("[\ud800-\udfff]")
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer of one call.

    Attributes:
        text: for the model.
        structured: the same as a JSON object, for programs.
        is_error: the tool did not do what was asked, and `text` says why.
        error_type: why, in one word for audit and telemetry: `permission_denied`, `timeout`, ...; `""` where the tool itself refused.
    """

    text: str
    structured: Mapping[str, Any]
    is_error: bool = False
    error_type: str = ""


def failed(text: str, **details: Any) -> ToolResult:
    """Return an error result."""
    return ToolResult(text=text, structured={"error": text, **details}, is_error=True)


def as_json(data: Mapping[str, Any]) -> ToolResult:
    """Return an object as readable JSON."""
    return ToolResult(text=_indented(data), structured=data)


def as_json_list(key: str, items: Sequence[Mapping[str, Any]], *, keep: str = "first") -> ToolResult:
    """Return a JSON array, with the same rows under `key` in the structured form.

    Rows that do not fit into `MAX_TEXT_BYTES` are left out, the last ones or (`keep="last"`) the first ones; `omitted` counts them.
    """
    sizes = [_json_bytes(dict(item)) + 2 for item in items]
    rows = list(items)
    total = sum(sizes)
    while len(rows) > 1 and total > MAX_TEXT_BYTES:
        index = 0 if keep == "last" else -1
        rows.pop(index)
        total -= sizes.pop(index)
    structured: dict[str, Any] = {key: rows}
    if len(rows) < len(items):
        structured["omitted"] = len(items) - len(rows)
    return ToolResult(text=json.dumps(rows, ensure_ascii=False), structured=structured)


def bounded(text: str, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Cut a text to `max_bytes` (see `MAX_TEXT_BYTES`), with a last line that says how much is missing."""
    if len(text) <= max_bytes and _json_bytes(text) - 2 <= max_bytes:
        return text
    low, high = 0, min(len(text), max_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if _json_bytes(text[:middle]) - 2 <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return f"{text[:low]}\n[cut: {len(text) - low} more characters]"


def fitted(result: ToolResult) -> ToolResult:
    """Return an answer that every client can read: whole Unicode characters, and at most `MAX_ANSWER_BYTES`.

    A result that is too long as it stands has its longest strings and lists cut, each with a mark; JSON stays JSON.
    """
    if _fits_as_it_stands(result):
        return result
    text, structured = _readable(result.text), cast("dict[str, Any]", shrunk(result.structured, None))
    if _json_bytes(text) + _json_bytes(structured) > MAX_ANSWER_BYTES:
        document, whole = _document(text), structured
        for limit in SHRINK_TO:
            # Of the whole each time: a cut of a cut would count what is missing wrongly.
            structured = cast("dict[str, Any]", shrunk(whole, limit))
            if document is None:
                # What is in it once more is in the structured form, which gives way first.
                text = bounded(text, max(limit, MAX_TEXT_BYTES + 1024))
            else:
                text = json.dumps(shrunk(document, limit), ensure_ascii=False)
            if _json_bytes(text) + _json_bytes(structured) <= MAX_ANSWER_BYTES:
                break
        else:
            # What is left is not what the tool's output schema promises, so it must not pass for that.
            structured = {"error": "the answer is too long to be shown"}
            text = text if _json_bytes(text) <= MAX_ANSWER_BYTES // 2 else json.dumps(structured)
            return ToolResult(text=text, structured=structured, is_error=True, error_type="answer_too_long")
    return dataclasses.replace(result, text=text, structured=structured)


def _fits_as_it_stands(result: ToolResult) -> bool:
    """Tell of a short answer, as most are, that nothing in it has to be looked at one by one; False where that is not certain."""
    if not isinstance(result.structured, dict):
        return False
    try:
        structured = _encode(result.structured)
    except (TypeError, ValueError, RecursionError):
        return False
    # Without so many brackets nothing is nested too deeply; no character has more than four bytes.
    return (
        structured.count("{") + structured.count("[") <= _MAX_DEPTH
        and 4 * len(structured) + _json_bytes(result.text) <= MAX_ANSWER_BYTES
        and _HALF.search(result.text) is None
        and _HALF.search(structured) is None
    )


def _document(text: str) -> object:
    """Read a text that is a JSON object or array; None for any other."""
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def shrunk(value: object, limit: int | None, depth: int = 0) -> object:
    """Copy JSON with readable strings; with a limit, strings of at most so many bytes and a 64th as many items and keys."""
    if isinstance(value, str):
        value = _readable(value)
        return value if limit is None else bounded(value, limit)
    if depth >= _MAX_DEPTH:
        return "[cut: nested too deeply]" if isinstance(value, (Mapping, list, tuple)) else value
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        names = list(fields)
        kept_names = names if limit is None else names[: max(_LEAST_KEYS, limit // 64)]
        out = {_readable(str(key)): shrunk(fields[key], limit, depth + 1) for key in kept_names}
        return out if len(kept_names) == len(names) else {**out, "[cut]": f"{len(names) - len(kept_names)} more"}
    if isinstance(value, (list, tuple)):
        items = cast("Sequence[object]", value)
        kept = items if limit is None else items[: max(4, limit // 64)]
        short = [shrunk(item, limit, depth + 1) for item in kept]
        if left := len(items) - len(kept):
            # In the form of the items, which the schema of the result promises.
            short.append({"omitted": left} if isinstance(items[0], Mapping) else f"[cut: {left} more]")
        return short
    return value


def _readable(text: str) -> str:
    r"""Replace halves of surrogate pairs, which JSON can carry (`\ud800`) and UTF-8 cannot: one would end the session."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def _json_bytes(value: object) -> int:
    return len(_encode(value).encode("utf-8", "surrogatepass"))


def _indented(value: object, margin: str = "\n") -> str:
    """Return what `json.dumps(value, ensure_ascii=False, indent=2)` does, in a third of its time: that has no C code for indents."""
    if isinstance(value, Mapping):
        inner = margin + "  "
        fields = cast("Mapping[object, object]", value).items()
        rows = [f"{_encode(str(key))}: {_indented(item, inner)}" for key, item in fields]
        return f"{{{inner}{f',{inner}'.join(rows)}{margin}}}" if rows else "{}"
    if isinstance(value, (list, tuple)):
        inner = margin + "  "
        rows = [_indented(item, inner) for item in cast("Sequence[object]", value)]
        return f"[{inner}{f',{inner}'.join(rows)}{margin}]" if rows else "[]"
    return _encode(value)
