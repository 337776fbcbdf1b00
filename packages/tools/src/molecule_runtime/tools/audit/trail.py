"""What the dispatcher writes down: one record of each tool call, written before its answer leaves."""

from __future__ import annotations

import json
import logging
import math
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from molecule_runtime.core import env, logs
from molecule_runtime.core.errors import ConfigurationError, MoleculeError
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.tools.audit import checkpoints, keys
from molecule_runtime.tools.audit.ledger import Appended, Ledger, Written
from molecule_runtime.tools.audit.records import MAX_CONTENT_CHARS, Event, hash_content
from molecule_runtime.tools.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

FILE_NAME: Final = "audit_ledger.db"

_WAIT_SECONDS: Final = 15.0
"""That a call's answer may wait for its record."""

_REST_SECONDS: Final = 30.0
"""Between two tries to write to a ledger that could not be written."""

MAX_LATE: Final = 1_000
"""Records that wait for a ledger; above it the oldest is lost, and counted."""

_ANCHOR_SECONDS: Final = 5.0
_NAME_CHARS: Final = 80
_SESSION_FIELDS: Final = ("task_id", "context_id", "session_id")
_RISKY_ACTIONS: Final = frozenset({"delegate", "approve", "code.run"})
_OVERSEEN: Final = frozenset({"create_approval", "create_request", "send_message_to_user", "requires_approval"})


@dataclass(slots=True)
class _Waiting:
    event: Event
    is_done: bool = False
    turn: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """Where the ledger is and what goes into it.

    Attributes:
        content: keep arguments and answers, redacted; else their hashes only.
        anchor: write checkpoints into the platform's activity log too.
    """

    ledger: Path
    key_file: Path
    salt: str = field(default="", repr=False)
    content: bool = False
    anchor: bool = False


def load_audit_settings(environ: Mapping[str, str], *, folder: Path | None, ledger: str = "") -> AuditSettings | None:
    """Return the settings of an environment, or None where the ledger is off.

    Args:
        environ: the environment.
        folder: where the ledger is when nothing names a file; None for no ledger then.
        ledger: a file that wins over `AUDIT_LEDGER_DB`.

    Raises:
        ConfigurationError: `AUDIT_LEDGER_DB` is a URL of another database than SQLite.
    """
    chosen = ledger or env.AUDIT_LEDGER_DB.get(environ)
    if chosen.lower() in {"off", "none", "0", "false"} or not (chosen or folder):
        return None
    if "://" in chosen:
        scheme, _, rest = chosen.partition("://")
        if scheme != "sqlite" or not rest.startswith("/"):
            raise ConfigurationError(
                f"AUDIT_LEDGER_DB names a {scheme!r} database; the ledger is a SQLite file: give its path"
            )
        chosen = rest.removeprefix("/")
    path = expand_home(chosen) if folder is None or chosen else folder / FILE_NAME
    key_file = env.AUDIT_LEDGER_KEY_FILE.get(environ)
    return AuditSettings(
        ledger=path,
        key_file=expand_home(key_file) if key_file else path.with_suffix(".key"),
        salt=env.AUDIT_LEDGER_SALT.get(environ),
        content=env.AUDIT_LEDGER_CONTENT.flag(environ),
        anchor=env.AUDIT_LEDGER_ANCHOR.flag(environ),
    )


def open_trail(environ: Mapping[str, str], *, folder: Path | None) -> AuditTrail | None:
    """Return the trail of an environment, or None where the ledger is off; see `load_audit_settings`. No file is touched yet.

    Raises:
        ConfigurationError: `AUDIT_LEDGER_DB` is a URL of another database than SQLite.
    """
    settings = load_audit_settings(environ, folder=folder)
    return None if settings is None else AuditTrail(settings)


