"""Delegations (contract 6, 24.6): tasks that the platform sends for a workspace and keeps account of."""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio

from molecule_runtime.core import envelope as a2a
from molecule_runtime.core import trace_context
from molecule_runtime.core.platform import wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_own
from molecule_runtime.localplatform.auth import Caller, credentials_of
from molecule_runtime.localplatform.outcomes import read_envelope
from molecule_runtime.localplatform.proxy import SUMMARY_CHARS, admit, logged_payload
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import activity, delegations
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.background import Background
    from molecule_runtime.localplatform.events import EventBus
    from molecule_runtime.localplatform.outcomes import Outcome
    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.proxy import Proxy
    from molecule_runtime.localplatform.settings import LocalSettings
    from molecule_runtime.localplatform.store import Store
    from molecule_runtime.localplatform.store.delegations import DelegationRow

logger = logging.getLogger(__name__)

INTERRUPTED = (
    "the platform stopped before the answer arrived; the agent may have done the work: look before delegating again"
)

MAX_METADATA_CHARS = 16 * 1024
"""Of the JSON that a caller may add to the message of a delegation."""

_TASK_PREVIEW = 100
_RESPONSE_PREVIEW = 200
_LISTED_SUMMARY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    caller_id: str
    delegation_id: str
    callee_id: str
    task: str
    metadata: str | None = None
    """JSON: what the caller wants in the metadata of the message."""
    traceparent: str = ""
    """Of the request that began it, so that the trace goes on in the callee; a restart forgets it."""


class Delegations:
    """Sends delegations in the background and settles them, whichever way the answer comes."""

    def __init__(
        self, *, store: Store, bus: EventBus, proxy: Proxy, background: Background, settings: LocalSettings
    ) -> None:
        self._store = store
        self._bus = bus
        self._proxy = proxy
        self._background = background
        self._settings = settings

    def start(self, job: _Job) -> None:
        """Begin to send a stored delegation."""
        self._background.start(self._run(job), name=f"delegation {job.delegation_id}")

    async def resume(self) -> None:
        """Take up what the last process left: send what never left, and end what was under way, since it may have been done."""
        for row in await self._store.read(delegations.interrupted):
            job = _Job(
                caller_id=row.caller_id,
                delegation_id=row.delegation_id,
                callee_id=row.callee_id,
                task=row.task,
                metadata=row.metadata,
            )
            if row.sent_at is None:
                self.start(job)
            else:
                await self._settle(job, "failed", error=INTERRUPTED)

    async def settle_drained(self, caller_id: str, callee_id: str, delegation_id: str, outcome: Outcome) -> None:
        """Take the answer to a delegation that had waited in the queue."""
        row = await self._store.read(delegations.get, caller_id, delegation_id)
        if row is None or row.callee_id != callee_id:
            return
        job = _Job(caller_id=caller_id, delegation_id=delegation_id, callee_id=callee_id, task=row.task)
        await self._take(job, outcome, via="queue_drain")

    async def close(
        self, caller_id: str, delegation_id: str, status: Literal["completed", "failed"], text: str
    ) -> None:
        """Take the end that an agent reports for a delegation it sent itself; an unknown one is ignored (contract 6.3)."""
        row = await self._store.read(delegations.get, caller_id, delegation_id)
        if row is None:
            return
        job = _Job(caller_id=caller_id, delegation_id=delegation_id, callee_id=row.callee_id, task=row.task)
        if status == "completed":
            await self._settle(job, "completed", result=text)
        else:
            await self._settle(job, "failed", error=text)

    async def _run(self, job: _Job) -> None:
        payload = {"delegation_id": job.delegation_id, "target_id": job.callee_id}
        self._bus.publish("DELEGATION_SENT", job.caller_id, {**payload, "task_preview": job.task[:_TASK_PREVIEW]})
        self._bus.publish("DELEGATION_STATUS", job.caller_id, {**payload, "status": "dispatched"})
        try:
            outcome = await self._send(job)
            if outcome.kind == "failed" and not outcome.reached and outcome.status == 502:
                # Not delivered, so sending it again cannot do the work twice.
                await self._mark_sent(job, sent=False)
                await anyio.sleep(self._settings.delegation_retry_after)
                outcome = await self._send(job)
        except Refusal as refusal:
            await self._settle(job, "failed", error=str(refusal))
        else:
            await self._take(job, outcome)

    async def _send(self, job: _Job) -> Outcome:
        caller = Caller(job.caller_id)
        target = await self._store.read(admit, caller, job.callee_id)
        message = a2a.message_send(
            job.task,
            message_id=job.delegation_id,
            metadata={
                **({} if job.metadata is None else json.loads(job.metadata)),
                "delegation_id": job.delegation_id,
                "source_workspace_id": job.caller_id,
                **({trace_context.KEY: job.traceparent} if job.traceparent else {}),
            },
        )
        await self._mark_sent(job, sent=True)
        return await self._proxy.send(caller, target, read_envelope(message))

    async def _mark_sent(self, job: _Job, *, sent: bool) -> None:
        now = self._now()
        sent_at = now if sent else None
        await self._store.write(delegations.set_sent, job.caller_id, job.delegation_id, sent_at, now)

    async def _take(self, job: _Job, outcome: Outcome, *, via: str | None = None) -> None:
        if outcome.kind in {"queued", "polled", "busy"}:
            if await self._store.write(
                delegations.settle,
                caller_id=job.caller_id,
                delegation_id=job.delegation_id,
                status="queued",
                now=self._now(),
            ):
                payload = {"delegation_id": job.delegation_id, "target_id": job.callee_id, "status": "queued"}
                self._bus.publish("DELEGATION_STATUS", job.caller_id, payload)
            return
        if outcome.kind == "failed":
            await self._settle(job, "failed", error=outcome.error, via=via)
            return
        said = a2a.read_answer(web.loads(outcome.body))
        if isinstance(said, a2a.Failure):
            await self._settle(job, "failed", error=said.message, via=via)
        else:
            text = said.text if isinstance(said, a2a.Reply) else ""
            await self._settle(job, "completed", result=text or outcome.body.decode(errors="replace"), via=via)

    async def _settle(
        self,
        job: _Job,
        status: Literal["completed", "failed"],
        *,
        result: str | None = None,
        error: str | None = None,
        via: str | None = None,
    ) -> None:
        row = activity.NewActivity(
            workspace_id=job.caller_id,
            activity_type="delegation",
            method="delegate_result",
            source_id=job.caller_id,
            target_id=job.callee_id,
            summary=job.task[:SUMMARY_CHARS],
            response_body={"text": result if error is None else error, "delegation_id": job.delegation_id},
            status=status,
            error_detail=error,
        )

        def record(connection: sqlite3.Connection) -> bool:
            now = self._now()
            settled = delegations.settle(
                connection,
                caller_id=job.caller_id,
                delegation_id=job.delegation_id,
                status=status,
                result=result,
                error=error,
                now=now,
            )
            if settled:
                activity.insert(connection, row, now)
                if self._settings.delegation_results_in_inbox:
                    inbox = replace(row, activity_type="a2a_receive", source_id=job.callee_id, target_id=job.caller_id)
                    activity.insert(connection, replace(inbox, status="ok" if error is None else "error"), now)
            return settled

        if not await self._store.write(record):
            return
        payload: dict[str, Any] = {"delegation_id": job.delegation_id, "target_id": job.callee_id}
        if via is not None:
            payload["via"] = via
        if status == "completed":
            payload["response_preview"] = (result or "")[:_RESPONSE_PREVIEW]
            self._bus.publish("DELEGATION_COMPLETE", job.caller_id, payload)
        else:
            payload["error"] = error
            self._bus.publish("DELEGATION_FAILED", job.caller_id, payload)
        self._bus.publish("ACTIVITY_LOGGED", job.caller_id, logged_payload(row))

    def _now(self) -> int:
        return timestamps.from_seconds(self._settings.clock())


