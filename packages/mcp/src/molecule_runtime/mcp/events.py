"""The platform's events as hints: a WebSocket or a few for each platform, whose frames say whose inbox is worth a look.

`GET /ws` shows a workspace the events about every workspace that it may talk to (contract `platform-api.md` 17.2, 2.1), so one socket
serves its whole family, and a thousand targets need no thousand connections. Which targets a socket covers is not asked but seen: a
target counts as covered for as long as events about it arrive, and each of its own heartbeats is one. What is not covered, or is no
longer, is polled by the clock. A frame is only ever a reason to poll with the workspace's own credentials: nothing in it is used.
"""

from __future__ import annotations

import json
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidProxy, InvalidStatus

from molecule_runtime.core.errors import PlatformError
from molecule_runtime.core.identity import origin_of
from molecule_runtime.core.platform.pools import proxy_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.mcp.pacing import Pace

logger = logging.getLogger(__name__)

MAX_SOCKETS: Final = 32
"""For each platform. One serves a whole team; it takes many only where workspaces may not talk to each other, of which each needs its own.
More of them would cost the platform more than the polls that they save."""

SETTLE_SECONDS: Final = 25.0
"""After a socket was opened, before another is: by then every target has beaten once, and shows whether this one covers it."""

NOT_OFFERED_SECONDS: Final = 900.0
"""Before a platform that answered `GET /ws` with a refusal is asked again."""

MAX_BACKOFF: Final = 60.0
"""Seconds between attempts to connect to a platform that breaks connections."""

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024
"""Above an answer of an agent (10 MiB) in JSON."""

_OPEN_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 5.0
_INBOX: Final = "a2a_receive"


_silent = logging.Logger("websockets", logging.CRITICAL + 1)  # noqa: LOG001 - see below
"""Outside of the tree of loggers: at DEBUG the library writes every header, and the token is one."""


class _Connect(connect):
    """Follows no redirect: the token and the organisation stay with their own platform."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Take a redirect for what it is to us: a refusal."""
        return exc


class _Member:
    """One target of a platform."""

    def __init__(self, client: PlatformClient, pace: Pace) -> None:
        self.client = client
        self.pace = pace
        self.online_since: float | None = None
        self.not_before = 0.0
        self.listens = False
        self.left = anyio.Event()
        self.proved_by: _Socket | None = None

    def is_due(self, now: float, *, online_before: float) -> bool:
        """Whether it has been online long enough to show that its events arrive, and did not."""
        return (
            self.online_since is not None
            and self.online_since <= online_before
            and not self.listens
            and not self.pace.is_hinted
            and now >= self.not_before
        )


class _Socket:
    """One open connection, which covers those about whom its frames are."""


