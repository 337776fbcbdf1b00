"""What a person sees of a command: text on stdout, remarks on stderr, made safe for the terminal that shows it.

Names, titles and messages come from agents. A control sequence in them could rewrite what the person reads, so nothing of that kind is
printed. A sign that the terminal lacks is written in another way; it never ends a command.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PLAINER = str.maketrans({"…": "...", "→": "->", "←": "<-", "├": "|", "└": "`", "│": "|", "─": "-", "·": "-", "—": "-"})
# Marks that change the direction of what follows, so that it reads otherwise than it is.
_DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_DEFAULT_WIDTH = 100
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def say(text: str) -> None:
    """Print text on stdout."""
    _write(sys.stdout, text)


def remark(text: str) -> None:
    """Print something that is not the result, on stderr: stdout stays fit for a pipe."""
    _write(sys.stderr, text)


def complain(program: str, text: str) -> None:
    """Print the one line of an error, with the name of the command."""
    _write(sys.stderr, f"{program}: {' '.join(safe(text).split())}")


def emit(data: object) -> None:
    """Print JSON on one line."""
    # ASCII: whatever an agent wrote, and whatever the terminal takes.
    _write(sys.stdout, json.dumps(data))


def safe(text: str) -> str:
    """Return text without anything that steers a terminal; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def one_line(text: str) -> str:
    """Return text as one line."""
    return " ".join(safe(text).split())


def cut(text: str, columns: int) -> str:
    """Return one line that fits, with an ellipsis where something is left out."""
    if measure(text) <= columns:
        return text
    kept: list[str] = []
    room = columns - 1
    for character in text:
        room -= measure(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def measure(text: str) -> int:
    """Return how many columns a line takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def width() -> int:
    """Return the columns of the terminal, or a usual number where there is none."""
    return shutil.get_terminal_size((_DEFAULT_WIDTH, 24)).columns


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows in columns as wide as their longest cell."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(measure(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(pad(cell, size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def pad(text: str, columns: int) -> str:
    """Return text, followed by spaces up to a width."""
    return text + " " * max(0, columns - measure(text))


def age(moment: object, now: datetime | None = None) -> str:
    """Return how long ago an RFC 3339 moment was, such as `12s ago`; `never` for none."""
    if not isinstance(moment, str) or not moment:
        return "never"
    try:
        then = datetime.fromisoformat(moment)
        seconds = int(((now or datetime.now(UTC)) - then).total_seconds())
    except (ValueError, TypeError):
        return one_line(moment)
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return "now"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 agent`, `2 agents`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(octets: int) -> str:
    """Return a size for people, such as `1.2 MB`."""
    number = float(octets)
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def _shown(character: str) -> str:
    if character in "\n\t":
        return character
    # Cc: control characters, Cs: half a surrogate pair, which no encoding takes.
    if character in _DIRECTIONS or unicodedata.category(character) in {"Cc", "Cs"}:
        return "\ufffd"
    return character


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Cf", "Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAINER).encode(encoding, errors="replace").decode(encoding)
    stream.write(text + "\n")
    stream.flush()
