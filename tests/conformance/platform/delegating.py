"""Delegations (contract 6), as the workspace that delegates makes and follows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from .site import Member, Site

ENDED = {"completed", "failed"}


async def delegate(site: Site, caller: Member, target: Member, task: str = "work", **fields: Any) -> httpx.Response:
    body = {"target_id": target.id, "task": task, **fields}
    return await site.http.post(f"/workspaces/{caller.id}/delegate", json=body, headers=caller.auth)


async def rows_of(site: Site, caller: Member, delegation_id: str) -> list[dict[str, Any]]:
    """The rows of one delegation: one of the ledger, or (April) one of the sending and one of the result."""
    listed: list[dict[str, Any]] = await site.get(caller, "delegations")
    return [row for row in listed if row.get("delegation_id") == delegation_id]


async def ended(site: Site, caller: Member, delegation_id: str) -> dict[str, Any]:
    async def probe() -> dict[str, Any] | None:
        over = [row for row in await rows_of(site, caller, delegation_id) if row["status"] in ENDED]
        # A row with the answer's text is the one to prefer (6.2).
        return max(over, key=lambda row: bool(row.get("response_preview")), default=None)

    row: dict[str, Any] = await site.eventually(probe)
    return row


async def has_status(site: Site, caller: Member, delegation_id: str, status: str) -> bool:
    return any(row["status"] == status for row in await rows_of(site, caller, delegation_id))
