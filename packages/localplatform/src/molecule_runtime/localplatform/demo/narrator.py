"""What the demo shows while it happens: for people, or one JSON object a line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any, TextIO

from molecule_runtime.core import env
from molecule_runtime.localplatform.errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ARROWS = ("──▶", "◀──")
_ASCII_ARROWS = ("-->", "<--")
_MAX_TEXT_LINES = 12
_WHO_WIDTH = 20
_STYLES = {"lead": "35", "calc": "32", "atlas": "34", "scout": "33", "you": "36", "platform": "2"}


class Narrator:
    """Prints the demo's events, each with the seconds since it began."""

    def __init__(self, *, as_json: bool, out: TextIO | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._out = out or sys.stdout
        self._json = as_json
        self._started = time.monotonic()
        self.finished = False
        """Whether everything that the demo shows was shown."""
        self._colour = not as_json and self._out.isatty() and not env.NO_COLOR.is_set(environ)
        self._there, self._back = _ARROWS if _can_say("".join(_ARROWS), self._out) else _ASCII_ARROWS
        self._width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    def title(self, text: str) -> None:
        """Print a heading; nothing in JSON."""
        if not self._json:
            self._write(f"\n{self._paint(text, '1')}\n\n" if text else "\n")

    def event(self, name: str, who: str, text: str, **details: Any) -> None:
        """Print that something happened at one place."""
        self.finished = self.finished or name == "done"
        if self._json:
            self._emit({"event": name, "who": who, "text": text, **details})
        else:
            self._line(self._name(who), text)

    def message(self, source: str, target: str, text: str, **details: Any) -> None:
        """Print a message on its way."""
        if self._json:
            self._emit({"event": "message", "source": source, "target": target, "text": text, **details})
        else:
            self._line(f"{self._name(source)} {self._there} {self._name(target)}", text)

    def answer(self, source: str, target: str, text: str, *, milliseconds: int | None, **details: Any) -> None:
        """Print an answer on its way back: `source` asked, `target` answers."""
        if self._json:
            self._emit(
                {
                    "event": "answer",
                    "source": target,
                    "target": source,
                    "text": text,
                    "duration_ms": milliseconds,
                    **details,
                }
            )
        else:
            took = "" if milliseconds is None else self._paint(f"  ({milliseconds} ms)", "2")
            self._line(f"{self._name(source)} {self._back} {self._name(target)}", text, suffix=took)

    def block(self, name: str, heading: str, text: str, **details: Any) -> None:
        """Print a text to copy, unwrapped."""
        if self._json:
            self._emit({"event": name, "text": text, **details})
        else:
            self._write(f"{heading}\n\n{textwrap.indent(text, '  ')}\n\n")

    def data(self, name: str, **details: Any) -> None:
        """Emit an event for programs only."""
        if self._json:
            self._emit({"event": name, **details})

    def _emit(self, data: dict[str, Any]) -> None:
        self._write(json.dumps({"seconds": round(self.seconds, 3), **data}, ensure_ascii=False) + "\n")

    def _line(self, who: str, text: str, *, suffix: str = "") -> None:
        margin = 9 + _WHO_WIDTH + 2
        visible = len(_plain(who))
        lines = [
            piece
            for line in text.splitlines() or [""]
            for piece in (
                textwrap.wrap(line, self._width - margin, break_long_words=False, break_on_hyphens=False) or [""]
            )
        ]
        if len(lines) > _MAX_TEXT_LINES:
            lines = [*lines[:_MAX_TEXT_LINES], f"… {len(lines) - _MAX_TEXT_LINES} more lines"]
        lines[-1] += suffix
        stamp = self._paint(f"{self.seconds:6.1f} s", "2")
        self._write(f"{stamp}  {who}{' ' * max(0, _WHO_WIDTH - visible)}  {lines[0]}\n")
        for line in lines[1:]:
            self._write(f"{' ' * (margin + 1)}{line}\n")

    def _name(self, who: str) -> str:
        return self._paint(who, _STYLES.get(who, "0"))

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colour else text

    def _write(self, text: str) -> None:
        if not _can_say(text, self._out):
            # A terminal of another age: a sign that it lacks must not end the demo.
            text = text.encode(self._out.encoding, errors="replace").decode(self._out.encoding)
        try:
            self._out.write(text)
            self._out.flush()
        except OSError as exc:
            # Whoever read our output left, or the disk is full. Python would complain again while it flushes at exit.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            raise DemoError(f"standard output cannot be written to: {exc.strerror or exc}") from None


def _can_say(text: str, out: TextIO) -> bool:
    try:
        text.encode(out.encoding or "utf-8", errors=out.errors or "strict")
    except UnicodeEncodeError:
        return False
    return True


def _plain(text: str) -> str:
    """Return a text without its colour codes."""
    while (start := text.find("\x1b[")) >= 0:
        text = text[:start] + text[text.index("m", start) + 1 :]
    return text
