"""Ends the processes of a team when whoever runs them is gone, however it went: kill -9 and a crash leave nothing behind.

It runs on its own, as a file, without the rest of this package: `python -I -S guard.py`. On its stdin it is told the process groups
that are alive, a line `+GROUP` or `-GROUP` each. The other end of that pipe is held by one process alone, so the pipe closes when
that process ends. Then every group that is left gets SIGTERM, some time, and SIGKILL. This works wherever there are pipes and process
groups; a signal at the parent's death (Linux) would reach one process of each group only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

GRACE_SECONDS = 3.0
_STEP_SECONDS = 0.05


def main() -> None:
    """Keep the list of groups until the pipe closes, then end them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    alive: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            alive.add(group)
        else:
            alive.discard(group)
    alive = {group for group in alive if _signal(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_SECONDS
    while alive and time.monotonic() < deadline:
        time.sleep(_STEP_SECONDS)
        alive = {group for group in alive if _signal(group, 0)}
    for group in alive:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; tell whether there was anybody."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    main()
