"""How each target is, as the agent and the operator are told it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core.presence import Phase, TargetState

if TYPE_CHECKING:
    from collections.abc import Collection

SHOWN: Final = 20
"""Targets that a summary shows one by one."""

_DETAIL_CHARS: Final = 300


class InboxPhase(StrEnum):
    """What becomes of the messages of a target."""

    OFF = "off"
    """This process does not poll."""
    STARTING = "starting"
    """It polls once the platform took the registration."""
    POLLING = "polling"
    RETRYING = "retrying"
    """The platform does not show them."""
    FULL = "full"
    """It holds as many messages as it may; the rest waits on the platform until some are popped."""
    ELSEWHERE = "elsewhere"
    """Another process that shares the inbox polls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxState:
    """How the polling of one target goes.

    Attributes:
        detail: why it does not work.
        last_poll: Unix seconds of the last look that worked; None before the first.
        failures: looks in a row that did not.
    """

    phase: InboxPhase = InboxPhase.OFF
    detail: str = ""
    last_poll: float | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetStatus(TargetState):
    """Everything about one target at one moment.

    Attributes:
        source: the setting that names it.
        events: whether the platform's events about it arrive, so that a message is fetched at once; else it is fetched by the clock.
    """

    workspace_id: str
    platform_url: str
    source: str
    inbox: InboxState = field(default_factory=InboxState)
    events: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it for people: moments as RFC 3339, without what has no value."""
        inbox: dict[str, Any] = {
            "state": self.inbox.phase.value,
            "detail": self.inbox.detail[:_DETAIL_CHARS],
            "last_poll": _moment(self.inbox.last_poll),
            "failures": self.inbox.failures,
            "events": self.events,
        }
        data: dict[str, Any] = {
            "workspace_id": self.workspace_id,
            "platform_url": self.platform_url,
            "state": self.phase.value,
            "detail": self.detail[:_DETAIL_CHARS],
            "since": _moment(self.since),
            "last_heartbeat": _moment(self.last_beat),
            "failures": self.failures,
            "source": self.source,
            "inbox": {key: value for key, value in inbox.items() if value not in ("", None)},
        }
        return {key: value for key, value in data.items() if value not in ("", None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """How the file of workspaces is.

    Attributes:
        path: the file.
        problems: what is wrong with it now, in which case the last good list is served; empty when nothing is.
        since: Unix seconds at which that was found, or at which the list that is served was read.
    """

    path: str
    problems: tuple[str, ...] = ()
    since: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """Return it for people."""
        data: dict[str, Any] = {"path": self.path, "since": _moment(self.since)}
        if self.problems:
            data |= {"problems": list(self.problems), "serving": "the last list that could be used"}
        return data


def summary(states: Collection[TargetStatus], file: FileStatus | None, *, at_most: int = SHOWN) -> dict[str, Any]:
    """Return how a process and its targets are, for people: how many are in which state, and first those that need a hand.

    Args:
        states: of every target.
        file: of the file of workspaces.
        at_most: how many targets are shown one by one; a process may serve a thousand.
    """
    counts: dict[str, int] = {}
    for state in states:
        counts[state.phase.value] = counts.get(state.phase.value, 0) + 1
    worst = sorted(states, key=lambda state: (_needs_no_hand(state), state.since))
    data: dict[str, Any] = {
        "workspaces_served": len(states),
        "workspaces_by_state": counts,
        "workspaces": [state.to_json() for state in worst[:at_most]],
    }
    if len(states) > at_most:
        data["workspaces_not_shown"] = len(states) - at_most
    if file is not None:
        data["workspaces_file"] = file.to_json()
    return data


def _needs_no_hand(state: TargetStatus) -> bool:
    return state.phase is Phase.ONLINE and state.inbox.phase is not InboxPhase.RETRYING


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
