"""The engine of the schedules (contract 12.7): looks for what is due, sends it, and keeps account of it.

Everything that must survive a stop is in the table (`store.schedules`); in memory is only which runs this process has in hand.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.auth import Caller
from molecule_runtime.localplatform.cron import CronError, next_after
from molecule_runtime.localplatform.outcomes import read_envelope
from molecule_runtime.localplatform.proxy import admit, leave_message, logged_payload
from molecule_runtime.localplatform.store import activity, schedules, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from molecule_runtime.core.platform import wire
    from molecule_runtime.localplatform.background import Background
    from molecule_runtime.localplatform.events import EventBus
    from molecule_runtime.localplatform.outcomes import Envelope, Outcome
    from molecule_runtime.localplatform.provisioning import Hosting
    from molecule_runtime.localplatform.proxy import Proxy
    from molecule_runtime.localplatform.settings import LocalSettings
    from molecule_runtime.localplatform.store import Store
    from molecule_runtime.localplatform.store.schedules import ScheduleRow
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

logger = logging.getLogger(__name__)

MAX_DUE = 50
"""Runs that one look takes up."""

MAX_RUNNING = 10
"""Runs whose prompt is with an agent at the same time."""

RUN_SECONDS = 300.0
"""How long a run waits for the answer; the agent's turn may go on."""

BUSY_SECONDS = 120.0
"""How long a run waits for a busy workspace."""

BUSY_STEP_SECONDS = 10.0
SILENT_SECONDS = 600.0
"""After this long without a sign of life a workspace that claims to be busy is free."""

INTERRUPTED = "the platform stopped during this run; the agent may have done it"

_CAPABILITY = "scheduler"
_HIBERNATED = "hibernated"
_ERROR_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """How a run ended: `ok`, `error`, `timeout`, `queued` for a busy agent, or `skipped`."""

    status: str
    error: str = ""
    ran: bool = True
    empty: bool | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """What one look decided."""

    ready: list[ScheduleRow] = field(default_factory=list["ScheduleRow"])
    ended: list[tuple[ScheduleRow, _Result, activity.NewActivity]] = field(
        default_factory=list[tuple["ScheduleRow", _Result, activity.NewActivity]]
    )
    freed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    waiting: int = 0


def message_id_of(row: ScheduleRow) -> str:
    """Return the id of a run's message: the same for the same due time, so that a repetition is recognised as one."""
    return f"cron-{row.id[:8]}-{(row.claimed_due_at or 0) // timestamps.SECOND:08x}"


