"""Which member of a coordinator's team does a task: the answer of `route_task_to_team` (contract `workspace-host.md` 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from molecule_runtime.core.adapter.prompt import member_of

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_MEMBERS = "no member of your team is known to the platform"


def build_team_routing_payload(children: Sequence[Any], task: str, preferred_member_id: str = "") -> dict[str, Any]:
    """Return what a coordinator does with a task: hand it to the member that it prefers, or choose one.

    A preferred member that is not one of `children` is refused: whoever it is, it is not this workspace's to command.
    """
    members = [member_of(child) for child in children]
    failed: dict[str, Any] = {"success": False, "task": task, "members": members}
    if preferred_member_id and not any(member["id"] == preferred_member_id for member in members):
        names = ", ".join(sorted(member["id"] for member in members)) or "none"
        return {
            **failed,
            "error": f"{preferred_member_id!r:.140} is not a member of your team; the members are: {names}",
        }
    if preferred_member_id:
        return {
            "success": True,
            "action": "delegate_to_preferred_member",
            "preferred_member_id": preferred_member_id,
            "task": task,
        }
    if not members:
        return {**failed, "error": NO_MEMBERS}
    return {
        "success": True,
        "action": "choose_member",
        "message": "Choose the member that fits and call this tool again with its id, or call delegate_task.",
        "task": task,
        "members": members,
    }
