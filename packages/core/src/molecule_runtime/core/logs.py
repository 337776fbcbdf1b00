"""Logging of a molecule-runtime process: to stderr, as text or JSON lines, with secrets redacted.

What a line is about (which workspace, which task) is bound once, where that is known, and stands on every line that is logged below:

    with logs.bind(workspace_id="ws-1"):
        logger.warning("cannot read the inbox")     # 12:00:00 WARNING molecule_runtime.mcp.inbox [workspace_id=ws-1]: cannot ...
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, TextIO

from molecule_runtime.core import env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_context: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("molecule_runtime_log_context", default=())

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@contextlib.contextmanager
def bind(**fields: str) -> Generator[None]:
    """Attach fields to every line that is logged within the block, in this task and in those that it starts.

    An inner block adds to an outer one, and wins where both name a field.
    """
    merged = {**dict(_context.get()), **fields}
    token = _context.set(tuple(merged.items()))
    try:
        yield
    finally:
        _context.reset(token)


def bound() -> dict[str, str]:
    """Return the fields bound here."""
    return dict(_context.get())


class RedactingFormatter(logging.Formatter):
    """Formats a record, then redacts the finished line, so nothing that any library logs can carry a credential out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted line."""
        fields = " ".join(f"{name}={value}" for name, value in _context.get())
        record.context = f" [{fields}]" if fields else ""
        return redact_text(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the traceback and stack where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the redacted JSON line."""
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            **{name: redact_text(value) for name, value in _context.get()},
            "message": redact_text(record.getMessage()),
        }
        if record.exc_info:
            fields["exception"] = redact_text(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = redact_text(self.formatStack(record.stack_info))
        # ASCII: a lone surrogate in a peer's text must not break the stream.
        return json.dumps(fields)


class _Handler(logging.StreamHandler[TextIO]):
    """A stream handler that never prints what it could not format."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name in the standard library
        """Say where the line came from; the default prints message and arguments as they are, secrets included."""
        kind = getattr(sys.exc_info()[0], "__name__", "unknown")
        with contextlib.suppress(Exception):
            self.stream.write(
                f"a log line of {record.name} ({record.filename}:{record.lineno}) was lost: {kind}{self.terminator}"
            )
            self.flush()


def configure(
    environ: Mapping[str, str] | None = None,
    *,
    default_level: str = "INFO",
    prefix: str = "",
    stream: TextIO | None = None,
) -> None:
    """Send the log of this process to stderr (or `stream`). For `main()` functions only; libraries never call it.

    Raises:
        ConfigurationError: `LOG_LEVEL` or `LOG_FORMAT` holds a value that does not exist.
    """
    level = (env.LOG_LEVEL.get(environ) or default_level).upper()
    if level not in _LEVELS:
        raise ConfigurationError(
            f"LOG_LEVEL {redact_text(env.LOG_LEVEL.get(environ) or level)!r} is not a level; use one of {', '.join(_LEVELS)}"
        )
    style = env.LOG_FORMAT.get(environ).lower()
    if style not in {"text", "json"}:
        raise ConfigurationError(f"LOG_FORMAT {style!r} is not known; use text or json")
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if style == "json"
        else RedactingFormatter(
            f"{prefix}%(asctime)s %(levelname)s %(name)s%(context)s: %(message)s", datefmt="%H:%M:%S"
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    # httpx logs each request at INFO; for a process that beats every 20 s that drowns everything else.
    for noisy in ("httpx", "httpx2", "httpcore", "mcp", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
