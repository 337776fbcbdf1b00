"""Events for those outside: the WebSocket, the SSE stream and the log of what was stored (contract 17)."""

from __future__ import annotations

import binascii
import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from molecule_runtime.core.platform.wire import events as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own
from molecule_runtime.localplatform.auth import Credentials, credentials_of
from molecule_runtime.localplatform.routing import Parameter, Route
from molecule_runtime.localplatform.store import events, tokens, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Collection

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from molecule_runtime.localplatform.events import EventBus, Frame, Subscription
    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store import Store
    from molecule_runtime.localplatform.store.events import EventRow

logger = logging.getLogger(__name__)

PERSISTED = frozenset(
    {
        *(f"WORKSPACE_{name}" for name in ("PROVISIONING", "ONLINE", "OFFLINE", "DEGRADED", "AWAITING_AGENT", "PAUSED")),
        *(f"WORKSPACE_{name}" for name in ("HIBERNATED", "REMOVED", "PROVISION_FAILED")),
        "AGENT_CARD_UPDATED",
        *(f"DELEGATION_{name}" for name in ("SENT", "STATUS", "COMPLETE", "FAILED")),
        *(f"APPROVAL_{name}" for name in ("REQUESTED", "ESCALATED", "APPROVED", "DENIED")),
        *(f"REQUEST_{name}" for name in ("CREATED", "RESPONDED", "MESSAGE")),
        *(f"CRON_{name}" for name in ("EXECUTED", "SKIPPED")),
    }
)  # fmt: skip
"""Events that are stored (contract 17.5, kind P)."""

OPERATOR_ONLY = frozenset({"A2A_SENT", "A2A_ANSWERED"})
"""Frames of this platform with the text of messages: for the operator, not for every workspace that may talk to the target."""

PING_SECONDS = 15.0
RECHECK_SECONDS = 20.0
"""How often an open WebSocket's token is looked at again."""

_PERMISSION_SECONDS = 5.0
_LOG_CAPACITY = 8192
_MAX_BATCH = 500
_AUTH_PROTOCOL = "molecule-auth."
_PROTOCOL = "molecule-ws"
_POLICY_VIOLATION = 1008
_GOING_AWAY = 1001
_TRY_AGAIN = 1013


class EventLog:
    """Writes the persisted events to the store, in batches, behind whatever published them."""

    def __init__(self, store: Store, bus: EventBus) -> None:
        self._store = store
        self._frames = bus.listen(_LOG_CAPACITY, PERSISTED)

    async def run(self) -> None:
        """Store events until the bus closes."""
        while await self._frames.wait():
            await self.flush()

    async def flush(self) -> None:
        """Store what has been published so far."""
        while frames := self._frames.take(_MAX_BATCH):
            try:
                await self._store.write(events.insert, frames)
            except Exception:  # the log is a record for people; what it records must not stop with it
                logger.exception("%d events could not be stored", len(frames))


async def list_events(platform: Platform, request: Request) -> Response:
    """`GET /events` (admin): newest first."""
    require_admin(platform, request)
    return await _list(platform, request, None)


async def list_events_of(platform: Platform, request: Request) -> Response:
    """`GET /events/:workspaceId` (admin)."""
    require_admin(platform, request)
    return await _list(platform, request, web.workspace_id_of(request))


