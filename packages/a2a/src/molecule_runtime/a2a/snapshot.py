"""What an agent takes over a restart: written when the host stops, given back once when it is up again (contract `runtime.md` 12.3).

The file holds no credential and nothing that came out of a sandbox, is 0600 from birth, and is removed once it was given back: a process
that is killed later must not find it a second time.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import anyio

from molecule_runtime.a2a.daemon_thread import in_daemon_thread
from molecule_runtime.core.adapter.types import MAX_SNAPSHOT_LINES
from molecule_runtime.core.redaction import redact, redact_text
from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from molecule_runtime.core.adapter import BaseAdapter
    from molecule_runtime.core.platform.wire import HeartbeatRequest

logger = logging.getLogger(__name__)

CAPTURE_SECONDS = 3.0
"""For the adapter's code when the host stops."""

RESTORE_SECONDS = 10.0
"""For the adapter's code when the host starts."""

MAX_BYTES = 16 * 1024 * 1024
"""A larger file is not read, and not written."""

MAX_DEPTH = 50
"""Values that are nested deeper are left out."""

_WRITE_SECONDS = 2.0
_MAX_PAGES = 100

SANDBOX_MARKS = ("source=sandbox", "tool=run_code", "[sandbox_output]")
"""Contract `workspace-host.md` 23.2."""

_SANDBOX_FIELDS = {("source", "sandbox"), ("tool", "run_code"), ("tool_name", "run_code"), ("name", "run_code")}
_SECRET_FIELD = re.compile(
    r"(?:^|[_-])(?:token|secret|password|passwd|api_?key|credentials?|authorization)$", re.IGNORECASE
)
_SESSION = "session_id"


def build_snapshot(beat: HeartbeatRequest, adapter_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a snapshot: what the workspace did, as its last heartbeat says it, and the adapter's own state under `adapter`."""
    return {
        "workspace_id": beat.workspace_id,
        "timestamp": datetime.now(UTC).isoformat(),
        "current_task": beat.current_task,
        "active_tasks": beat.active_tasks,
        "uptime_seconds": beat.uptime_seconds,
        "adapter": dict(adapter_state),
    }


def scrub(value: Any, *, key: str = "", depth: int = 0) -> Any:
    """Return a JSON value without credentials, and without the items of lists that came out of a sandbox.

    A session id stays although it looks random: redacted, it would be restored as the id of no session.
    """
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, str):
        if key and _SECRET_FIELD.search(key):
            return "[REDACTED:secret]" if value else value
        if key == _SESSION and set(redact(value).counts) <= {"base64_blob"}:
            return value
        return redact_text(value)
    if isinstance(value, dict):
        fields = cast("dict[object, Any]", value)
        return {redact_text(str(name)): scrub(one, key=str(name), depth=depth + 1) for name, one in fields.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = list(cast("Any", value))
        return [scrub(one, key=key, depth=depth + 1) for one in items if not is_sandbox_content(one)]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact_text(str(value))


def is_sandbox_content(value: Any, *, depth: int = 0) -> bool:
    """Tell whether an item of a list came out of a sandbox, or something in it did."""
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, str):
        lowered = value.lower()
        return any(mark in lowered for mark in SANDBOX_MARKS)
    if isinstance(value, dict):
        for name, one in cast("dict[object, Any]", value).items():
            if isinstance(one, str) and (str(name).lower(), one.lower()) in _SANDBOX_FIELDS:
                return True
            if is_sandbox_content(one, depth=depth + 1):
                return True
    # A list in it is no reason: its items are looked at one by one when it is scrubbed.
    return False


def write_snapshot(snapshot: Mapping[str, Any], path: Path) -> bool:
    """Scrub a snapshot and write it; False, and a line in the log, when it cannot be."""
    try:
        data = json.dumps(scrub(dict(snapshot)), indent=2).encode()
        if len(data) > MAX_BYTES:
            logger.warning("the state of the agent is not kept: %d bytes are more than %d", len(data), MAX_BYTES)
            return False
        write_private(path, data)
    except (OSError, ValueError, TypeError, RecursionError) as exc:
        logger.warning("the state of the agent is not kept: %s", redact_text(str(exc)))
        return False
    return True


