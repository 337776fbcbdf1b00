"""`molecule-mcp status`: how each workspace is, as its platform and the inbox of this machine see it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core import console
from molecule_runtime.core.errors import PlatformError
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.mcp.doctor.subject import AT_ONCE
from molecule_runtime.mcp.inbox import mailbox_of
from molecule_runtime.mcp.inbox_command import mailbox_json, oldest
from molecule_runtime.mcp.listing import list_mailboxes
from molecule_runtime.mcp.opening import INBOX_FILE
from molecule_runtime.mcp.store import InboxStore

if TYPE_CHECKING:
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.targets import WorkspaceTarget
    from molecule_runtime.mcp.doctor.subject import Machine
    from molecule_runtime.mcp.listing import MailboxState

ANSWER_SECONDS = 8.0
"""For one platform; a person waits."""


@dataclass(slots=True)
class _Row:
    target: WorkspaceTarget
    platform: wire.Workspace | None = None
    problem: str = ""
    mailboxes: list[MailboxState] = field(default_factory=list["MailboxState"])

    @property
    def well(self) -> bool:
        return self.platform is not None and self.platform.status == "online"


def run(machine: Machine, *, as_json: bool) -> int:
    """Print how every configured workspace is; returns 0 when all are online, else 1.

    Raises:
        McpError: the inbox cannot be read.
    """
    rows = [_Row(target) for target in machine.targets()]
    anyio.run(_ask, rows)
    for folder in machine.folders():
        if (path := folder / INBOX_FILE).exists():
            with closing(InboxStore(path)) as store:
                states = list_mailboxes(store)
            for row in rows:
                row.mailboxes += [state for state in states if state.mailbox == mailbox_of(row.target)]
    if as_json:
        console.emit({"ok": all(row.well for row in rows), "workspaces": [_json(row) for row in rows]})
    else:
        console.say(_table(rows))
        for row in rows:
            if row.problem:
                console.remark(f"{row.target.id}: {console.one_line(row.problem)}")
    return 0 if all(row.well for row in rows) else 1


async def _ask(rows: list[_Row]) -> None:
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(row: _Row, pools: ConnectionPools) -> None:
        async with limiter, PlatformClient(row.target, pools, user_agent="molecule-mcp-status") as client:
            try:
                row.platform = await client.workspace(timeout=ANSWER_SECONDS)
            except PlatformError as exc:
                row.problem = str(exc)

    async with ConnectionPools() as pools, anyio.create_task_group() as group:
        for row in rows:
            group.start_soon(ask, row, pools)


def _table(rows: list[_Row]) -> str:
    lines: list[tuple[str, ...]] = []
    for row in rows:
        found = row.platform
        pollers = [str(state.polled_by) for state in row.mailboxes if state.polled_by]
        lines.append(
            (
                row.target.id,
                console.cut(console.one_line(found.name or "-") if found else "-", 24),
                row.target.platform_url,
                (found.status or "unknown") if found else "no answer",
                f"process {', '.join(pollers)}" if pollers else "-",
                str(sum(state.waiting for state in row.mailboxes)),
                oldest(iter(row.mailboxes)),
            )
        )
    return console.table(("WORKSPACE", "NAME", "PLATFORM", "STATUS", "SERVED BY", "INBOX", "OLDEST"), lines)


def _json(row: _Row) -> dict[str, Any]:
    return {
        "workspace_id": row.target.id,
        "platform_url": row.target.platform_url,
        "name": row.platform.name if row.platform else None,
        "status": row.platform.status if row.platform else None,
        "delivery_mode": row.platform.delivery_mode if row.platform else None,
        "problem": row.problem or None,
        "inbox": [mailbox_json(state) for state in row.mailboxes],
    }
