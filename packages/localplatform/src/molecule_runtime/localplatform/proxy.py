"""The A2A proxy (contract 5 and 24.5): takes a message for a workspace, delivers it, and returns the agent's answer.

A turn runs on its own task, detached from the sender's connection: a sender that hangs up changes nothing for the agent. One read before
and one write after the turn are all the database work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core.platform.client import MAX_RESPONSE_BYTES
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.localplatform import timestamps, urls, web
from molecule_runtime.localplatform.auth import Caller
from molecule_runtime.localplatform.outcomes import (
    Envelope,
    Exchange,
    Outcome,
    busy,
    failed,
    outcome_of,
    read_envelope,
    stopping,
    tool_trace_of,
)
from molecule_runtime.localplatform.store import activity, queue, token_usage, workspaces
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from molecule_runtime.core.platform import wire
    from molecule_runtime.localplatform.auth import Auth, Credentials
    from molecule_runtime.localplatform.background import Background
    from molecule_runtime.localplatform.events import EventBus
    from molecule_runtime.localplatform.settings import LocalSettings
    from molecule_runtime.localplatform.store import Store
    from molecule_runtime.localplatform.store.queue import QueueRow
    from molecule_runtime.localplatform.store.workspaces import WorkspaceRow

logger = logging.getLogger(__name__)

DENIED = "access denied: workspaces cannot communicate per hierarchy rules"
SUMMARY_CHARS = 1000

_SETTLING = frozenset({"provisioning", "awaiting_agent"})


def admit(connection: sqlite3.Connection, caller: Caller, target_id: str) -> WorkspaceRow:
    """Check hierarchy, budget and target in the order of contract 5.2; the human may write to every workspace.

    Raises:
        Refusal: 403, 402, 404, or 503 when it was paused.
    """
    if caller.workspace_id is not None and not workspaces.may_communicate(connection, caller.workspace_id, target_id):
        raise Refusal(403, DENIED)
    if caller.workspace_id not in {None, target_id} and not workspaces.can_delegate(connection, caller.workspace_id):
        # Opaque on purpose (24.5): what an agent may not do is not for its model to argue about.
        raise Refusal(403, "tool call failed")
    row = workspaces.get(connection, target_id)
    if row is not None and row.budget_limit is not None and row.monthly_spend >= row.budget_limit:
        raise Refusal(402, "workspace budget limit exceeded", exceeded_periods=["monthly"])
    if row is None or row.removed:
        raise Refusal(404, "workspace not found")
    if row.status == "paused":
        raise Refusal(503, "workspace is paused", status=row.status, hint="resume it: POST /workspaces/:id/resume")
    return row


class Proxy:
    """Delivers messages."""

    def __init__(
        self,
        *,
        store: Store,
        bus: EventBus,
        auth: Auth,
        background: Background,
        http: httpx.AsyncClient,
        settings: LocalSettings,
        metadata: Mapping[str, wire.RuntimeMetadata],
    ) -> None:
        self._store = store
        self._bus = bus
        self._auth = auth
        self._background = background
        self._http = http
        self._settings = settings
        self._metadata = metadata
        self._waiting: set[asyncio.Future[Outcome]] = set()

    def admit_request(
        self, connection: sqlite3.Connection, credentials: Credentials, claimed: str | None, target_id: str
    ) -> tuple[Caller, WorkspaceRow]:
        """Check the sender and the target of a request; runs on the database thread."""
        caller = self._auth.caller(connection, credentials, claimed)
        return caller, admit(connection, caller, target_id)

    async def send_and_wait(self, caller: Caller, target: WorkspaceRow, message: Envelope) -> Outcome:
        """Send on a task of its own and wait for the outcome: as long as it takes, for a person at most `human_wait` seconds."""
        task = self._background.start(self.send(caller, target, message), name=f"a2a to {target.id}")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def hand_over(done: asyncio.Task[Outcome]) -> None:
            if future.done():
                return
            if done.cancelled():
                future.set_result(stopping())
            elif (error := done.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())

        task.add_done_callback(hand_over)
        self._waiting.add(future)
        try:
            with anyio.move_on_after(self._settings.human_wait if caller.workspace_id is None else None):
                return await future
        finally:
            self._waiting.discard(future)
        body = {"status": "queued", "delivery_mode": "push-async", "method": message.method}
        return Outcome(kind="queued", status=200, body=web.dump(body))

    def release_waiting(self) -> None:
        """Answer everybody who still waits that the platform stops; the turns themselves go on until they are cancelled."""
        for future in list(self._waiting):
            if not future.done():
                future.set_result(stopping())

    async def send(self, caller: Caller, target: WorkspaceRow, message: Envelope, *, may_queue: bool = True) -> Outcome:
        """Deliver a message to a target that was admitted, and record what came of it."""
        if target.delivery_mode == "poll":
            return await self._leave_in_inbox(caller, target, message)
        if not target.url:
            if target.status in _SETTLING:
                return await self._queue(caller, target, message, "the agent has not connected yet", may_queue)
            error = "workspace has no URL"
            body = {"error": error, "status": target.status}
            return Outcome(kind="failed", status=503, body=web.dump(body), error=error)
        if problem := await urls.problem_of(target.url, self._settings.url_rule):
            error = "workspace URL is not publicly routable"
            logger.warning("message to %s refused: its URL is not allowed (%s)", target.id, problem)
            return Outcome(kind="failed", status=502, body=web.dump({"error": error}), error=error)
        self._publish_sent(caller, target, message)
        started = time.monotonic()
        exchange = await self._call(caller, target, web.dump(message.body))
        duration = int((time.monotonic() - started) * 1000)
        if exchange.kind == "busy":
            self._publish_answer(caller, target, "", duration, "queued")
            return await self._queue(caller, target, message, exchange.detail, may_queue)
        return await self._conclude(caller, target, message, exchange, duration)

    async def deliver_queued(self, target: WorkspaceRow, row: QueueRow) -> Outcome | None:
        """Deliver a message that was claimed from the queue; returns its outcome, or None when it waits for another attempt."""
        message = read_envelope(web.loads(row.body_json))
        outcome = await self.send(Caller(row.caller_id), target, message, may_queue=False)

        def record(connection: sqlite3.Connection) -> bool:
            if outcome.kind in {"answered", "polled"}:
                queue.complete(connection, row.id, outcome.body, self._now())
                return True
            # An agent that answered with an error has had the message; one that was not reached gets it again.
            final = outcome.kind == "failed" and outcome.reached
            return queue.fail(connection, row.id, outcome.error, final=final, now=self._now())

        if not await self._store.write(record):
            return None
        if outcome.kind == "busy":
            return failed(503, f"given up after {queue.MAX_ATTEMPTS} attempts: {outcome.error}")
        return outcome

    async def _leave_in_inbox(self, caller: Caller, target: WorkspaceRow, message: Envelope) -> Outcome:
        row = _inbox_row(caller.workspace_id, target, message)
        if await self._record(caller, row):
            self._publish_sent(caller, target, message)
            self._publish_logged(row)
        body = {"status": "queued", "delivery_mode": "poll", "method": message.method}
        return Outcome(kind="polled", status=200, body=web.dump(body))

    async def _queue(
        self, caller: Caller, target: WorkspaceRow, message: Envelope, reason: str, may_queue: bool
    ) -> Outcome:
        if not may_queue:
            return Outcome(kind="busy", status=503, body=b"{}", error=reason)
        if (metadata := self._metadata.get(target.id)) and metadata.capabilities.get("session"):
            return busy(reason, native_session=True)
        queue_id, depth = await self._store.write(
            queue.enqueue,
            workspace_id=target.id,
            caller_id=caller.workspace_id,
            body_json=web.dump(message.body).decode(),
            method=message.method,
            idempotency_key=message.message_id,
            now=self._now(),
        )
        body = {
            "queued": True,
            "queue_id": queue_id,
            "queue_depth": depth,
            "message": f"workspace {target.name} is busy ({reason}); the message is delivered with one of its next heartbeats",
        }
        return Outcome(kind="queued", status=202, body=web.dump(body))

    async def _call(self, caller: Caller, target: WorkspaceRow, content: bytes) -> Exchange:
        metadata = self._metadata.get(target.id)
        idle = (metadata.idle_timeout_seconds if metadata else None) or self._settings.a2a_idle_timeout
        ceiling = anyio.current_time() + self._settings.a2a_ceiling if caller.workspace_id is not None else float("inf")
        scope = anyio.CancelScope(deadline=min(anyio.current_time() + idle, ceiling))

        def still_alive() -> None:
            scope.deadline = min(anyio.current_time() + idle, ceiling)

        arrived: list[int] = []
        with scope, self._bus.watch(target.id, still_alive):
            return await self._exchange(target, content, arrived)
        if arrived:
            # The agent did the work and began to answer: queueing would have it done twice.
            return Exchange(kind="lost", status=arrived[0], detail="the answer stopped halfway")
        return Exchange(kind="busy", detail="it gave no sign of life during the turn")

    async def _exchange(self, target: WorkspaceRow, content: bytes, arrived: list[int]) -> Exchange:
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {target.inbound_secret}",
        }
        request = self._http.build_request(
            "POST", target.url, content=content, headers=headers, extensions={"workspace": target.id}
        )
        try:
            response = await self._http.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as exc:
            return Exchange(kind="unreachable", detail=str(exc) or type(exc).__name__)
        except httpx.HTTPError as exc:
            return Exchange(kind="busy", detail=f"it closed the connection ({str(exc) or type(exc).__name__})")
        arrived.append(response.status_code)
        try:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > MAX_RESPONSE_BYTES:
                    return Exchange(kind="oversize", status=response.status_code)
                chunks.append(chunk)
        except httpx.HTTPError as exc:
            return Exchange(kind="lost", status=response.status_code, detail=str(exc) or type(exc).__name__)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        return Exchange(
            kind="response",
            status=response.status_code,
            body=b"".join(chunks),
            retry_after=response.headers.get("retry-after", ""),
        )

    async def _conclude(
        self, caller: Caller, target: WorkspaceRow, message: Envelope, exchange: Exchange, duration: int
    ) -> Outcome:
        outcome, parsed = outcome_of(exchange)
        said = a2a.read_answer(parsed) if outcome.kind == "answered" else a2a.Failure(message=outcome.error)
        problem = said.message if isinstance(said, a2a.Failure) else None
        row = activity.NewActivity(
            workspace_id=target.id,
            activity_type="a2a_receive",
            source_id=caller.workspace_id,
            target_id=target.id,
            method=message.method,
            summary=message.text[:SUMMARY_CHARS],
            request_body=message.body,
            response_body=parsed,
            tool_trace=tool_trace_of(parsed),
            duration_ms=duration,
            status="ok" if problem is None else "error",
            error_detail=None if problem is None else redact_text(problem[:4096]),
        )
        await self._record(caller, row, token_usage.of_answer(parsed))
        text = said.text if isinstance(said, a2a.Reply) else (problem or "")
        self._publish_answer(caller, target, text, duration, row.status)
        self._publish_logged(row)
        if caller.workspace_id is None and outcome.kind == "answered":
            payload = {"response_body": parsed, "method": message.method, "duration_ms": duration}
            self._bus.publish("A2A_RESPONSE", target.id, payload)
        return outcome

    async def _record(self, caller: Caller, row: activity.NewActivity, usage: tuple[int, int] | None = None) -> bool:
        """Store what came of a message; False when it was there already, or the target was purged during the turn."""

        def record(connection: sqlite3.Connection) -> bool:
            now = self._now()
            if not workspaces.exists(connection, row.workspace_id):
                return False
            if caller.workspace_id is not None:
                workspaces.touch_outbound(connection, caller.workspace_id, now)
            if usage is not None:
                token_usage.add(connection, row.workspace_id, *usage, now=now)
            return activity.insert(connection, row, now) is not None

        return await self._store.write(record)

    def _publish_sent(self, caller: Caller, target: WorkspaceRow, message: Envelope) -> None:
        payload = {
            "source_id": caller.workspace_id,
            "target_id": target.id,
            "method": message.method,
            "text": message.text,
        }
        self._bus.publish("A2A_SENT", target.id, payload)

    def _publish_answer(self, caller: Caller, target: WorkspaceRow, text: str, duration: int, status: str) -> None:
        payload = {
            "source_id": caller.workspace_id,
            "target_id": target.id,
            "text": text,
            "duration_ms": duration,
            "status": status,
        }
        self._bus.publish("A2A_ANSWERED", target.id, payload)

    def _publish_logged(self, row: activity.NewActivity) -> None:
        self._bus.publish("ACTIVITY_LOGGED", row.workspace_id, logged_payload(row))

    def _now(self) -> int:
        return timestamps.from_seconds(self._settings.clock())


def leave_message(connection: sqlite3.Connection, target: WorkspaceRow, message: Envelope, *, now: int) -> None:
    """Leave a message of the platform itself for a workspace: in its inbox, or in the queue until it has room (24.8)."""
    if target.delivery_mode == "poll":
        activity.insert(connection, _inbox_row(None, target, message), now)
        return
    queue.enqueue(
        connection,
        workspace_id=target.id,
        caller_id=None,
        body_json=web.dump(message.body).decode(),
        method=message.method,
        idempotency_key=message.message_id,
        now=now,
    )


def claim_waiting(connection: sqlite3.Connection, target: WorkspaceRow, now: int) -> list[QueueRow]:
    """Take what waits for a workspace out of the queue, as much as it has room for now (5.6, 24.2)."""
    if target.status not in {"online", "degraded"} or not (target.url or target.delivery_mode == "poll"):
        return []
    room = target.max_concurrent_tasks - target.active_tasks
    return queue.claim(connection, target.id, capacity=room, now=now)


def _inbox_row(source_id: str | None, target: WorkspaceRow, message: Envelope) -> activity.NewActivity:
    return activity.NewActivity(
        workspace_id=target.id,
        activity_type="a2a_receive",
        source_id=source_id,
        target_id=target.id,
        method=message.method,
        summary=message.text[:SUMMARY_CHARS],
        request_body=message.body,
        message_id=message.message_id,
    )


def logged_payload(row: activity.NewActivity) -> dict[str, Any]:
    """Return the payload of `ACTIVITY_LOGGED` (contract 7.2)."""
    payload: dict[str, Any] = {
        "activity_type": row.activity_type,
        "method": row.method,
        "summary": row.summary,
        "status": row.status,
        "source_id": row.source_id,
        "target_id": row.target_id,
        "duration_ms": row.duration_ms,
    }
    if row.tool_trace is not None:
        payload["tool_trace"] = row.tool_trace
    return payload