class Scheduler:
    """Runs the schedules of one platform."""

    def __init__(
        self,
        *,
        store: Store,
        bus: EventBus,
        proxy: Proxy,
        hosting: Hosting,
        background: Background,
        settings: LocalSettings,
        metadata: Mapping[str, wire.RuntimeMetadata],
    ) -> None:
        self._store = store
        self._bus = bus
        self._proxy = proxy
        self._hosting = hosting
        self._background = background
        self._settings = settings
        self._metadata = metadata
        self._running: set[str] = set()
        self._deciding = anyio.Lock()
        self._started_at = self._now()

    async def run(self) -> None:
        """Look for what is due, for ever; more often while a run waits for a busy workspace."""
        pause = self._settings.schedule_tick
        while True:
            await anyio.sleep(pause)
            waiting = 0
            try:
                waiting = await self.tick()
            except Exception:  # the engine must outlive whatever one round meets
                logger.exception("the look for schedules that are due failed")
            pause = min(BUSY_STEP_SECONDS, self._settings.schedule_tick) if waiting else self._settings.schedule_tick

    async def tick(self) -> int:
        """Take up what is due and send what can be sent; returns how many runs wait."""
        return await self._decide(look_for_due=True)

    async def _decide(self, *, look_for_due: bool) -> int:
        # One at a time: what a round has in hand must be known to the next.
        async with self._deciding:
            native = {key for key, metadata in self._metadata.items() if metadata.capabilities.get(_CAPABILITY)}
            done = await self._store.write(self._round, look_for_due, frozenset(self._running), native)
            for row in done.ready:
                self._running.add(row.id)
                self._background.start(self._run(row), name=f"schedule {row.id}")
        for workspace_id, current_task in done.freed:
            self._bus.publish("TASK_UPDATED", workspace_id, {"current_task": current_task, "active_tasks": 0})
        for row, result, logged in done.ended:
            self._publish(row, result, logged)
        return done.waiting

    def _round(
        self, connection: sqlite3.Connection, look_for_due: bool, running: AbstractSet[str], native: AbstractSet[str]
    ) -> _Round:
        now = self._now()
        freed: list[tuple[str, str]] = []
        if look_for_due:
            silent_since = now - timestamps.from_seconds(SILENT_SECONDS)
            freed = workspaces.reset_busy(connection, silent_since=silent_since, now=now)
            self._claim_due(connection, native, now)
        ready: list[ScheduleRow] = []
        ended: list[tuple[ScheduleRow, _Result, activity.NewActivity]] = []
        waiting = 0
        patience = now - timestamps.from_seconds(BUSY_SECONDS)

        def end(row: ScheduleRow, result: _Result) -> None:
            if (logged := _record(connection, row, result, now)) is not None:
                ended.append((row, result, logged))

        for row, busy in schedules.claimed(connection):
            if row.id in running:
                continue
            if row.sent_at is not None:
                end(row, _Result(status="error", error=INTERRUPTED))
            elif row.workspace_id in native:
                schedules.release(connection, row.id)
            elif busy and (row.claimed_at or 0) <= patience:
                error = f"the workspace was busy for {BUSY_SECONDS:g} seconds"
                end(row, _Result(status="skipped", error=error, ran=False))
            elif busy or len(running) + len(ready) >= MAX_RUNNING:
                waiting += 1
            else:
                ready.append(row)
        return _Round(ready=ready, ended=ended, freed=freed, waiting=waiting)

    def _claim_due(self, connection: sqlite3.Connection, native: AbstractSet[str], now: int) -> None:
        # A platform that just started does not know yet which workspaces keep their own schedules: their heartbeats say so.
        learning = now < self._started_at + timestamps.from_seconds(self._settings.stale_after)
        known_since = self._started_at if learning else None
        for row in schedules.due(connection, now=now, known_since=known_since, limit=MAX_DUE):
            try:
                # From now, not from when it was due: however many runs were missed, one is made up for.
                following = next_after(row.cron_expr, row.timezone, now)
            except CronError as exc:
                schedules.refuse(connection, row.id, str(exc))
                logger.warning("schedule %s of %s is stopped: %s", row.id, row.workspace_id, exc)
                continue
            if row.workspace_id in native:
                schedules.move_on(connection, row.id, following)
            else:
                schedules.claim(connection, row, next_run_at=following, now=now)

    async def _run(self, row: ScheduleRow) -> None:
        started = time.monotonic()
        try:
            try:
                result = await self._send(row)
            except Exception as exc:
                # Whatever happened, the run must not stay under way: its schedule would never be due again.
                await self._end(row, _Result(status="error", error=f"the run failed: {type(exc).__name__}"), started)
                raise
            if result is not None:
                await self._end(row, result, started)
        finally:
            self._running.discard(row.id)
        await self._decide(look_for_due=False)

    async def _send(self, row: ScheduleRow) -> _Result | None:
        """Send the prompt and wait for what comes of it; None when the run was given up meanwhile."""

        def begin(connection: sqlite3.Connection) -> tuple[WorkspaceRow, Envelope] | None:
            target = admit(connection, Caller(None), row.workspace_id)
            current = schedules.set_sent(connection, row, self._now())
            if current is None:
                return None
            message = read_envelope(a2a.message_send(current.prompt, message_id=message_id_of(row)))
            if target.status == _HIBERNATED:
                leave_message(connection, target, message, now=self._now())
            return target, message

        try:
            begun = await self._store.write(begin)
        except Refusal as refusal:
            return _Result(status="error", error=str(refusal), ran=False)
        if begun is None:
            return None
        target, message = begun
        if target.status == _HIBERNATED:
            if (provisioner := self._hosting.of(target.id)) is not None:
                await provisioner.start(target.id)
            return _Result(status="queued")
        # As a person's message: without a caller, and on a task of its own that goes on when nobody waits any more.
        turn = self._background.start(
            self._proxy.send(Caller(None), target, message), name=f"turn of schedule {row.id}"
        )
        with anyio.move_on_after(RUN_SECONDS):
            return _judge(await asyncio.shield(turn))
        return _Result(status="timeout", error=f"no answer within {RUN_SECONDS:g} seconds; the turn may go on")

    async def _end(self, row: ScheduleRow, result: _Result, started: float) -> None:
        duration = int((time.monotonic() - started) * 1000) if result.ran else None
        result = replace(result, duration_ms=duration)
        logged = await self._store.write(_record, row, result, self._now())
        if logged is not None:
            self._publish(row, result, logged)

    def _publish(self, row: ScheduleRow, result: _Result, logged: activity.NewActivity) -> None:
        payload = {"schedule_id": row.id, "name": row.name, "status": result.status}
        if result.error:
            payload["error"] = result.error
        event = "CRON_SKIPPED" if result.status == "skipped" else "CRON_EXECUTED"
        self._bus.publish(event, row.workspace_id, payload)
        self._bus.publish("ACTIVITY_LOGGED", row.workspace_id, logged_payload(logged))

    def _now(self) -> int:
        return timestamps.from_seconds(self._settings.clock())


def _judge(outcome: Outcome) -> _Result:
    if outcome.kind == "answered":
        said = a2a.read_answer(web.loads(outcome.body))
        if isinstance(said, a2a.Failure):
            return _Result(status="error", error=_shown(said.message))
        return _Result(status="ok", empty=isinstance(said, a2a.Reply) and not said.text.strip() and not said.files)
    if outcome.kind == "polled":
        return _Result(status="ok")
    if outcome.kind == "queued":
        return _Result(status="queued")
    return _Result(status="error", error=_shown(outcome.error))


def _shown(error: str) -> str:
    return redact_text(error)[:_ERROR_CHARS]


def _record(connection: sqlite3.Connection, row: ScheduleRow, result: _Result, now: int) -> activity.NewActivity | None:
    """End a run in the table and log it; None when it is no longer under way."""
    recorded = schedules.record(
        connection, row, status=result.status, error=result.error, ran=result.ran, empty=result.empty, now=now
    )
    if not recorded:
        return None
    logged = activity.NewActivity(
        workspace_id=row.workspace_id,
        activity_type="cron_run",
        target_id=row.workspace_id,
        method="cron",
        summary=f"schedule {row.name or row.id}",
        request_body={
            "schedule_id": row.id,
            "name": row.name,
            "cron_expr": row.cron_expr,
            "timezone": row.timezone,
            "due_at": timestamps.render(row.claimed_due_at),
            "prompt": row.prompt,
        },
        duration_ms=result.duration_ms,
        status=result.status,
        error_detail=result.error or None,
    )
    activity.insert(connection, logged, now)
    return logged
