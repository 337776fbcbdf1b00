"""Whether this process has met something that it cannot recover from by itself (contract `runtime.md` 12.1).

Of the whole process, since an executor, an SDK beneath it and the heartbeats all mean the same one. An executor marks it when nothing but a
restart would help, and clears it when a turn succeeds again; heartbeats tell the platform, which shows the workspace as degraded
meanwhile.
"""

from __future__ import annotations

import logging
import threading

from molecule_runtime.core.redaction import redact_text

logger = logging.getLogger(__name__)

MAX_REASON = 200
"""Characters of a reason: it is shown beside the workspace's name."""

_lock = threading.Lock()
_reason = ""


def mark_wedged(reason: str) -> None:
    """Say that this process cannot recover, and why, in a few words; the first reason stays."""
    global _reason
    text = " ".join(redact_text(reason).split())[:MAX_REASON] or "no reason given"
    with _lock:
        if _reason:
            return
        _reason = text
    logger.error("this process cannot recover by itself: %s", text)


def clear_wedge() -> None:
    """Take it back: a turn succeeded. Does nothing where nothing was marked."""
    global _reason
    with _lock:
        was, _reason = _reason, ""
    if was:
        logger.info("this process works again; it said: %s", was)


def is_wedged() -> bool:
    """Tell whether this process is marked."""
    return bool(wedge_reason())


def wedge_reason() -> str:
    """Return the reason, or `""`."""
    with _lock:
        return _reason


def reset_for_test() -> None:
    """Forget everything, silently."""
    global _reason
    with _lock:
        _reason = ""
