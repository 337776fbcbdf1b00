"""What the heartbeat says that the running turn is about; an executor may say it better than the host, which knows the message only."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHARS = 100

_describe: ContextVar[Callable[[str], None] | None] = ContextVar("molecule_current_task", default=None)


def describe_task(text: str) -> None:
    """Have the next heartbeats call the running turn `text`: one line, redacted, at most `MAX_CHARS`.

    Does nothing outside of a turn. It asks for no beat of its own: an agent that says a lot must not flood the platform.
    """
    describe = _describe.get()
    if describe is not None:
        describe(one_line(text))


def describe_with(describe: Callable[[str], None]) -> None:
    """Have `describe_task` call `describe` in this context and the tasks that begin in it."""
    _describe.set(describe)


def one_line(text: str) -> str:
    """Return `text` as a description: one line, without credentials."""
    # Redacted before it is cut, so that half of a secret is not taken for a word.
    line = " ".join(redact_text(text[: 20 * MAX_CHARS]).split())
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 1]}…"
