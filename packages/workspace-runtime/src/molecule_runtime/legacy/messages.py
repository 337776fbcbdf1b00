"""Reads the messages that executors of templates hand over: of A2A 1.x, of 0.3, as dicts, and as the mocks of their tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from molecule_runtime.core.envelope import File

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["field", "files_in", "parts_of", "text_in"]


def field(owner: object, name: str) -> object:
    """Return a value of a dict or an object; None where it has none."""
    if isinstance(owner, dict):
        return cast("dict[str, object]", owner).get(name)
    return getattr(owner, name, None)


def parts_of(message: object) -> list[object]:
    """Return the parts of a message; none for anything that has none."""
    parts = field(message, "parts")
    try:
        return list(cast("Iterable[object]", parts)) if parts is not None else []
    except TypeError:
        return []


def text_in(parts: Iterable[object]) -> str:
    """Return the texts of parts, joined with a space."""
    # The part's own text first: a mock has a `root` too (contract `consumers.md` 1.6).
    found = (_word(part, "text") or _word(field(part, "root"), "text") for part in parts)
    return " ".join(text for text in found if text).strip()


def files_in(parts: Iterable[object]) -> list[File]:
    """Return the files that parts refer to."""
    found = (_file(part) or _file(field(part, "root")) for part in parts)
    return [file for file in found if file is not None]


def _file(part: object) -> File | None:
    inner = field(part, "file")
    for owner in (part, inner) if _word(part, "kind", "type") in {"", "file"} else ():
        uri = _word(owner, "url", "uri")
        if uri:
            return File(
                uri=uri,
                name=_word(owner, "filename", "name"),
                mime_type=_word(owner, "media_type", "mimeType", "mime_type"),
            )
    return None


def _word(owner: object, *names: str) -> str:
    """Return the first of the values that is text and not empty."""
    for name in names:
        value = field(owner, name)
        if isinstance(value, str) and value:
            return value
    return ""
