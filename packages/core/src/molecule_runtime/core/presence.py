"""Keeps one workspace registered and alive: the one owner of registration and heartbeats of a target.

The workspace host runs it on a thread of its own, so that a blocked event loop costs no beat; `molecule-mcp` runs one per target
in its task group. Everything else only updates `Vitals` and may ask for an early beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core import wedge
from molecule_runtime.core.errors import (
    AccessDeniedError,
    CredentialRejectedError,
    GoneError,
    NotFoundError,
    PlatformError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)
from molecule_runtime.core.platform import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

EXTERNAL_INTERVAL = 20.0
"""Seconds between the beats of `molecule-mcp`; the platform marks a workspace stale after 60 to 90 s (contract `runtime.md` 3.4)."""

HOST_INTERVAL = 30.0
"""Seconds between the beats of a workspace host (contract `runtime.md` 8)."""

REGISTER_BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each further attempt to register; the last repeats (contract `runtime.md` 11)."""

REREGISTER_AFTER_SILENCE = 120.0
"""Seconds without a successful beat after which the workspace registers anew (contract `platform-api.md` 23.7)."""

LOUD_AFTER = 3
"""Refused beats in a row before the log says what to do (contract `runtime.md` 3.4)."""

LOUD_AGAIN_EVERY = 20
"""Further refused beats between repetitions of that line (contract `runtime.md` 3.4)."""

REMOVAL_CHECK_INTERVAL = 300.0
"""Seconds between looks at the workspace's own row: a platform may answer a removed workspace's beats with 200
(contract `platform-api.md` 23.4)."""

EARLY_GAP = 0.5
"""Seconds between two early beats at least: what changes in between is in the second. A person who watches sees no difference."""

MAX_RETRY_AFTER = 60.0
"""Seconds; a longer wait that the platform asks for would mark the workspace stale."""

_JITTER = 0.1
_MAX_SUMMARY = 256
_MAX_SAMPLE_ERROR = 256


class Phase(StrEnum):
    """Where a target is."""

    STARTING = "starting"
    ONLINE = "online"
    RETRYING = "retrying"
    CREDENTIAL_LOST = "credential_lost"
    REFUSED = "refused"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetState:
    """Where a target is, why, and since when.

    Attributes:
        since: Unix seconds at which this phase began.
        last_beat: Unix seconds of the last registration or heartbeat that the platform took; None before the first.
        failures: attempts in a row that the platform did not take.
    """

    phase: Phase
    detail: str = ""
    since: float = field(default_factory=time.time)
    last_beat: float | None = None
    failures: int = 0


@dataclass(slots=True)
class Vitals:
    """What a heartbeat reports. Safe to update from any thread."""

    started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _tasks: dict[int, str] = field(default_factory=dict[int, str])
    _next: int = 0
    _turns: int = 0
    _failures: int = 0
    _sample_error: str = ""
    _wedged: str = ""
    _notice: str = ""

    def task_started(self, description: str) -> int:
        """Count a task in; returns the handle for `task_finished`."""
        with self._lock:
            self._next += 1
            self._tasks[self._next] = description[:_MAX_SUMMARY]
            return self._next

    def task_described(self, handle: int, description: str) -> None:
        """Call a task that runs something else; one that has finished is left alone."""
        with self._lock:
            if handle in self._tasks:
                self._tasks[handle] = description[:_MAX_SUMMARY]

    def task_finished(self, handle: int, *, error: str = "") -> None:
        """Count a task out; finishing a handle twice changes nothing."""
        with self._lock:
            if self._tasks.pop(handle, None) is None:
                return
            self._turns += 1
            if error:
                self._failures += 1
                self._sample_error = error[:_MAX_SAMPLE_ERROR]

    def wedge(self, reason: str) -> None:
        """Mark this process as unable to recover by itself; the first reason stays (contract `runtime.md` 12.1)."""
        with self._lock:
            self._wedged = self._wedged or reason[:_MAX_SAMPLE_ERROR]

    def unwedge(self) -> None:
        """Take the mark back."""
        with self._lock:
            self._wedged = ""

    def notice(self, text: str) -> None:
        """Have people see what needs their hand although the agent works; `""` takes it back."""
        with self._lock:
            self._notice = text[:_MAX_SAMPLE_ERROR]

    @property
    def active_tasks(self) -> int:
        """How many tasks run now."""
        with self._lock:
            return len(self._tasks)

    def heartbeat(self, workspace_id: str) -> wire.HeartbeatRequest:
        """Return the beat for this moment; every field that describes the workspace is in every beat."""
        with self._lock:
            current = next(reversed(self._tasks.values()), "")
            wedged = self._wedged or wedge.wedge_reason()
            request = wire.HeartbeatRequest(
                workspace_id=workspace_id,
                error_rate=round(self._failures / self._turns, 4) if self._turns else 0.0,
                sample_error=wedged or "; ".join(filter(None, (self._notice, self._sample_error)))[:_MAX_SAMPLE_ERROR],
                active_tasks=len(self._tasks),
                is_busy=bool(self._tasks),
                uptime_seconds=int(time.monotonic() - self.started),
                current_task=current,
                runtime_state="wedged" if wedged else "",
            )
            # A rolling figure: without this, one early failure would mark a long-lived workspace for ever.
            if self._turns > 50:
                self._turns, self._failures = self._turns // 2, self._failures // 2
            return request


