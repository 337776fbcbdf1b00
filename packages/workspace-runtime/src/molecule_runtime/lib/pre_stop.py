"""The predecessor's `lib.pre_stop`: the snapshot of a workspace that stops is `molecule_runtime.a2a.snapshot`."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.a2a import snapshot as snapshots
from molecule_runtime.a2a.settings import SNAPSHOT_FILE_NAME
from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.adapter.types import MAX_SNAPSHOT_LINES
from molecule_runtime.core.platform.wire import HeartbeatRequest
from molecule_runtime.core.secretfile import expand_home

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.legacy.tasks import HeartbeatLoop

__all__ = ["MAX_TRANSCRIPT_LINES", "build_snapshot", "delete_snapshot", "read_snapshot", "write_snapshot"]

logger = logging.getLogger(__name__)

MAX_TRANSCRIPT_LINES = MAX_SNAPSHOT_LINES


def build_snapshot(heartbeat: HeartbeatLoop | None, adapter_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a snapshot of this workspace and of what its adapter wants back."""
    beat = HeartbeatRequest(
        workspace_id=env.WORKSPACE_ID.get() or "unknown",
        current_task=heartbeat.current_task if heartbeat is not None else "",
        active_tasks=heartbeat.active_tasks if heartbeat is not None else 0,
        uptime_seconds=int(time.time() - heartbeat.start_time) if heartbeat is not None else 0,
    )
    return snapshots.build_snapshot(beat, adapter_state)


def write_snapshot(snapshot: Mapping[str, Any], path: str | Path | None = None) -> bool:
    """Write a snapshot without credentials; False, and a line in the log, when it cannot be."""
    return snapshots.write_snapshot(snapshot, _place(path))


def read_snapshot(path: str | Path | None = None) -> dict[str, Any] | None:
    """Return a snapshot; None when there is none, or what is there is not one."""
    return snapshots.read_snapshot(_place(path))


def delete_snapshot(path: str | Path | None = None) -> None:
    """Remove a snapshot, if it is there. A failure is a line in the log."""
    try:
        snapshots.delete_snapshot(_place(path))
    except OSError as exc:
        logger.warning("the snapshot cannot be removed: %s", exc.strerror or exc)


def _place(path: str | Path | None) -> Path:
    if path is not None:
        return Path(path)
    if env.AGENT_SNAPSHOT_PATH.is_set():
        return expand_home(env.AGENT_SNAPSHOT_PATH.get())
    return configs_dir.resolve() / SNAPSHOT_FILE_NAME
