"""Tells clients what they asked to hear of: resources that changed, and what this process logs.

Sessions that begin with a handshake subscribe to single resources and choose a level for log messages; those of 2026-07-28 open a stream
instead (`subscriptions/listen`), which the SDK serves from `ChangesBus`, and choose the level with each request (`client_logs.py`). Changes
that follow one another are told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
import mcp_types as types
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.shared.exceptions import MCPError

from molecule_runtime.mcp.changes import WORKSPACES
from molecule_runtime.mcp.client_logs import MAX_WAITING, Entry, Forward, reaches

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.connection import Connection
    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.subscriptions import ServerEvent

    from molecule_runtime.mcp.changes import ResourceChanges

COALESCE_SECONDS: Final = 0.5
"""Between a change and the news of it, for those that follow in the meantime."""

SEND_SECONDS: Final = 5.0
"""For one client to take its news; one that does not read misses them, and reads the resource when it is back."""

MAX_SUBSCRIPTIONS: Final = 5_000
"""Of one session: four resources of each of a thousand workspaces, and some."""

_LOGGED: Final = "molecule_runtime"


@dataclass(slots=True)
class _Member:
    """One session: what it subscribed to, and what it has not been told yet."""

    connection: Connection
    uris: set[str] = field(default_factory=set[str])
    level: types.LoggingLevel | None = None
    changed: set[str] = field(default_factory=set[str])
    list_changed: bool = False
    logs: deque[Entry] = field(default_factory=lambda: deque[Entry](maxlen=MAX_WAITING))


class Sessions:
    """The sessions of one server that began with a handshake, and the news for them."""

    def __init__(self, changes: ResourceChanges) -> None:
        self._changes = changes
        self._members: dict[int, _Member] = {}
        self._news = anyio.Event()
        self._running = False
        self.bus = ChangesBus()
        """The same changes for streams of 2026-07-28."""

    async def greet(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Middleware of the SDK's server: takes in each session that says it is initialized."""
        result = await call_next(ctx)
        if ctx.method == "notifications/initialized":
            self._member(ctx)
        return result

    async def subscribe(
        self, ctx: ServerRequestContext[Any, Any], params: types.SubscribeRequestParams
    ) -> types.EmptyResult:
        """Serve `resources/subscribe`."""
        member = self._member(ctx)
        if len(member.uris) >= MAX_SUBSCRIPTIONS:
            raise MCPError(types.INVALID_PARAMS, f"uri: a session has at most {MAX_SUBSCRIPTIONS} subscriptions")
        member.uris.add(str(params.uri))
        return types.EmptyResult()

    async def unsubscribe(
        self, ctx: ServerRequestContext[Any, Any], params: types.UnsubscribeRequestParams
    ) -> types.EmptyResult:
        """Serve `resources/unsubscribe`."""
        self._member(ctx).uris.discard(str(params.uri))
        return types.EmptyResult()

    async def set_level(
        self, ctx: ServerRequestContext[Any, Any], params: types.SetLevelRequestParams
    ) -> types.EmptyResult:
        """Serve `logging/setLevel`. Nothing is sent before it; never more than this process logs itself (`LOG_LEVEL`)."""
        self._member(ctx).level = params.level
        return types.EmptyResult()

    async def run(self) -> None:
        """Tell the news until cancelled. Once only: the managers of the HTTP transport share one server, and each enters its lifespan."""
        if self._running:
            return
        self._running = True
        handler = Forward(asyncio.get_running_loop(), self._logged)
        stop = self._changes.listen(self._changed)
        logging.getLogger(_LOGGED).addHandler(handler)
        try:
            while True:
                await self._news.wait()
                await anyio.sleep(COALESCE_SECONDS)
                self._news = anyio.Event()
                self.bus.tell()
                async with anyio.create_task_group() as group:
                    for member in list(self._members.values()):
                        group.start_soon(_tell, member)
        finally:
            logging.getLogger(_LOGGED).removeHandler(handler)
            stop()
            self._running = False

    def _member(self, ctx: ServerRequestContext[Any, Any]) -> _Member:
        # The SDK hands a handler no public way to what outlives its request.
        connection = ctx.session._connection  # pyright: ignore[reportPrivateUsage]
        member = self._members.get(id(connection))
        if member is None:
            member = self._members[id(connection)] = _Member(connection)
            connection.exit_stack.callback(self._members.pop, id(connection), None)
        return member

    def _changed(self, uri: str) -> None:
        for member in self._members.values():
            if uri in member.uris:
                member.changed.add(uri)
            member.list_changed |= _changes_the_list(uri)
        self.bus.changed(uri)
        if self._members or self.bus.listened:
            self._news.set()

    def _logged(self, entry: Entry) -> None:
        told = [
            member for member in self._members.values() if member.level is not None and reaches(entry, member.level)
        ]
        for member in told:
            member.logs.append(entry)
        if told:
            self._news.set()


class ChangesBus:
    """The changes as the SDK's streams of 2026-07-28 want them; each at most once every `COALESCE_SECONDS`."""

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[[ServerEvent], None]] = {}
        self._pending: set[str] = set()

    @property
    def listened(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def changed(self, uri: str) -> None:
        """Note a change, for `tell`."""
        if self._listeners:
            self._pending.add(uri)

    def tell(self) -> None:
        """Pass what changed to every stream."""
        changed, self._pending = self._pending, set()
        events: list[ServerEvent] = [ResourceUpdated(uri) for uri in sorted(changed)]
        if any(map(_changes_the_list, changed)):
            events.append(ResourcesListChanged())
        for event in events:
            for listener in list(self._listeners.values()):
                listener(event)

    async def publish(self, event: ServerEvent) -> None:
        """Pass one event to every stream."""
        for listener in list(self._listeners.values()):
            listener(event)

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Call `listener` with each change from now on; returns what ends that."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None


def _changes_the_list(uri: str) -> bool:
    # A message is a resource too, and the list names those that wait.
    return uri == WORKSPACES or uri.endswith("/inbox")


async def _tell(member: _Member) -> None:
    connection = member.connection
    # What a client did not take in time stays for the next round.
    with anyio.move_on_after(SEND_SECONDS):
        if member.list_changed:
            await connection.notify("notifications/resources/list_changed", None)
            member.list_changed = False
        for uri in sorted(member.changed & member.uris):
            member.changed.discard(uri)
            await connection.notify("notifications/resources/updated", {"uri": uri})
        while member.logs:
            await connection.notify("notifications/message", member.logs[0])
            member.logs.popleft()
