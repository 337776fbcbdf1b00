"""The predecessor's audit event lines: one JSON object a line, appended whole (contract `runtime.md` 12.5, `workspace-host.md` 19.2)."""

from __future__ import annotations

import json
import logging
import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.secretfile import expand_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

FILE_NAME: Final = "audit.jsonl"
_MAX_LINE: Final = 64 * 1024
_MAX_DEPTH: Final = 16


def log_event(
    event_type: str,
    action: str,
    resource: str,
    outcome: str,
    actor: str | None = None,
    trace_id: str | None = None,
    **extra: Any,
) -> str:
    """Append one event to the file that `AUDIT_LOG_PATH` names and return its trace id, a new one where none is given.

    Texts are redacted. Extra fields never replace the built-in ones. Blocking, and on the disk when it returns; a file that cannot
    be written is only warned about. For a record that shows tampering use the ledger.
    """
    environ = env.current()
    workspace_id = env.WORKSPACE_ID.get(environ)
    trace = trace_id or str(uuid.uuid4())
    event: dict[str, Any] = {
        **extra,
        "timestamp": datetime.now(UTC).isoformat(),
        "event_type": event_type,
        "workspace_id": workspace_id,
        "actor": actor or workspace_id,
        "action": action,
        "resource": resource,
        "outcome": outcome,
        "trace_id": trace,
    }
    try:
        append_line(path_of(environ), event)
    except (OSError, ConfigurationError) as exc:
        logger.warning("an audit event (%s %s) was not written: %s", event_type, action, exc)
    return trace


def path_of(environ: Mapping[str, str]) -> Path:
    """Return the file of the event lines.

    Raises:
        ConfigurationError: there is no folder for it.
    """
    chosen = env.AUDIT_LOG_PATH.get(environ)
    return expand_home(chosen) if chosen else configs_dir.resolve(environ) / FILE_NAME


def append_line(path: Path, event: Mapping[str, Any]) -> None:
    """Append one redacted object as a line, in one write, to a file that is 0600 from birth.

    Raises:
        OSError: it cannot be written.
    """
    body = {key: _redacted(value, 0) for key, value in event.items()}
    line = json.dumps(body, default=str).encode()
    if len(line) > _MAX_LINE:
        kept = {key: value for key, value in body.items() if len(json.dumps(value, default=str)) < _MAX_LINE // 32}
        line = json.dumps({**kept, "cut": sorted(set(body) - set(kept))[:64]}, default=str).encode()[:_MAX_LINE]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # One write to a file that is opened for appending: lines of several processes never mix.
        os.write(descriptor, line + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _redacted(value: object, depth: int) -> object:
    if isinstance(value, str):
        return redact_text(value)
    if depth >= _MAX_DEPTH:
        return "[cut: nested too deeply]"
    if isinstance(value, dict):
        fields = cast("Mapping[object, object]", value)
        return {str(key): _redacted(item, depth + 1) for key, item in fields.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted(item, depth + 1) for item in cast("Sequence[object]", value)]
    return value