def read_snapshot(path: Path) -> dict[str, Any] | None:
    """Return a snapshot; None when there is none, or what is there is not one."""
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
        read: object = json.loads(data) if len(data) <= MAX_BYTES else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as exc:
        logger.warning("%s cannot be read: %s", path, type(exc).__name__)
        return None
    return cast("dict[str, Any]", read) if isinstance(read, dict) else None


def delete_snapshot(path: Path) -> None:
    """Remove a snapshot that was given back, if it is there.

    Raises:
        OSError: it cannot be removed.
    """
    path.unlink(missing_ok=True)


async def capture(adapter: BaseAdapter, beat: HeartbeatRequest, path: Path) -> None:
    """Ask the adapter for its state and write it. An adapter that hangs costs `CAPTURE_SECONDS`, and what it has said by then is kept."""
    state: dict[str, Any] = {}
    with anyio.move_on_after(CAPTURE_SECONDS) as scope:
        try:
            state.update(await _state_of(adapter))
            if "transcript_lines" not in state and inspect.iscoroutinefunction(adapter.transcript_lines):
                await _add_transcript(adapter, state)
        except Exception:  # an adapter may raise anything
            logger.warning("the adapter cannot say what a restart should restore", exc_info=True)
    if scope.cancelled_caught:
        logger.warning("the adapter did not say within %.0f s what a restart should restore", CAPTURE_SECONDS)
    if not state:
        # What an earlier stop left was given back and removed, so there is nothing to be kept.
        return
    snapshot = build_snapshot(beat, state)
    with anyio.move_on_after(_WRITE_SECONDS):
        if await in_daemon_thread(lambda: write_snapshot(snapshot, path), name="molecule-snapshot"):
            logger.info("the state of the agent is kept in %s", path)


async def restore(adapter: BaseAdapter, workspace_id: str, path: Path) -> None:
    """Give the adapter back what the last stop kept, and remove it. Never raises."""
    snapshot = await in_daemon_thread(lambda: read_snapshot(path), name="molecule-snapshot")
    if snapshot is None:
        return
    owner = snapshot.get("workspace_id")
    if owner != workspace_id:
        logger.warning("%s is of workspace %r, and is left alone", path, str(owner)[:140])
        return
    try:
        with anyio.fail_after(RESTORE_SECONDS):
            await in_daemon_thread(lambda: adapter.restore_state(snapshot), name="molecule-restore")
    except TimeoutError:
        logger.warning("the adapter did not take its state back within %.0f s; it is tried again", RESTORE_SECONDS)
        return
    except Exception:  # an adapter may raise anything
        # Removed all the same: it would fail at each start from now on.
        logger.warning("the adapter cannot take its state back", exc_info=True)
    else:
        logger.info("the adapter took back its state of %s", snapshot.get("timestamp"))
    try:
        delete_snapshot(path)
    except OSError as exc:
        logger.warning("%s cannot be removed, so it is given back again: %s", path, exc.strerror)


async def _state_of(adapter: BaseAdapter) -> dict[str, Any]:
    if inspect.iscoroutinefunction(adapter.pre_stop_state):
        said: object = await adapter.pre_stop_state()
    else:
        said = await in_daemon_thread(adapter.pre_stop_state, name="molecule-pre-stop")
    if not isinstance(said, dict):
        logger.warning("pre_stop_state returned %s, not a dict; it is not kept", type(said).__name__)
        return {}
    return cast("dict[str, Any]", said)


async def _add_transcript(adapter: BaseAdapter, state: dict[str, Any]) -> None:
    """Add the last lines of a transcript that is read page by page; those that were read in time stay."""
    cursor = 0
    for _ in range(_MAX_PAGES):
        page = await adapter.transcript_lines(since=cursor, limit=MAX_SNAPSHOT_LINES)
        lines: object = page.get("lines")
        if not page.get("supported", True) or not isinstance(lines, list) or not lines:
            return
        kept: list[Any] = [*state.get("transcript_lines", []), *cast("list[object]", lines)]
        state["transcript_lines"] = kept[-MAX_SNAPSHOT_LINES:]
        following: object = page.get("cursor")
        if not page.get("more") or not isinstance(following, int) or following <= cursor:
            return
        cursor = following
