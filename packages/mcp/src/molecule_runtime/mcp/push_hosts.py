"""Which client this is, as far as it matters for pushing messages to it (contract `runtime.md` 5.4). Cheap to import.

What a client calls itself in the handshake counts before the environment: a client that was started in the terminal of another has
that one's variables too. `MOLECULE_MCP_PUSH` counts before both. To a client that is not known nothing is pushed: the predecessor's
`notifications/message` in that case was no logging notification, and a client that checks shapes would be right to object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS: Final = {
    "claude": "notifications/claude/channel",
    "openclaw": "notifications/openclaw/channel",
    "cursor": "notifications/cursor/channel",
    "hermes": "notifications/hermes/channel",
}

_MARKS: Final = {
    # CLAUDECODE is what current Claude Code sets; the predecessor looked for the two others only (contract `runtime.md` 20.2, 34).
    "claude": (env.CLAUDECODE, env.CLAUDE_CODE, env.CLAUDE_CODE_VERSION),
    "openclaw": (env.OPENCLAW_SESSION_ID, env.OPENCLAW_GATEWAY_PORT),
    "cursor": (env.CURSOR_MCP, env.CURSOR_TRACE_ID),
    "hermes": (env.HERMES_RUNTIME, env.HERMES_WORKSPACE_ID),
}

_CHANNEL: Final = "claude/channel"


@dataclass(frozen=True, slots=True)
class PushChoice:
    """Whether and how to push.

    Attributes:
        fixed: what `MOLECULE_MCP_PUSH` says: a client, `off`, or `auto`.
        marked: the client whose variables are in the environment; `""` for none.
    """

    fixed: str = "auto"
    marked: str = ""

    def method(self, client_name: str) -> str | None:
        """Return the notification for a client that calls itself so; None to push nothing."""
        if self.fixed != "auto":
            return METHODS.get(self.fixed)
        lowered = client_name.lower()
        named = next((host for host in METHODS if host in lowered), "")
        return METHODS.get(named or self.marked)

    def of_the_client_alone(self) -> PushChoice:
        """Return the choice for clients that did not start this process: its variables say nothing about them."""
        return PushChoice(self.fixed)

    @property
    def capabilities(self) -> dict[str, dict[str, Any]]:
        """Return the experimental capabilities of the handshake.

        Claude Code listens only where the channel is announced. Whether it is Claude Code is known for sure only after the answer
        in which that stands; for other clients the announcement has no meaning.
        """
        host = self.marked if self.fixed == "auto" else self.fixed
        return {_CHANNEL: {}} if host in {"", "claude"} else {}


def load(environ: Mapping[str, str] | None = None) -> PushChoice:
    """Read the choice from the environment."""
    fixed = env.MOLECULE_MCP_PUSH.get(environ).lower()
    marked = next(
        (host for host, variables in _MARKS.items() if any(variable.is_set(environ) for variable in variables)), ""
    )
    return PushChoice(fixed if fixed in {*METHODS, "off"} else "auto", marked)
