"""Approvals (contract 9): the older form of a request of kind `approval` to the person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.platform.wire import requests as wire
from molecule_runtime.localplatform import timestamps, web
from molecule_runtime.localplatform.access import require_admin, require_own
from molecule_runtime.localplatform.auth import credentials_of
from molecule_runtime.localplatform.requests import publish_outcome, resolve
from molecule_runtime.localplatform.routing import Route
from molecule_runtime.localplatform.store import requests
from molecule_runtime.localplatform.web import Refusal

if TYPE_CHECKING:
    import sqlite3
    from typing import Literal

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.localplatform.platform import Platform
    from molecule_runtime.localplatform.store.requests import RequestRow

DECIDED = "approval not found or already decided"

_STATUS = {"pending": "pending", "info_requested": "pending", "rejected": "denied", "cancelled": "withdrawn"}


async def create(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/approvals`."""
    own = await require_own(platform, request)
    wanted = web.validate(wire.CreateApprovalRequest, await web.read_object(request))
    new = requests.NewRequest(
        kind="approval",
        origin="approvals",
        requester_id=own.id,
        recipient_type="user",
        title=wanted.action,
        detail=wanted.reason,
        task_id=wanted.task_id or "",
        context_json=web.dump(wanted.context).decode(),
    )
    approval_id = await platform.store.write(requests.insert, new, platform.now())
    payload: dict[str, Any] = {"approval_id": approval_id, "action": wanted.action, "reason": wanted.reason}
    platform.bus.publish("APPROVAL_REQUESTED", own.id, {**payload, "task_id": wanted.task_id or ""})
    if own.parent_id is not None:
        platform.bus.publish("APPROVAL_ESCALATED", own.parent_id, {**payload, "from_workspace_id": own.id})
    return web.answer({"approval_id": approval_id, "status": "pending"}, 201)


async def list_own(platform: Platform, request: Request) -> Response:
    """`GET /workspaces/:id/approvals`: what a requester polls."""
    own = await require_own(platform, request)
    rows = await platform.store.read(requests.approvals, own.id)
    return web.answer([_body(row) for row in rows])


async def decide(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/approvals/:approvalId/decide`: for the person; an agent must not decide what it asked for."""
    own = await require_own(platform, request)
    if not platform.auth.is_admin(credentials_of(request)):
        raise Refusal(
            403, "only a person may decide an approval", hint="decide with: molecule-local requests approve ID"
        )
    error = "decision must be 'approved' or 'denied'"
    wanted = web.validate(wire.DecideRequest, await web.read_object(request), error=error)
    status: Literal["approved", "rejected"] = "approved" if wanted.decision == "approved" else "rejected"
    row = await _close(platform, request, own.id, status, wanted.decided_by)
    return web.answer({"status": wanted.decision, "approval_id": row.id})


async def withdraw(platform: Platform, request: Request) -> Response:
    """`POST /workspaces/:id/approvals/:approvalId/withdraw`: the requester no longer needs it."""
    own = await require_own(platform, request)
    row = await _close(platform, request, own.id, "cancelled", None)
    return web.answer({"status": "withdrawn", "approval_id": row.id})


async def list_pending(platform: Platform, request: Request) -> Response:
    """`GET /approvals/pending` (admin); whoever looks denies those that are too old (contract 9.4)."""
    require_admin(platform, request)
    now = platform.now()
    older_than = now - timestamps.from_seconds(platform.settings.approval_expiry)

    def store(connection: sqlite3.Connection) -> tuple[list[RequestRow], list[RequestRow]]:
        expired = requests.expire_approvals(connection, older_than=older_than, now=now)
        return expired, requests.for_the_person(connection, kind="approval", only_open=True, origin="approvals")

    expired, rows = await platform.store.write(store)
    for row in expired:
        payload = {"approval_id": row.id, "decision": "denied", "decided_by": "auto-expired"}
        platform.bus.publish("APPROVAL_DENIED", row.requester_id, payload)
    return web.answer(
        [{**_body(row), "workspace_id": row.requester_id, "workspace_name": row.requester_name} for row in rows]
    )


async def _close(
    platform: Platform,
    request: Request,
    workspace_id: str,
    status: Literal["approved", "rejected", "cancelled"],
    decided_by: str | None,
) -> RequestRow:
    approval_id: str = request.path_params["approval_id"]

    def store(connection: sqlite3.Connection) -> RequestRow:
        row = requests.get(connection, approval_id)
        if row is None or row.origin != "approvals" or row.requester_id != workspace_id or not row.open:
            raise Refusal(404, DECIDED)
        return resolve(connection, platform, approval_id, status, responder_type="user", responder_id=decided_by)

    row = await platform.store.write(store)
    publish_outcome(platform, row)
    return row


def _body(row: RequestRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "task_id": row.task_id,
        "action": row.title,
        "reason": row.detail,
        "status": _STATUS.get(row.status, row.status),
        "decided_by": row.responder_id,
        "decided_at": timestamps.render(row.responded_at),
        "created_at": timestamps.render(row.created_at),
    }


_TEST = "test_approvals.py::test_an_approval_is_decided_by_the_person_and_seen_by_its_requester"

ROUTES = (
    Route(
        method="POST", path="/workspaces/{id}/approvals", handler=create, section="9.1", access="workspace",
        summary="Ask for an approval.", body=wire.CreateApprovalRequest, answers={201: wire.CreateApprovalResponse}, test=_TEST,
    ),
    Route(
        method="GET", path="/workspaces/{id}/approvals", handler=list_own, section="9.2", access="workspace",
        summary="Its approvals and how they stand.", answers={200: list[wire.ApprovalRow]}, test=_TEST,
    ),
    Route(
        method="POST", path="/workspaces/{id}/approvals/{approval_id}/decide", handler=decide, section="9.3", access="admin",
        summary="Approve or deny.", body=wire.DecideRequest, answers={200: wire.DecideResponse}, test=_TEST,
    ),
    Route(
        method="POST", path="/workspaces/{id}/approvals/{approval_id}/withdraw", handler=withdraw, section="24.8",
        access="workspace", summary="No longer needed.", answers={200: wire.DecideResponse},
        test="test_approvals.py::test_a_withdrawn_approval_cannot_be_decided",
    ),
    Route(
        method="GET", path="/approvals/pending", handler=list_pending, section="9.4", access="admin",
        summary="Those that wait for the person; old ones are denied by the look.", answers={200: list[wire.ApprovalRow]}, test=_TEST,
    ),
)  # fmt: skip