class AuditTrail:
    """Takes the calls of one process to the ledger.

    A record is written in the event loop, which takes less than to ask a thread. Where that would have to wait (see
    `Ledger.append_now`) a thread does it, and calls that come meanwhile are written together: one lock for all of them.

    A ledger that cannot be written is an error in the log and never the failure of a call. What did not go in is kept, bounded, and
    goes in when it can; until the next try, after `rest_seconds`, no call waits for it.
    """

    def __init__(self, settings: AuditSettings, *, rest_seconds: float = _REST_SECONDS) -> None:
        self._settings = settings
        self._rest_seconds = rest_seconds
        self._resting_until = -math.inf
        self._late: deque[Event] = deque(maxlen=MAX_LATE)
        self._lost = 0
        self._ledger: Ledger | None = None
        self._waiting: list[_Waiting] = []
        self._is_writing = False
        self._session_id = uuid.uuid4().hex

    async def record(self, event: Event, *, anchor: PlatformClient | None = None) -> None:
        """Write an event down and return when it is written, or after a while when it cannot be.

        From then on no end of this process takes it back; see `molecule_runtime.tools.audit.ledger` for a power cut.

        A checkpoint that falls due goes to the activity log of `anchor`, where the settings say so.
        """
        if time.monotonic() < self._resting_until:
            self._keep([event])
            return
        if not self._is_writing and (written := self._append_now(event)) is not None:
            if written.is_due:
                await self._sign(written, anchor)
            return
        mine = _Waiting(event)
        self._waiting.append(mine)
        # Shielded: a call that was cancelled has happened all the same.
        with anyio.move_on_after(_WAIT_SECONDS, shield=True) as scope:
            while not mine.is_done:
                if self._is_writing:
                    await mine.turn.wait()
                    mine.turn = anyio.Event()
                else:
                    await self._write_waiting(anchor)
        if scope.cancelled_caught:
            logger.error("an audit record is late: others hold the ledger %s", self._settings.ledger)

    async def tool_call(
        self,
        name: str,
        *,
        action: str | None,
        agent_id: str,
        outcome: str,
        arguments: Mapping[str, Any] | None,
        answer: str | None,
        trace_id: str = "",
        anchor: PlatformClient | None = None,
    ) -> None:
        """Record one call of a tool."""
        bound = logs.bound()
        known = (bound[name] for name in _SESSION_FIELDS if bound.get(name))
        event = Event(
            agent_id=agent_id,
            session_id=next(known, self._session_id),
            operation="tool_call",
            model_used=name[:_NAME_CHARS],
            outcome=outcome,
            input_hash=hash_content(dict(arguments or {})),
            output_hash=hash_content(answer),
            human_oversight_flag=name in _OVERSEEN,
            risk_flag=action in _RISKY_ACTIONS or outcome == "permission_denied",
            trace_id=trace_id,
            content=_content(arguments, answer) if self._settings.content else None,
        )
        await self.record(event, anchor=anchor)

    def close(self) -> None:
        """Write what is late, if that is possible now, and close the ledger's file. Blocking."""
        if self._late:
            try:
                self._append([])
            except AuditError as exc:
                logger.error("%d audit records were never written: %s", len(self._late) + self._lost, exc)  # noqa: TRY400 - it says all
        if self._ledger is not None:
            self._ledger.close()

    async def _write_waiting(self, anchor: PlatformClient | None) -> None:
        """Write everything that waits, and let the next of those that came meanwhile do the same."""
        self._is_writing = True
        batch, self._waiting = self._waiting, []
        events = [waiting.event for waiting in batch]
        written: Appended | None = None
        try:
            written = await anyio.to_thread.run_sync(self._append, events)
        except AuditError as exc:
            if not self._late:
                logger.error("the audit ledger cannot be written, its records wait: %s", exc)  # noqa: TRY400 - it says all
            self._keep(events)
            self._resting_until = time.monotonic() + self._rest_seconds
        finally:
            self._is_writing = False
            for waiting in batch:
                waiting.is_done = True
            for waiting in (*batch, *self._waiting):
                waiting.turn.set()
        if written is not None and written.checkpoint is not None:
            await self._anchor(anchor, written.checkpoint)

    async def _anchor(self, anchor: PlatformClient | None, checkpoint: checkpoints.Checkpoint) -> None:
        if anchor is not None and self._settings.anchor:
            await _anchor(anchor, checkpoint)

    def _append_now(self, event: Event) -> Written | None:
        try:
            return None if self._ledger is None or self._late else self._ledger.append_now([event])
        except AuditError:
            return None  # the thread that tries again says why

    async def _sign(self, written: Written, anchor: PlatformClient | None) -> None:
        """Have a checkpoint made that is due, while other calls go on."""
        if self._ledger is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                made = await anyio.to_thread.run_sync(self._ledger.sign, written)
            except AuditError as exc:
                # The records stand, which is what matters more.
                logger.warning("a checkpoint of the audit ledger %s was not written: %s", self._settings.ledger, exc)
            else:
                await self._anchor(anchor, made)

    def _keep(self, events: Sequence[Event]) -> None:
        self._lost += max(0, len(self._late) + len(events) - MAX_LATE)
        self._late.extend(events)

    def _append(self, events: list[Event]) -> Appended:
        if self._ledger is None:
            settings = self._settings
            ring = keys.open_ring(settings.key_file, salt=settings.salt, create=True)
            self._ledger = Ledger(settings.ledger, ring)
        late = list(self._late)
        appended = self._ledger.append([*late, *events])
        if late:
            logger.warning(
                "%d audit records are late, with the time at which they were written; %d are lost",
                len(late),
                self._lost,
            )
            self._late.clear()
            self._lost = 0
        return appended


async def _anchor(client: PlatformClient, checkpoint: checkpoints.Checkpoint) -> None:
    try:
        with anyio.fail_after(_ANCHOR_SECONDS):
            await checkpoints.anchor(client, checkpoint)
    except (MoleculeError, TimeoutError) as exc:
        logger.warning("a checkpoint of the audit ledger is not in the platform's activity log: %s", exc)


def _content(arguments: Mapping[str, Any] | None, answer: str | None) -> str:
    """Return arguments and answer as JSON, redacted text by text so that it stays JSON, each cut to half of the room."""
    half = MAX_CONTENT_CHARS // 2
    given = redact_text(json.dumps(dict(arguments or {}), ensure_ascii=False, default=str))
    return json.dumps({"arguments": given[:half], "answer": redact_text(answer or "")[:half]})
