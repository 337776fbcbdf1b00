"""Who holds a message: a process as others can recognise it, and whether it is still there.

A number alone is not enough, since the system gives it to the next process; with the moment at which the process began (in clock
ticks since boot, `proc(5)`) it names one process. What is not Linux has no such moment to read: there it is a random mark, and only a
number that nobody has any more is known to be gone.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_STATE: Final = 0
_START: Final = 19
"""Fields of `/proc/<pid>/stat` behind the name: the state is the third field of all, and the start the twenty-second."""

_DEAD: Final = {"Z", "X", "x"}


def this_process() -> str:
    """Return the name of this process: number, start and place."""
    return f"{os.getpid()}:{_start(os.getpid()) or _mark(os.getpid())}:{_place()}"


def is_gone(owner: str, *, me: str) -> bool | None:
    """Tell whether a process has ended; None where that cannot be seen from here, as in another container.

    Args:
        owner: what `this_process` said there.
        me: what it said here.
    """
    if owner == me:
        return False
    pid, start, place = _parts(owner)
    own_pid, _, own_place = _parts(me)
    if pid <= 0:
        return True
    boot, _, space = place.partition("/")
    own_boot, _, own_space = own_place.partition("/")
    if boot != own_boot:
        # The file is on one machine, which was started again since.
        return True
    if space != own_space:
        return None
    if pid == own_pid:
        return True
    if not start or start.startswith("~"):
        return None if _exists(pid) else True
    return _start(pid) != start


def _parts(owner: str) -> tuple[int, str, str]:
    number, _, rest = owner.partition(":")
    start, _, place = rest.partition(":")
    return (int(number) if number.isdecimal() else 0), start, place


@cache
def _mark(pid: int) -> str:
    """Return what tells this process from others of its number, where the system does not say when it began."""
    del pid
    return f"~{os.urandom(8).hex()}"


def _start(pid: int) -> str:
    """Return when a process began; `""` when there is none, or it is dead and nobody has asked for its exit code yet."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    if len(fields) <= _START or fields[_STATE] in _DEAD:
        return ""
    return fields[_START]


def _place() -> str:
    """Return which boot of the machine and which space of process numbers this is."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    try:
        space = str((_PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        space = ""
    return f"{boot}/{space}"


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
