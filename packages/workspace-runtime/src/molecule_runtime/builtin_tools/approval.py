"""The predecessor's `builtin_tools.approval`: ask a person, and wait for the decision (contract `workspace-host.md` 19.5)."""

from __future__ import annotations

from typing import Any

from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.legacy import gates
from molecule_runtime.tools import ApprovalDeniedError, ApprovalTimeoutError

__all__ = ["request_approval"]


async def request_approval(action: str, reason: str = "") -> dict[str, Any]:
    """Ask a person to approve exactly `action`, and wait for `hitl.default_timeout`.

    Returns:
        `{"approved": True, "message": ...}`, once for each approval; else `approved` is False, with `error` and, where there is one,
        `approval_id`. A timeout is told apart from a denial by its text only, as it was.
    """
    try:
        async with gates.gate() as asked:
            await asked.require(action, reason=reason)
    except (ApprovalDeniedError, ApprovalTimeoutError) as exc:
        return {"approved": False, "approval_id": exc.request_id, "error": str(exc)}
    except MoleculeError as exc:
        return {"approved": False, "error": str(exc)}
    return {"approved": True, "message": f"approved: {action}"}
