"""Sends push notifications: each target's in order, each tried for a while, and none of them in the way of a turn."""

from __future__ import annotations

import logging
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import anyio.to_thread
import httpx
from a2a.compat.v0_3 import conversions
from a2a.types import Task, TaskStatusUpdateEvent

from molecule_runtime.a2a.answering import V1_0, to_json
from molecule_runtime.a2a.errors import PushTargetError
from molecule_runtime.a2a.methods import as_event
from molecule_runtime.a2a.tasks import FINAL_STATES
from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from a2a.server.events.event_queue import Event
    from a2a.types import TaskPushNotificationConfig
    from anyio.abc import TaskGroup

    from molecule_runtime.a2a.push_targets import PushTargets

logger = logging.getLogger(__name__)

TOKEN_HEADER = "X-A2A-Notification-Token"  # noqa: S105 - its name
"""A2A 0.3.0, 6.8 (its example), and what the SDKs of both versions send."""

MAX_WAITING = 64
"""Notifications that wait for one target; who falls further behind is told the whole task instead of each change."""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Of all that waits."""

MAX_BODY = 4 * 1024 * 1024
"""Bytes; a task that is larger is told by its status alone, and can be asked for."""

MAX_AT_ONCE = 16
ATTEMPTS = 6
ATTEMPT_SECONDS = 15.0
"""A2A 1.0, 4.3.3 asks for 10 to 30."""

MAX_PAUSE = 30.0
_FIRST_PAUSE = 1.0

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class TargetKey(NamedTuple):
    """Which configuration a target is of."""

    owner: str
    task_id: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Whom to tell.

    Attributes:
        key: of its configuration.
        version: of A2A, in whose form it is told.
        config: where it is and what it is to be shown.
    """

    key: TargetKey
    version: str
    config: TaskPushNotificationConfig = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Notification:
    """One thing to tell.

    Attributes:
        task: what it is about; a task that runs still changes.
        event: what happened; None for whatever the task is when it is told.
    """

    target: Target
    task: Task
    event: Event | None
    size: int

    @property
    def final(self) -> bool:
        """Whether nothing follows it."""
        if isinstance(self.event, (Task, TaskStatusUpdateEvent)):
            return self.event.status.state in FINAL_STATES
        return self.event is None and self.task.status.state in FINAL_STATES


@dataclass(slots=True)
class _Line:
    """What waits for one target."""

    waiting: deque[_Notification] = field(default_factory=deque[_Notification])


