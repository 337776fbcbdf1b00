"""A control group (cgroup v2) around one run, where this process may make one: limits of all its processes together."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from molecule_runtime.tools.sandbox.job import Limits

_MOUNT: Final = Path("/sys/fs/cgroup")
_PERIOD = 100_000
"""Microseconds of `cpu.max`, the kernel's own default."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A group for one run."""

    path: Path

    def add_tree(self, pid: int, proc: Path = Path("/proc")) -> None:
        """Move a process and its children into the group; none of them starts another meanwhile.

        Raises:
            OSError: the kernel refused it.
        """
        children = (proc / str(pid) / "task" / str(pid) / "children").read_text(encoding="ascii").split()
        for member in (str(pid), *children):
            (self.path / "cgroup.procs").write_text(member, encoding="ascii")

    def remove(self) -> None:
        """Remove the group, whose processes are gone."""
        with suppress(OSError):
            self.path.rmdir()


def open_cgroup(limits: Limits, mount: Path = _MOUNT, own: Path = Path("/proc/self/cgroup")) -> Cgroup | None:
    """Make a group with these limits beside the one of this process; None where that is not ours to do. Blocking.

    Without it there is no limit of processors, and this process counts the memory itself.
    """
    parent = _delegated(mount, own)
    if parent is None:
        return None
    group = Cgroup(parent / f"molecule-run-{secrets.token_hex(6)}")
    try:
        group.path.mkdir()
    except OSError:
        return None
    settings = {
        "memory.max": limits.memory + 2 * limits.disk,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "pids.max": limits.processes + 2,
    }
    try:
        for name, value in settings.items():
            (group.path / name).write_text(str(value), encoding="ascii")
        if limits.cpus is not None:
            (group.path / "cpu.max").write_text(f"{int(limits.cpus * _PERIOD)} {_PERIOD}", encoding="ascii")
    except OSError:
        group.remove()
        return None
    return group


def _delegated(mount: Path, own: Path) -> Path | None:
    """Return the group of this process, where it may hold groups with these controllers."""
    try:
        [path] = [line[3:] for line in own.read_text(encoding="ascii").splitlines() if line.startswith("0::")]
        parent = mount / path.strip("/")
        enabled = (parent / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return parent if {"memory", "pids"} <= set(enabled) and os.access(parent, os.W_OK) else None