async def stream_events(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/events/stream`: server-sent events of one workspace."""
    row = await require_own(platform, request)

    async def lines() -> AsyncGenerator[bytes]:
        async with platform.bus.subscribe() as frames:
            yield b": ping\n\n"
            while True:
                alive = True
                with anyio.move_on_after(PING_SECONDS) as scope:
                    alive = await frames.wait()
                if scope.cancelled_caught:
                    yield b": ping\n\n"
                if not alive:
                    return
                for frame in frames.take(_MAX_BATCH):
                    if frame.workspace_id == row.id and frame.event not in OPERATOR_ONLY:
                        yield b"data: " + web.dump(_sse_body(frame)) + b"\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


async def serve_socket(platform: Platform, websocket: WebSocket) -> None:
    """`GET /ws`: every event for the operator; for a workspace those about whom it may talk to."""
    offered = [text.strip() for text in websocket.headers.get("sec-websocket-protocol", "").split(",") if text.strip()]
    credentials = _credentials(websocket, offered)
    claimed = websocket.headers.get("x-workspace-id", "").strip()
    try:
        viewer = await platform.store.read(_admit, platform, credentials, claimed)
    except Refusal as refusal:
        await websocket.send_denial_response(web.answer(refusal.body, refusal.status, refusal.headers))
        return
    await websocket.accept(subprotocol=_PROTOCOL if _PROTOCOL in offered else None)
    audience = _Audience(platform, viewer)
    try:
        async with platform.bus.subscribe() as frames, anyio.create_task_group() as group:

            async def until_it_leaves() -> None:
                while True:
                    message = await websocket.receive()
                    if message["type"] == "websocket.disconnect":
                        group.cancel_scope.cancel()
                        return

            async def until_it_may_not() -> None:
                while True:
                    await anyio.sleep(RECHECK_SECONDS)
                    try:
                        await platform.store.read(_admit, platform, credentials, claimed)
                    except Refusal as refusal:
                        await websocket.close(_POLICY_VIOLATION, str(refusal))
                        group.cancel_scope.cancel()
                        return

            group.start_soon(until_it_leaves)
            group.start_soon(until_it_may_not)
            await _send_frames(websocket, frames, audience)
            group.cancel_scope.cancel()
    except* (WebSocketDisconnect, OSError) as gone:
        logger.debug("a WebSocket broke: %s", gone.exceptions[0])


async def _send_frames(websocket: WebSocket, frames: Subscription, audience: _Audience) -> None:
    while await frames.wait():
        batch = frames.take(_MAX_BATCH)
        if frames.dropped:
            await websocket.close(_TRY_AGAIN, "too slow: events were lost; connect again and read the lists")
            return
        await audience.learn({frame.workspace_id for frame in batch})
        for frame in batch:
            if audience.may_see(frame):
                await websocket.send_text(web.dump(frame.body()).decode())
    await websocket.close(_GOING_AWAY, "the platform stops")


class _Audience:
    """Decides which frames a viewer sees; whom it may talk to is asked anew every few seconds."""

    def __init__(self, platform: Platform, viewer: str | None) -> None:
        self._platform = platform
        self._viewer = viewer
        self._known: dict[str, bool] = {}
        self._asked_at = anyio.current_time()

    async def learn(self, workspace_ids: Collection[str]) -> None:
        """Find out about these workspaces, all in one read: one for each frame could not keep up with a thousand heartbeats."""
        if self._viewer is None:
            return
        if anyio.current_time() - self._asked_at > _PERMISSION_SECONDS:
            self._known.clear()
            self._asked_at = anyio.current_time()
        if unknown := [workspace_id for workspace_id in workspace_ids if workspace_id not in self._known]:
            self._known |= await self._platform.store.read(_may_communicate, self._viewer, unknown)

    def may_see(self, frame: Frame) -> bool:
        """Whether the viewer sees a frame about a workspace that was learned about."""
        if self._viewer is None:
            return True
        return frame.event not in OPERATOR_ONLY and self._known.get(frame.workspace_id, False)


def _may_communicate(connection: sqlite3.Connection, viewer: str, others: Collection[str]) -> dict[str, bool]:
    return {other: workspaces.may_communicate(connection, viewer, other) for other in others}


def _credentials(websocket: WebSocket, offered: list[str]) -> Credentials:
    credentials = credentials_of(websocket)
    if credentials.digest is not None:
        return credentials
    # A browser cannot set headers here, so its token comes as a subprotocol, in hex (24.11).
    for protocol in offered:
        if protocol.startswith(_AUTH_PROTOCOL):
            try:
                return Credentials(tokens.digest(binascii.unhexlify(protocol.removeprefix(_AUTH_PROTOCOL))))
            except (binascii.Error, ValueError):
                break
    return credentials


def _admit(connection: sqlite3.Connection, platform: Platform, credentials: Credentials, claimed: str) -> str | None:
    """Return as whom the viewer looks; None is the operator."""
    caller = platform.auth.holder(connection, credentials)
    if not claimed:
        return caller.workspace_id
    if caller.workspace_id not in {None, claimed}:
        raise Refusal(401, "invalid caller auth token")
    return web.require_workspace_id(claimed)


async def _list(platform: Platform, request: Request, workspace_id: str | None) -> Response:
    limit = web.limit_of(request, default=events.MAX_LISTED, ceiling=events.MAX_LISTED)
    rows = await platform.store.read(events.newest, workspace_id, limit)
    return web.answer([_body(row) for row in rows])


def _body(row: EventRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "event_type": row.event_type,
        "workspace_id": row.workspace_id,
        "payload": json.loads(row.payload_json),
        "created_at": timestamps.render(row.created_at),
    }


def _sse_body(frame: Frame) -> dict[str, Any]:
    milliseconds = timestamps.parse(frame.timestamp) // 1000
    return {"type": frame.event, "timestamp": milliseconds, "data": dict(frame.payload)}


_LIMIT = Parameter(name="limit", meaning="1 to 100; 100")

ROUTES = (
    Route(
        method="GET", path="/events", handler=list_events, section="17.4", access="admin", summary="What happened, newest first.",
        answers={200: list[wire.Event]}, parameters=(_LIMIT,),
        test="test_events.py::test_persisted_events_are_listed_for_the_admin",
    ),
    Route(
        method="GET", path="/events/{id}", handler=list_events_of, section="17.4", access="admin",
        summary="What happened to one workspace.", answers={200: list[wire.Event]}, parameters=(_LIMIT,),
        test="test_events.py::test_persisted_events_are_listed_for_the_admin",
    ),
    Route(
        method="GET", path="/workspaces/{id}/events/stream", handler=stream_events, section="17.3", access="workspace",
        summary="Events of one workspace as they happen (SSE).", answers={200: "text/event-stream"},
        test="test_events.py::test_the_sse_stream_begins_with_a_ping_and_carries_the_workspaces_events",
    ),
)  # fmt: skip

SOCKETS = (("/ws", serve_socket),)
"""Path and handler of every WebSocket."""
