"""What happens to a team, told while it happens: to people as lines, to programs as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Kind = Literal[
    "team",
    "created",
    "updated",
    "left",
    "pruned",
    "paused",
    "starting",
    "online",
    "late",
    "ended",
    "given_up",
    "stopped",
    "ready",
    "failed",
]
"""What a report is about.

team: everybody has a seat; created, updated, left, pruned: what became of a workspace; paused: it is not started, since its workspace is
paused; starting, online, late, ended, given_up, stopped: its process; ready: everybody that runs here is online; failed: the team cannot
be run.
"""

_SHORTEST_SECRET = 6
_HIDDEN = "[REDACTED]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One thing that happened.

    Attributes:
        member: whom it is about; `""` for the whole team.
        text: a sentence, without the name.
        details: for programs.
    """

    kind: Kind
    member: str = ""
    text: str
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def line(self) -> str:
        """Return it for people."""
        return f"{self.member} {self.text}" if self.member else self.text

    def body(self) -> dict[str, Any]:
        """Return it for programs."""
        about = {"member": self.member} if self.member else {}
        return {"event": self.kind, **about, "text": self.line(), **self.details}


Tell = Callable[[Report], None]
"""Takes reports; must be quick and must not raise."""


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return what a process wrote for a report: without credentials, and without the values that its environment holds."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _HIDDEN)
    return redact_text(text)
