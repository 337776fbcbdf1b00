"""The `workspaces` table: rows, hierarchy and status."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

MAX_DEPTH = 32
"""Steps of a walk up the hierarchy (contract 2.1)."""

# In the order of the fields of `WorkspaceRow`.
_COLUMNS = (
    "id, name, role, tier, kind, runtime, model, status, parent_id, url, delivery_mode, agent_card_json, inbound_secret,"
    " last_heartbeat_at, error_rate, sample_error, active_tasks, max_concurrent_tasks, uptime_seconds, current_task, budget_limit,"
    " monthly_spend, last_outbound_at, last_acked_seq, created_at, updated_at, removed_at, broadcast_enabled, talk_to_user_enabled,"
    " can_delegate, mcp_server_present, mcp_unloaded_since, register_failed_at, chat_context_id, workspace_dir, workspace_access, x, y,"
    " collapsed"
)


class WorkspaceRow(NamedTuple):
    """One workspace, with the columns in their order; moments are microseconds of Unix time.

    A tuple and not a dataclass: one is made for nearly every request, and a frozen dataclass of so many fields takes ten times as long.
    """

    id: str
    name: str
    role: str | None
    tier: int
    kind: str
    runtime: str
    model: str | None
    status: str
    parent_id: str | None
    url: str
    delivery_mode: str
    agent_card_json: str | None
    inbound_secret: str
    last_heartbeat_at: int | None
    error_rate: float
    sample_error: str
    active_tasks: int
    max_concurrent_tasks: int
    uptime_seconds: int
    current_task: str
    budget_limit: int | None
    monthly_spend: int
    last_outbound_at: int | None
    last_acked_seq: int
    created_at: int
    updated_at: int
    removed_at: int | None
    broadcast_enabled: int
    talk_to_user_enabled: int
    can_delegate: int
    mcp_server_present: int | None
    mcp_unloaded_since: int | None
    register_failed_at: int | None
    chat_context_id: str | None
    workspace_dir: str | None
    workspace_access: str
    x: float
    y: float
    collapsed: int

    def __repr__(self) -> str:
        """Show what it is, without its secret."""
        return f"WorkspaceRow(id={self.id!r}, name={self.name!r}, status={self.status!r})"

    @property
    def removed(self) -> bool:
        """Whether the workspace was deleted."""
        return self.status == "removed"

    @property
    def agent_card(self) -> dict[str, Any] | None:
        """The card as its agent registered it."""
        return None if self.agent_card_json is None else json.loads(self.agent_card_json)


def get(connection: sqlite3.Connection, workspace_id: str) -> WorkspaceRow | None:
    """Return a row, removed ones too."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()  # noqa: S608
    return None if found is None else _row(found)


def exists(connection: sqlite3.Connection, workspace_id: str) -> bool:
    """Tell whether there is a row, removed or not."""
    return connection.execute("SELECT 1 FROM workspaces WHERE id = ?", (workspace_id,)).fetchone() is not None


def can_delegate(connection: sqlite3.Connection, workspace_id: str | None) -> bool:
    """Tell whether a workspace may send to others (24.7)."""
    found = connection.execute("SELECT can_delegate FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()
    return found is not None and bool(found["can_delegate"])


def begin_chat(connection: sqlite3.Connection, workspace_id: str, context_id: str) -> str:
    """Return the context of the person's chat session, which begins with this one when there is none."""
    connection.execute(
        "UPDATE workspaces SET chat_context_id = coalesce(chat_context_id, ?) WHERE id = ?", (context_id, workspace_id)
    )
    found = connection.execute("SELECT chat_context_id FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()
    return context_id if found is None else str(found["chat_context_id"])


def set_chat_context(connection: sqlite3.Connection, workspace_id: str, context_id: str) -> None:
    """Begin a new chat session."""
    connection.execute("UPDATE workspaces SET chat_context_id = ? WHERE id = ?", (context_id, workspace_id))


def alive(connection: sqlite3.Connection) -> list[WorkspaceRow]:
    """Return every row that was not removed, oldest first."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM workspaces WHERE status <> 'removed' ORDER BY created_at, id")  # noqa: S608
    return [_row(row) for row in found]


def peers(connection: sqlite3.Connection, row: WorkspaceRow) -> list[WorkspaceRow]:
    """Return the siblings, direct children and direct parent (contract 2.2); roots have no siblings (June)."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM workspaces WHERE status <> 'removed' AND id <> ?"  # noqa: S608
        " AND (id = ? OR parent_id = ? OR (parent_id IS NOT NULL AND parent_id = ?)) ORDER BY name, id",
        (row.id, row.parent_id, row.id, row.parent_id),
    )
    return [_row(peer) for peer in found]


def children(connection: sqlite3.Connection, workspace_id: str) -> list[WorkspaceRow]:
    """Return the direct children that were not removed."""
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM workspaces WHERE parent_id = ? AND status <> 'removed' ORDER BY name, id",  # noqa: S608
        (workspace_id,),
    )
    return [_row(row) for row in found]