class Deliveries:
    """The notifications that are on their way.

    Args:
        targets: where they may go.
        on_told: called with the key of a target once the end of its task was told, or could not be.
    """

    def __init__(self, targets: PushTargets, on_told: Callable[[TargetKey], None]) -> None:
        self._targets = targets
        self._on_told = on_told
        self._lines: dict[TargetKey, _Line] = {}
        self._bytes = 0
        self._group: TaskGroup | None = None
        self._at_once = anyio.CapacityLimiter(MAX_AT_ONCE)
        self._idle = anyio.Event()
        self._idle.set()
        self._plain = _transport(verify=False)
        self._secure: httpx.AsyncHTTPTransport | None = None

    async def run(self) -> None:
        """Send what is handed over, until cancelled."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                for key in list(self._lines):
                    group.start_soon(self._send_line, key)
                await anyio.sleep_forever()
        finally:
            self._group = None
            with anyio.CancelScope(shield=True):
                await self._plain.aclose()
                if self._secure is not None:
                    await self._secure.aclose()

    def add(self, target: Target, task: Task, event: Event) -> None:
        """Have a target told of a change; returns at once."""
        if target.version != V1_0:
            # It is told the task, and only when its status changes (A2A 0.3.0, 9.5): pieces come with the next status.
            if not isinstance(event, (Task, TaskStatusUpdateEvent)):
                return
            whole = Task()
            whole.CopyFrom(task)
            event = whole
        line = self._lines.get(target.key)
        if line is None:
            line = self._lines[target.key] = _Line()
            if self._idle.is_set():
                self._idle = anyio.Event()
            if self._group is not None:
                self._group.start_soon(self._send_line, target.key)
        size = event.ByteSize()
        if len(line.waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            self._clear(line)
            line.waiting.append(_Notification(target, task, None, 0))
            return
        line.waiting.append(_Notification(target, task, event, size))
        self._bytes += size

    def drop(self, key: TargetKey) -> None:
        """Tell a target no more, also of what waits."""
        line = self._lines.get(key)
        if line is not None:
            self._clear(line)

    async def finish(self) -> None:
        """Wait until nothing is on its way; the caller bounds the wait."""
        while self._lines and self._group is not None:
            await self._idle.wait()

    def _clear(self, line: _Line) -> None:
        self._bytes -= sum(one.size for one in line.waiting)
        line.waiting.clear()

    async def _send_line(self, key: TargetKey) -> None:
        line = self._lines[key]
        try:
            while line.waiting:
                notification = line.waiting.popleft()
                self._bytes -= notification.size
                try:
                    told = await self._deliver(notification)
                except Exception:  # one target must not end the others' deliveries
                    logger.exception("a push notification of task %s failed", key.task_id)
                    told = False
                if notification.final:
                    self._on_told(key)
                elif not told and line.waiting:
                    # It has heard nothing for a while: the whole task is worth more to it than each step.
                    last = line.waiting[-1]
                    self._clear(line)
                    line.waiting.append(_Notification(last.target, last.task, None, 0))
        finally:
            self._clear(line)
            del self._lines[key]
            if not self._lines:
                self._idle.set()

    async def _deliver(self, notification: _Notification) -> bool:
        target, where = notification.target, origin_of(notification.target.config.url)
        body = _body(notification)
        if body is None:
            logger.warning("task %s is too large to tell %s of", target.key.task_id, where)
            return False
        for attempt in range(ATTEMPTS):
            if attempt:
                await anyio.sleep(pause_before(attempt))
            try:
                async with self._at_once:
                    with anyio.fail_after(ATTEMPT_SECONDS):
                        status = await self._post(target, body, attempt)
            except PushTargetError as exc:
                logger.warning("task %s: %s is told nothing: its URL %s", target.key.task_id, where, exc)
                return False
            except (httpx.HTTPError, OSError, TimeoutError) as exc:
                logger.info("task %s: %s could not be told: %s", target.key.task_id, where, type(exc).__name__)
                continue
            if 200 <= status < 300:
                return True
            if status not in _TRY_AGAIN:
                logger.warning("task %s: %s refused a push notification: HTTP %d", target.key.task_id, where, status)
                return False
            logger.info("task %s: %s answered HTTP %d to a push notification", target.key.task_id, where, status)
        logger.warning("task %s: %s was not told; gave up after %d attempts", target.key.task_id, where, ATTEMPTS)
        return False

    async def _post(self, target: Target, body: bytes, attempt: int) -> int:
        """Post to the address that was looked at, whatever a resolver says next; no redirect is followed and no cookie kept."""
        config = target.config
        url, addresses = await self._targets.addresses(config.url)
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/a2a+json" if target.version == V1_0 else "application/json",
            "User-Agent": "molecule-runtime",
            "Accept": "*/*",
        }
        if config.token:
            headers[TOKEN_HEADER] = config.token
        if config.HasField("authentication") and config.authentication.credentials:
            headers["Authorization"] = f"{config.authentication.scheme} {config.authentication.credentials}"
        seconds = httpx.Timeout(ATTEMPT_SECONDS).as_dict()
        request = httpx.Request(
            "POST",
            url.copy_with(host=addresses[attempt % len(addresses)], fragment=None),
            headers=headers,
            content=body,
            extensions={"sni_hostname": url.host, "timeout": seconds},
        )
        transport = self._plain if url.scheme == "http" else await self._encrypted()
        response = await transport.handle_async_request(request)
        # What it says is of no use, and may be long.
        await response.aclose()
        return response.status_code

    async def _encrypted(self) -> httpx.AsyncHTTPTransport:
        if self._secure is None:
            # Reading the certificate store takes tens of milliseconds.
            context = await anyio.to_thread.run_sync(httpx.create_ssl_context)
            self._secure = self._secure or _transport(verify=context)
        return self._secure


def pause_before(attempt: int) -> float:
    """Return the seconds before the next attempt: twice as many each time, and not the same for all who wait."""
    return min(MAX_PAUSE, _FIRST_PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


_ONE_EACH: Final = httpx.Limits(max_connections=MAX_AT_ONCE, max_keepalive_connections=0)
"""A connection is to an address, and its certificate was checked for one name: no other target may get it."""


def _transport(*, verify: ssl.SSLContext | bool) -> httpx.AsyncHTTPTransport:
    # No proxy of the environment: it would choose the address itself.
    return httpx.AsyncHTTPTransport(verify=verify, limits=_ONE_EACH, trust_env=False)


def _body(notification: _Notification) -> bytes | None:
    event = notification.event if notification.event is not None else notification.task
    body = to_json(_payload(event, notification.target.version))
    if len(body) <= MAX_BODY:
        return body
    task = notification.task
    if notification.target.version == V1_0:
        small: Event = TaskStatusUpdateEvent(task_id=task.id, context_id=task.context_id, status=task.status)
    else:
        small = Task(id=task.id, context_id=task.context_id, status=task.status)
    body = to_json(_payload(small, notification.target.version))
    return body if len(body) <= MAX_BODY else None


def _payload(event: Event, version: str) -> dict[str, Any]:
    """Write a StreamResponse (A2A 1.0, 4.3.3) or a Task (A2A 0.3.0, 9.5)."""
    if version == V1_0:
        return as_event(event)
    assert isinstance(event, Task)  # noqa: S101 - `add` made it one
    return conversions.to_compat_task(event).model_dump(mode="json", by_alias=True, exclude_none=True)
