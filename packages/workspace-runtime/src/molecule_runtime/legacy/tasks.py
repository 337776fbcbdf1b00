"""The running turn, as executors of the predecessor tell of it."""

from __future__ import annotations

from typing import Protocol

from molecule_runtime.a2a.current_task import describe_task

__all__ = ["HeartbeatLoop", "set_current_task"]


class HeartbeatLoop(Protocol):
    """What an adapter of the predecessor was given; `AdapterConfig.heartbeat` is None here, and every helper takes that.

    Attributes:
        active_tasks: turns that run.
        current_task: what the running turn is about.
        start_time: of the process, in seconds since 1970.
    """

    active_tasks: int
    current_task: str
    start_time: float


async def set_current_task(heartbeat: object, task: str | None) -> None:
    """Have the heartbeat call the running turn `task`. The host counts turns, and clears the label when one ends.

    Args:
        heartbeat: whatever `AdapterConfig.heartbeat` is; it is not used.
        task: empty or None is ignored, since the turn ends by itself.
    """
    if task:
        describe_task(task)
