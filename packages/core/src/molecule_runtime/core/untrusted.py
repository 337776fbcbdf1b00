"""The boundary around text that a peer, a user or a file wrote: data to read, never instructions to follow.

A block looks like this, with 16 random hex digits that the content cannot know:

    <untrusted-3f9c2a7be01d4455 source="peer" id="ws-1">
    the content, unchanged
    </untrusted-3f9c2a7be01d4455>
"""

from __future__ import annotations

import bisect
import json
import re
import secrets
from dataclasses import dataclass

MAX_CONTENT_CHARS = 40_000
"""Default cap; a `molecule-mcp` answer line must stay below 60 KiB (clients read with a 64 KiB limit)."""

_OPEN = re.compile(r"<untrusted-([0-9a-f]{16})((?: [a-z_]+=\"(?:[^\"\\\n]|\\.)*\")*)>\n")
_CLOSE = re.compile(r"\n</untrusted-([0-9a-f]{16})>")
_ATTRIBUTE = re.compile(r" ([a-z_]+)=(\"(?:[^\"\\\n]|\\.)*\")")
_ATTRIBUTE_NAME = re.compile(r"[a-z_]+")


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A parsed block: `content` exactly as it was, and who it came from."""

    content: str
    attributes: dict[str, str]


def wrap(content: str, *, max_chars: int = MAX_CONTENT_CHARS, **attributes: str | None) -> str:
    """Wrap text that we did not write. Attributes say where it came from; those that are None are left out.

    The content is not rewritten. Content above `max_chars` is cut and ends with a line that says how much is missing.

    Raises:
        ValueError: an attribute name is not lowercase letters and underscores.
    """
    nonce = secrets.token_hex(8)
    while nonce in content:
        nonce = secrets.token_hex(8)
    shown: list[str] = []
    for name, value in attributes.items():
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise ValueError(f"attribute name {name!r} must be lowercase letters and underscores")
        if value is not None:
            shown.append(f" {name}={json.dumps(value)}")
    if len(content) > max_chars:
        content = f"{content[:max_chars]}\n[cut: {len(content) - max_chars} more characters]"
    return f"<untrusted-{nonce}{''.join(shown)}>\n{content}\n</untrusted-{nonce}>"


def parse(text: str) -> list[Untrusted]:
    """Return every block in `text`, in order, with its exact content. Text outside blocks is ignored."""
    found: list[Untrusted] = []
    # Closers are looked up once: searching anew for each forged opener would be quadratic in the text.
    closers: dict[str, list[int]] = {}
    for closer in _CLOSE.finditer(text):
        closers.setdefault(closer.group(1), []).append(closer.start())
    position = 0
    while match := _OPEN.search(text, position):
        ends = closers.get(match.group(1), [])
        # From the newline that ends the opening tag, so that empty content is found too.
        index = bisect.bisect_left(ends, match.end() - 1)
        if index == len(ends):
            position = match.end()
            continue
        end = ends[index]
        try:
            attributes = {name: json.loads(value) for name, value in _ATTRIBUTE.findall(match.group(2))}
        except ValueError:
            # Not written by `wrap`: a forged tag with an escape that JSON does not know.
            position = match.end()
            continue
        found.append(Untrusted(text[match.end() : end], attributes))
        position = end + len(f"\n</untrusted-{match.group(1)}>")
    return found
