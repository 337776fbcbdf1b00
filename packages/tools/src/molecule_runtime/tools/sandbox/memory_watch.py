"""Counts the memory of all processes of a sandbox together, which without a control group no limit of the kernel does."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

import anyio
import anyio.to_thread

INTERVAL: Final = 0.1
"""Seconds between two counts. A limit for each process bounds what can happen meanwhile."""

_READ_BYTES = 8192
_SHARES = ("Pss_Anon:", "Pss_Shmem:")
_RESIDENT = ("RssAnon:", "RssShmem:")


async def exceeded(proc: int, limit: int) -> None:
    """Return when the processes have more than `limit` bytes together.

    Args:
        proc: a descriptor of the sandbox' own /proc, in which there is nothing but its processes.
        limit: bytes of memory that no file backs. What several share counts once.
    """
    while True:
        if await anyio.to_thread.run_sync(used, proc) > limit:
            return
        await anyio.sleep(INTERVAL)


def used(proc: int) -> int:
    """Return how many bytes all processes have together. Blocking."""
    return sum(_of(proc, name) for name in os.listdir(proc) if name.isdigit())


def _of(proc: int, pid: str) -> int:
    # A process that hides from others of its user (PR_SET_DUMPABLE) still shows its status, where what it shares counts in full.
    for file, fields in (("smaps_rollup", _SHARES), ("status", _RESIDENT)):
        with suppress(OSError):
            return _sum(proc, f"{pid}/{file}", fields)
    return 0


def _sum(proc: int, path: str, fields: tuple[str, ...]) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        lines = os.read(descriptor, _READ_BYTES).decode().splitlines()
    finally:
        os.close(descriptor)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(fields))