async def delegate(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/delegate`."""
    caller_id = web.workspace_id_of(request)
    await require_own(platform, request)
    error = "invalid delegation request"
    wanted = web.validate(wire.DelegateRequest, await web.read_object(request, error=error), error=error)
    target_id = web.require_workspace_id(wanted.target_id, error="target_id must be a valid UUID")
    if target_id == caller_id:
        raise Refusal(
            400,
            "self-delegation not permitted",
            reason="self_delegation",
            hint="do the work yourself, or choose another workspace from the peers list; do not retry",
        )
    metadata = None if wanted.metadata is None else json.dumps(wanted.metadata)
    if metadata is not None and len(metadata) > MAX_METADATA_CHARS:
        raise Refusal(400, f"metadata: {len(metadata)} characters of JSON, and it holds {MAX_METADATA_CHARS}")
    job = _Job(
        caller_id=caller_id,
        delegation_id=str(uuid.uuid4()),
        callee_id=target_id,
        task=wanted.task,
        metadata=metadata,
        traceparent=trace_context.traceparent(request.headers.get(trace_context.KEY)),
    )
    existing = await platform.store.write(_store_new, job, wanted.idempotency_key or None, platform.now())
    if existing is not None:
        body = {"delegation_id": existing.delegation_id, "status": existing.status, "target_id": existing.callee_id}
        return web.answer({**body, "idempotent_hit": True})
    platform.delegations.start(job)
    return web.answer({"delegation_id": job.delegation_id, "status": "delegated", "target_id": target_id}, 202)


async def list_delegations(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/delegations`: the ledger form of June."""
    caller_id = web.workspace_id_of(request)
    credentials = credentials_of(request)

    def read(connection: sqlite3.Connection) -> list[DelegationRow]:
        platform.auth.require_workspace(connection, credentials, caller_id)
        return delegations.newest(connection, caller_id)

    return web.answer([body_of(row) for row in await platform.store.read(read)])


async def record(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/delegations/record`: an agent sent a message itself and wants it on the books."""
    caller_id = web.workspace_id_of(request)
    await require_own(platform, request)
    error = "invalid delegation request"
    data = await web.read_object(request, error=error)
    wanted = web.validate(wire.RecordDelegationRequest, data, error=error)
    target_id = web.require_workspace_id(wanted.target_id, error="target_id must be a valid UUID")
    delegation_id = wanted.delegation_id
    added = await platform.store.write(
        delegations.insert,
        caller_id=caller_id,
        delegation_id=delegation_id,
        callee_id=target_id,
        task=wanted.task,
        origin="agent",
        idempotency_key=None,
        now=platform.now(),
    )
    if added:
        payload = {"delegation_id": delegation_id, "target_id": target_id, "task_preview": wanted.task[:_TASK_PREVIEW]}
        platform.bus.publish("DELEGATION_SENT", caller_id, payload)
    return web.answer({"delegation_id": delegation_id, "status": "recorded"}, 202)


async def update(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/delegations/:delegation_id/update`."""
    caller_id = web.workspace_id_of(request)
    await require_own(platform, request)
    delegation_id: str = request.path_params["delegation_id"]
    error = "status must be 'completed' or 'failed'"
    ended = web.validate(wire.UpdateDelegationRequest, await web.read_object(request), error=error)
    text = ended.response_preview if ended.status == "completed" else ended.error
    await platform.delegations.close(caller_id, delegation_id, ended.status, text or "")
    return web.answer({"status": ended.status, "delegation_id": delegation_id})


def _store_new(
    connection: sqlite3.Connection, job: _Job, idempotency_key: str | None, now: int
) -> DelegationRow | None:
    if idempotency_key is not None:
        existing = delegations.by_key(connection, job.caller_id, idempotency_key)
        if existing is not None:
            return existing
    delegations.insert(
        connection,
        caller_id=job.caller_id,
        delegation_id=job.delegation_id,
        callee_id=job.callee_id,
        task=job.task,
        origin="platform",
        idempotency_key=idempotency_key,
        now=now,
        metadata=job.metadata,
    )
    row = activity.NewActivity(
        workspace_id=job.caller_id,
        activity_type="delegation",
        method="delegate",
        source_id=job.caller_id,
        target_id=job.callee_id,
        summary=job.task[:SUMMARY_CHARS],
        request_body={"task": job.task, "delegation_id": job.delegation_id},
        response_body={"delegation_id": job.delegation_id},
        status="dispatched",
    )
    activity.insert(connection, row, now)
    return None


def body_of(row: DelegationRow) -> dict[str, Any]:
    """Return the ledger form of a row (24.6)."""
    body: dict[str, Any] = {
        "delegation_id": row.delegation_id,
        "source_id": row.caller_id,
        "target_id": row.callee_id,
        "summary": row.task[:_LISTED_SUMMARY],
        "status": row.status,
        "created_at": timestamps.render(row.created_at),
        "updated_at": timestamps.render(row.updated_at),
        "deadline": timestamps.render(row.deadline),
        "_ledger": True,
    }
    if row.result_preview:
        body["response_preview"] = row.result_preview
    if row.error_detail:
        body["error"] = row.error_detail
    return body


ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/delegate", handler=delegate, section="6.1, 24.6", access="workspace",
        summary="Have the platform send a task and keep account of it.", body=wire.DelegateRequest,
        answers={200: wire.DelegateResponse, 202: wire.DelegateResponse},
        test="test_delegation.py::test_a_delegation_is_accepted_and_completes_with_the_answer",
    ),
    Route(
        method="GET", path="/workspaces/{id}/delegations", handler=list_delegations, section="6.2, 24.6", access="workspace",
        summary="Its delegations, newest first.", answers={200: list[wire.Delegation]},
        test="test_delegation.py::test_a_delegation_is_accepted_and_completes_with_the_answer",
    ),
    Route(
        method="POST", path="/workspaces/{id}/delegations/record", handler=record, section="6.3", access="workspace",
        summary="Put a delegation that the agent sends itself on the books.", body=wire.RecordDelegationRequest,
        answers={202: dict[str, Any]}, test="test_delegation.py::test_an_agent_records_and_closes_a_delegation_of_its_own",
    ),
    Route(
        method="POST", path="/workspaces/{id}/delegations/{delegation_id}/update", handler=update, section="6.3", access="workspace",
        summary="Report the end of such a delegation.", body=wire.UpdateDelegationRequest, answers={200: wire.StatusResponse},
        test="test_delegation.py::test_an_agent_records_and_closes_a_delegation_of_its_own",
    ),
)  # fmt: skip