def descendants(connection: sqlite3.Connection, workspace_id: str) -> list[str]:
    """Return the ids of everything below a workspace that was not removed."""
    found = connection.execute(
        "WITH RECURSIVE below (id) AS ("
        " SELECT id FROM workspaces WHERE parent_id = ?"
        " UNION SELECT workspaces.id FROM workspaces JOIN below ON workspaces.parent_id = below.id"
        ") SELECT id FROM workspaces WHERE status <> 'removed' AND id IN (SELECT id FROM below)",
        (workspace_id,),
    )
    return [row["id"] for row in found]


def may_communicate(connection: sqlite3.Connection, one: str, other: str) -> bool:
    """Apply rule 2.1 in its June form: the same, siblings, or one above the other; two unrelated roots may not talk."""
    if one == other:
        return _parent(connection, one) is not None
    first, second = _parent(connection, one), _parent(connection, other)
    if first is None or second is None:
        return False
    if first[0] is not None and first == second:
        return True
    return _is_above(connection, one, other) or _is_above(connection, other, one)


def insert(
    connection: sqlite3.Connection,
    *,
    workspace_id: str,
    name: str,
    now: int,
    status: str,
    runtime: str,
    role: str | None = None,
    model: str | None = None,
    tier: int = 3,
    parent_id: str | None = None,
    url: str = "",
    delivery_mode: str = "push",
    max_concurrent_tasks: int = 1,
    budget_limit: int | None = None,
    kind: str = "workspace",
    workspace_dir: str | None = None,
    workspace_access: str = "none",
    place: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Add a row with a fresh inbound secret."""
    connection.execute(
        "INSERT INTO workspaces (id, name, role, model, tier, runtime, status, parent_id, url, delivery_mode, max_concurrent_tasks,"
        " budget_limit, inbound_secret, last_heartbeat_at, created_at, updated_at, kind, workspace_dir, workspace_access, x, y)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            workspace_id,
            name,
            role,
            model,
            tier,
            runtime,
            status,
            parent_id,
            url,
            delivery_mode,
            max_concurrent_tasks,
            budget_limit,
            secrets.token_urlsafe(32),
            # A row that begins online is given the same time to show itself as one that just registered.
            now if status == "online" else None,
            now,
            now,
            kind,
            workspace_dir,
            workspace_access,
            *place,
        ),
    )


def set_registered(
    connection: sqlite3.Connection, workspace_id: str, *, url: str, delivery_mode: str, agent_card: str, now: int
) -> None:
    """Record a registration: the row is online."""
    connection.execute(
        "UPDATE workspaces SET url = ?, delivery_mode = ?, agent_card_json = ?, status = 'online', last_heartbeat_at = ?, updated_at = ?,"
        " register_failed_at = NULL WHERE id = ?",
        (url, delivery_mode, agent_card, now, now, workspace_id),
    )


def set_beat(
    connection: sqlite3.Connection,
    workspace_id: str,
    *,
    status: str,
    error_rate: float,
    sample_error: str,
    active_tasks: int,
    uptime_seconds: int,
    current_task: str,
    monthly_spend: int | None,
    agent_card: str | None,
    mcp_server_present: bool | None,
    mcp_unloaded_since: int | None,
    register_failed_at: int | None,
    now: int,
) -> None:
    """Record a heartbeat; a card only fills a gap and a spend only counts when given (contract 4.2, 24.2)."""
    connection.execute(
        "UPDATE workspaces SET status = ?, error_rate = ?, sample_error = ?, active_tasks = ?, uptime_seconds = ?, current_task = ?,"
        " monthly_spend = coalesce(?, monthly_spend), agent_card_json = coalesce(agent_card_json, ?),"
        " mcp_server_present = coalesce(?, mcp_server_present), mcp_unloaded_since = ?, register_failed_at = ?, last_heartbeat_at = ?,"
        " updated_at = ? WHERE id = ?",
        (
            status,
            error_rate,
            sample_error,
            active_tasks,
            uptime_seconds,
            current_task,
            monthly_spend,
            agent_card,
            mcp_server_present,
            mcp_unloaded_since,
            register_failed_at,
            now,
            now,
            workspace_id,
        ),
    )


def set_register_failed(connection: sqlite3.Connection, workspace_id: str, now: int) -> None:
    """Note that the workspace tried to register and was refused (24.1)."""
    connection.execute("UPDATE workspaces SET register_failed_at = ? WHERE id = ?", (now, workspace_id))


def has_platform_root(connection: sqlite3.Connection) -> bool:
    """Tell whether there is a workspace of kind `platform` (24.1)."""
    found = connection.execute("SELECT 1 FROM workspaces WHERE kind = 'platform' AND status <> 'removed'").fetchone()
    return found is not None


def set_card(connection: sqlite3.Connection, workspace_id: str, agent_card: str, now: int) -> None:
    """Replace the agent card."""
    connection.execute(
        "UPDATE workspaces SET agent_card_json = ?, updated_at = ? WHERE id = ?", (agent_card, now, workspace_id)
    )


def update(connection: sqlite3.Connection, workspace_id: str, changes: dict[str, str | int | None], now: int) -> None:
    """Change columns by name; the names come from the handler's own list, never from a request."""
    assignments = ", ".join(f"{column} = ?" for column in changes)
    connection.execute(
        f"UPDATE workspaces SET {assignments}, updated_at = ? WHERE id = ?",  # noqa: S608
        (*changes.values(), now, workspace_id),
    )


def move(connection: sqlite3.Connection, workspace_id: str, *, before: Iterable[str], to: str, now: int) -> bool:
    """Change the status of a row that has one of the statuses `before`; returns whether it had."""
    changed = connection.execute(
        "UPDATE workspaces SET status = ?, active_tasks = 0, updated_at = ?"
        " WHERE id = ? AND status IN (SELECT value FROM json_each(?))",
        (to, now, workspace_id, json.dumps(list(before))),
    )
    return changed.rowcount > 0


def sweep_stale(connection: sqlite3.Connection, *, older_than: int, now: int) -> list[str]:
    """Mark every silent workspace offline and return their ids (contract 2.5)."""
    found = connection.execute(
        "UPDATE workspaces SET status = 'offline', updated_at = ? WHERE status IN ('online', 'degraded')"
        " AND (last_heartbeat_at IS NULL OR last_heartbeat_at < ?) RETURNING id",
        (now, older_than),
    )
    return [row["id"] for row in found.fetchall()]


def reset_busy(connection: sqlite3.Connection, *, silent_since: int, now: int) -> list[tuple[str, str]]:
    """Free the workspaces that claim to be busy but gave no sign of life since then (12.7); returns their ids and current tasks."""
    found = connection.execute(
        "UPDATE workspaces SET active_tasks = 0, updated_at = ? WHERE active_tasks > 0 AND coalesce(last_heartbeat_at, 0) < ?"
        " AND NOT EXISTS (SELECT 1 FROM activity WHERE activity.workspace_id = workspaces.id AND activity.created_at >= ?)"
        " RETURNING id, current_task",
        (now, silent_since, silent_since),
    )
    return [(row["id"], row["current_task"]) for row in found.fetchall()]


def touch_outbound(connection: sqlite3.Connection, workspace_id: str, now: int) -> None:
    """Stamp the last message that a workspace sent."""
    connection.execute("UPDATE workspaces SET last_outbound_at = ? WHERE id = ?", (now, workspace_id))


def acknowledge(connection: sqlite3.Connection, workspace_id: str, seq: int) -> int:
    """Move the acknowledged sequence forward, never back; returns where it stands."""
    connection.execute(
        "UPDATE workspaces SET last_acked_seq = max(last_acked_seq, ?) WHERE id = ?", (seq, workspace_id)
    )
    row = get(connection, workspace_id)
    return 0 if row is None else row.last_acked_seq


def remove(connection: sqlite3.Connection, workspace_ids: Iterable[str], now: int) -> None:
    """Mark rows removed; they keep their history."""
    connection.executemany(
        "UPDATE workspaces SET status = 'removed', removed_at = ?, updated_at = ?, active_tasks = 0 WHERE id = ?",
        [(now, now, workspace_id) for workspace_id in workspace_ids],
    )


def purge(connection: sqlite3.Connection, workspace_id: str) -> None:
    """Delete a row with everything below and everything that belongs to it."""
    connection.execute("DELETE FROM workspaces WHERE id = ?", (workspace_id,))


def root_of(connection: sqlite3.Connection, workspace_id: str) -> str:
    """Return the workspace at the top of the hierarchy above this one, itself included."""
    current = workspace_id
    for _ in range(MAX_DEPTH):
        step = _parent(connection, current)
        if step is None or step[0] is None:
            break
        current = step[0]
    return current


def _parent(connection: sqlite3.Connection, workspace_id: str) -> tuple[str | None] | None:
    found = connection.execute("SELECT parent_id FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()
    return None if found is None else (found["parent_id"],)


def _is_above(connection: sqlite3.Connection, ancestor: str, workspace_id: str) -> bool:
    current = workspace_id
    for _ in range(MAX_DEPTH):
        step = _parent(connection, current)
        if step is None or step[0] is None:
            return False
        current = step[0]
        if current == ancestor:
            return True
    return False


def _row(found: sqlite3.Row) -> WorkspaceRow:
    return WorkspaceRow._make(found)