class PlatformEvents:
    """The sockets to one platform."""

    def __init__(self, origin: str, pools: ConnectionPools) -> None:
        self._origin = origin
        self._pools = pools
        self._members: dict[str, _Member] = {}
        self._changed = anyio.Event()
        self._sockets = 0
        self._opened_at = 0.0
        self._failures = 0
        self._not_before = 0.0

    @property
    def sockets(self) -> int:
        """How many are open."""
        return self._sockets

    @property
    def is_empty(self) -> bool:
        """Whether no target is left."""
        return not self._members

    def enter(self, client: PlatformClient, pace: Pace) -> None:
        """Look after one target more; it needs to be online before it can listen."""
        self._members[client.workspace_id] = _Member(client, pace)

    def leave(self, client: PlatformClient) -> None:
        """Look after a target no more; a socket of its own ends."""
        member = self._members.get(client.workspace_id)
        if member is not None and member.client is client:
            del self._members[client.workspace_id]
            member.left.set()

    def online(self, client: PlatformClient, is_online: bool) -> None:
        """Note that the platform takes the target's credentials, or does not. An open socket stays: it ends by itself."""
        member = self._members.get(client.workspace_id)
        if member is not None and member.client is client and is_online != (member.online_since is not None):
            member.online_since = time.monotonic() if is_online else None
            self._changed.set()

    async def run(self) -> None:
        """Keep sockets open for as long as targets are not covered, until cancelled."""
        async with anyio.create_task_group() as group:
            while True:
                self._changed = anyio.Event()
                now = time.monotonic()
                for listener in self._next_listeners(now):
                    self._opened_at = now
                    listener.listens = True
                    group.start_soon(self._listen, listener)
                with anyio.move_on_after(_LOOK_SECONDS):
                    await self._changed.wait()

    def _next_listeners(self, now: float) -> list[_Member]:
        if now < self._not_before or (self._sockets and now - self._opened_at < SETTLE_SECONDS):
            return []
        listening = sum(member.listens for member in self._members.values())
        if listening >= MAX_SOCKETS or listening > self._sockets:
            return []
        # Whoever just came online has had no time yet to show that it is covered.
        online_before = now - SETTLE_SECONDS if self._sockets else now
        found = [member for member in self._members.values() if member.is_due(now, online_before=online_before)]
        # As many again as there are: that the present ones do not cover everybody suggests that few may talk to each other.
        return random.sample(found, min(len(found), max(1, self._sockets), MAX_SOCKETS - listening))

    async def _listen(self, member: _Member) -> None:
        began = time.monotonic()
        try:
            await self._connection(member)
        except InvalidStatus as exc:
            self._refused(member, exc.response.status_code)
        except (PlatformError, InvalidHandshake, InvalidMessage, InvalidProxy, OSError, TimeoutError) as exc:
            logger.debug(
                "no events of %s through workspace %s: %s", self._origin, member.client.workspace_id, type(exc).__name__
            )
            if isinstance(exc, PlatformError):
                # Its own token cannot be read or sent; the others need not wait for it.
                member.not_before = time.monotonic() + MAX_BACKOFF
        finally:
            member.listens = False
            self._failures = 0 if time.monotonic() - began > MAX_BACKOFF else self._failures + 1
            pause = min(2.0 ** min(self._failures, 10), MAX_BACKOFF) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
            self._not_before = max(self._not_before, time.monotonic() + pause)

    async def _connection(self, member: _Member) -> None:
        address, headers = await member.client.events_address()
        websocket = await _Connect(
            address,
            additional_headers=headers,
            ssl=self._pools.verification(member.client.target.platform_url),
            proxy=proxy_for(self._origin),
            compression=None,
            open_timeout=_OPEN_SECONDS,
            close_timeout=1.0,
            max_size=MAX_FRAME_BYTES,
            user_agent_header=None,
            logger=_silent,
        )
        socket = _Socket()
        self._sockets += 1
        self._opened_at = time.monotonic()
        logger.info("events of %s arrive through workspace %s", self._origin, member.client.workspace_id)
        try:
            async with anyio.create_task_group() as group:

                async def until_it_leaves() -> None:
                    await member.left.wait()
                    group.cancel_scope.cancel()

                group.start_soon(until_it_leaves)
                await self._read(websocket.recv, socket)
                group.cancel_scope.cancel()
        finally:
            self._sockets -= 1
            for other in self._members.values():
                if other.proved_by is socket:
                    other.proved_by = None
                    other.pace.doubt()
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await websocket.close()

    async def _read(self, receive: Callable[[], Awaitable[str | bytes]], socket: _Socket) -> None:
        while True:
            try:
                text = await receive()
            except ConnectionClosed as exc:
                logger.info("the events of %s ended: %s", self._origin, exc)
                return
            event, workspace_id, kind = _read_frame(text)
            member = self._members.get(workspace_id)
            if member is None:
                continue
            member.proved_by = socket
            member.pace.prove()
            if event == "ACTIVITY_LOGGED" and kind in {_INBOX, ""}:
                member.pace.hint()

    def _refused(self, member: _Member, status: int) -> None:
        now = time.monotonic()
        wait = NOT_OFFERED_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
        if status == 401:
            # Its heartbeat says what to do about it.
            member.not_before = now + wait
        elif status == 429 or status >= 500:
            self._not_before = now + MAX_BACKOFF
        else:
            self._not_before = now + wait
        logger.info(
            "%s answered GET /ws with %d for workspace %s; polling does without events",
            self._origin,
            status,
            member.client.workspace_id,
        )


class Events:
    """The events of every platform of a process."""

    def __init__(self, pools: ConnectionPools) -> None:
        self._pools = pools
        self._platforms: dict[str, tuple[PlatformEvents, anyio.CancelScope]] = {}
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            task_status.started()
            await anyio.sleep_forever()

    def enter(self, client: PlatformClient, pace: Pace) -> None:
        """Look after one target more."""
        origin = origin_of(client.target.platform_url)
        if origin not in self._platforms:
            platform = PlatformEvents(origin, self._pools)
            self._platforms[origin] = (platform, anyio.CancelScope())
            assert self._group is not None  # noqa: S101 - run() was started before
            self._group.start_soon(self._run, *self._platforms[origin])
        self._platforms[origin][0].enter(client, pace)

    def leave(self, client: PlatformClient) -> None:
        """Look after a target no more; with the last one of a platform its sockets end."""
        origin = origin_of(client.target.platform_url)
        if origin in self._platforms:
            platform, scope = self._platforms[origin]
            platform.leave(client)
            if platform.is_empty:
                del self._platforms[origin]
                scope.cancel()

    def online(self, client: PlatformClient, is_online: bool) -> None:
        """Note that the platform takes the target's credentials, or does not."""
        origin = origin_of(client.target.platform_url)
        if origin in self._platforms:
            self._platforms[origin][0].online(client, is_online)

    def sockets(self) -> dict[str, int]:
        """Return how many sockets are open to each platform."""
        return {origin: platform.sockets for origin, (platform, _) in self._platforms.items()}

    async def _run(self, platform: PlatformEvents, scope: anyio.CancelScope) -> None:
        with scope:
            await platform.run()


def _read_frame(text: str | bytes) -> tuple[str, str, str]:
    """Return the event, the workspace and, of a logged activity, its type; `""` for what is not there."""
    try:
        data: object = json.loads(text)
    except (ValueError, RecursionError):
        return "", "", ""
    if not isinstance(data, dict):
        return "", "", ""
    frame = cast("dict[str, Any]", data)
    payload = frame.get("payload")
    kind = cast("dict[str, Any]", payload).get("activity_type") if isinstance(payload, dict) else None
    return str(frame.get("event") or ""), str(frame.get("workspace_id") or ""), str(kind or "")