def _ignore_state(state: TargetState) -> None:
    """Nobody asked to be told."""


def _ignore_response(response: wire.RegisterResponse) -> None:
    """Nobody asked to be told."""


def _ignore_secret(secret: str) -> None:
    """Nobody asked to be told."""


def _no_metadata() -> wire.RuntimeMetadata | None:
    return None


def _at_once() -> AbstractAsyncContextManager[object]:
    return contextlib.nullcontext()


@dataclass(slots=True, kw_only=True)
class Presence:
    """Registers a workspace, then beats until cancelled or removed.

    Attributes:
        client: bound to the target.
        vitals: what the beats report.
        registration: builds the register body, each time anew.
        interval: seconds between beats, with 10 % jitter.
        first_beat: seconds from the registration to the first beat; None for `interval`.
        turn: what an attempt to register waits for, so that many at one platform do not come all at once.
        metadata: capability flags and idle timeout for each beat.
        on_state: told of every change of phase.
        on_registered: gets the register answer first of all, to save `auth_token` and the inbound secret.
        on_inbound_secret: gets the secret that a beat's answer carries.
    """

    client: PlatformClient
    vitals: Vitals
    registration: Callable[[], wire.RegisterRequest]
    interval: float = EXTERNAL_INTERVAL
    first_beat: float | None = None
    turn: Callable[[], AbstractAsyncContextManager[object]] = _at_once
    metadata: Callable[[], wire.RuntimeMetadata | None] = _no_metadata
    on_state: Callable[[TargetState], None] = _ignore_state
    on_registered: Callable[[wire.RegisterResponse], None] = _ignore_response
    on_inbound_secret: Callable[[str], None] = _ignore_secret
    state: TargetState = field(default_factory=lambda: TargetState(phase=Phase.STARTING))
    _refusals: int = 0
    _early: asyncio.Event | None = None
    _asked: bool = False
    _loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Register and beat until cancelled; returns only when the workspace was removed from the platform."""
        self._loop = asyncio.get_running_loop()
        self._early = asyncio.Event()
        while True:
            if not await self._register():
                return
            if not await self._beat_until_lost():
                return

    def beat_soon(self) -> None:
        """Ask for a beat now, from any thread; several requests make one beat."""
        loop, early = self._loop, self._early
        # Whoever asks while a beat is on order need not wake the loop again: a busy workspace asks hundreds of times a second.
        if loop is not None and early is not None and not self._asked:
            self._asked = True
            # A loop that has closed, or closes just now, needs no beat.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(early.set)

    async def _register(self) -> bool:
        attempt = 0
        while True:
            try:
                async with self.turn():
                    response = await self.client.register(self.registration())
            except PlatformError as exc:
                if await self._is_removed(exc):
                    return False
                self._report_failure(exc, attempt + 1, doing="register")
                pause = self._pause_after(exc, attempt, at_most=REGISTER_BACKOFF[-1])
                attempt += 1
                await self._pause(pause, early=False)
            else:
                self.on_registered(response)
                if response.platform_inbound_secret:
                    self.on_inbound_secret(response.platform_inbound_secret)
                self._succeeded()
                return True

    async def _beat_until_lost(self) -> bool:
        """Beat; True when it is time to register anew, False when the workspace is gone."""
        last_success = last_look = time.monotonic()
        failures = 0
        credential_lost = False
        pause = self.interval if self.first_beat is None else self.first_beat
        while True:
            await self._pause(pause, early=not failures)
            try:
                response = await self.client.heartbeat(self._beat())
            except PlatformError as exc:
                if await self._is_removed(exc):
                    return False
                self._report_failure(exc, failures + 1, doing="heartbeat")
                pause = self._pause_after(exc, failures, at_most=self.interval)
                failures += 1
                credential_lost = credential_lost or isinstance(exc, CredentialRejectedError)
            else:
                now = time.monotonic()
                # After either, the platform has forgotten part of what register told it (contract `platform-api.md` 23.7).
                if credential_lost or (failures and now - last_success > REREGISTER_AFTER_SILENCE):
                    return True
                failures, last_success, pause = 0, now, self.interval
                if response.platform_inbound_secret:
                    self.on_inbound_secret(response.platform_inbound_secret)
                self._succeeded()
                if now - last_look >= REMOVAL_CHECK_INTERVAL:
                    last_look = now
                    if await self._row_is_removed():
                        self._enter_removed()
                        return False

    def _pause_after(self, exc: PlatformError, failures: int, *, at_most: float) -> float:
        """Return the seconds before the next attempt after `failures` earlier ones and this one."""
        pause = min(at_most, REGISTER_BACKOFF[min(failures, len(REGISTER_BACKOFF) - 1)])
        if isinstance(exc, (CredentialRejectedError, AccessDeniedError, RequestRefusedError, NotFoundError)):
            # Asking faster does not help; a new token file or a mended platform does.
            pause = max(pause, self.interval)
        if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
            pause = max(pause, min(exc.retry_after, MAX_RETRY_AFTER))
        return pause

    def _beat(self) -> wire.HeartbeatRequest:
        request = self.vitals.heartbeat(self.client.workspace_id)
        updates: dict[str, Any] = {"agent_card": self.registration().agent_card}
        metadata = self.metadata()
        if metadata is not None:
            updates["runtime_metadata"] = metadata
        return request.model_copy(update=updates)

    async def _is_removed(self, exc: PlatformError) -> bool:
        """Tell a deleted workspace from a rotated token (contract `platform-api.md` 23.4)."""
        gone = isinstance(exc, GoneError) or (isinstance(exc, CredentialRejectedError) and await self._row_is_removed())
        if gone:
            self._enter_removed()
        return gone

    async def _row_is_removed(self) -> bool:
        try:
            return (await self.client.workspace()).status == "removed"
        except GoneError:
            return True
        except PlatformError:
            # A 404 proves nothing: the tenant guard answers so too (contract `platform-api.md` 1.4).
            return False

    def _enter_removed(self) -> None:
        self._enter(
            Phase.REMOVED, "the workspace was removed from the platform; connect a new one and use its id and token"
        )
        logger.error("workspace %s was removed from the platform; it is served no longer", self.client.workspace_id)

    def _report_failure(self, exc: PlatformError, count: int, *, doing: str) -> None:
        match exc:
            case CredentialRejectedError():
                phase = Phase.CREDENTIAL_LOST
            case AccessDeniedError() | RequestRefusedError() | NotFoundError():
                phase = Phase.REFUSED
            case _:
                phase = Phase.RETRYING
        self._enter(phase, str(exc), failures=count)
        # Only refusals in a row: a platform that was down before the first one says nothing about the token.
        self._refusals = self._refusals + 1 if phase is Phase.CREDENTIAL_LOST else 0
        if self._refusals >= LOUD_AFTER and (self._refusals - LOUD_AFTER) % LOUD_AGAIN_EVERY == 0:
            logger.error(
                "the platform has refused workspace %s %d times: its token was revoked or the workspace deleted. "
                "Copy a new token from the platform's Connect dialog into %s",
                self.client.workspace_id,
                self._refusals,
                self.client.target.token.description,
            )
        elif count <= LOUD_AFTER or count % LOUD_AGAIN_EVERY == 0:
            logger.warning("%s of workspace %s failed: %s", doing, self.client.workspace_id, exc)

    def _succeeded(self) -> None:
        self._refusals = 0
        self._enter(Phase.ONLINE, last_beat=time.time())

    def _enter(self, phase: Phase, detail: str = "", *, failures: int = 0, last_beat: float | None = None) -> None:
        old = self.state
        changed = phase is not old.phase
        self.state = TargetState(
            phase=phase,
            detail=detail,
            since=time.time() if changed else old.since,
            last_beat=old.last_beat if last_beat is None else last_beat,
            failures=failures,
        )
        if changed:
            logger.info("workspace %s is %s", self.client.workspace_id, phase)
        if changed or detail != old.detail:
            self.on_state(self.state)

    async def _pause(self, seconds: float, *, early: bool = True) -> None:
        """Sleep with jitter, or until somebody asks for an early beat; early ones keep `EARLY_GAP` between them.

        After a failure nobody hurries it: a busy workspace would make a storm of a platform's trouble.
        """
        assert self._early is not None  # noqa: S101 - set in run()
        begun = time.monotonic()
        with anyio.move_on_after(seconds * random.uniform(1 - _JITTER, 1 + _JITTER)):  # noqa: S311 - jitter
            if not early:
                await anyio.sleep_forever()
            await self._early.wait()
            await anyio.sleep(max(0.0, min(EARLY_GAP, seconds) - (time.monotonic() - begun)))
        self._early.clear()
        self._asked = False


def agent_card(
    name: str, *, description: str = "", version: str = "", url: str = "", skills: list[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Build the card that a register body carries; keys without a value are left out."""
    card: dict[str, Any] = {"name": name}
    optional = {"description": description, "version": version, "url": url}
    card.update({key: value for key, value in optional.items() if value})
    card["skills"] = [dict(skill) for skill in skills or []]
    return card
