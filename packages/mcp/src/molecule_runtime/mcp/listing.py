"""The inbox as a person looks at it: every mailbox, every message and what became of it, and a message handed out anew.

Blocking, as the store is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from molecule_runtime.mcp import owners
from molecule_runtime.mcp.store import MAX_WAITING, Mailbox, message_from

if TYPE_CHECKING:
    from molecule_runtime.mcp.store import InboxStore
    from molecule_runtime.tools import InboxMessage

State = Literal["waiting", "fetching", "pushed", "leased", "popped"]
"""`fetching`: its files are on their way; `pushed`: shown to a client that has not taken it; `leased`: an agent is handling it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxState:
    """One mailbox of the file.

    Attributes:
        waiting: messages that were not popped.
        leased: of these, those that somebody is handling.
        popped: messages that were popped and whose text is still here, so that they can be handed out anew.
        full: polling stopped, since so many wait.
        cursor: the last row of the platform that was read.
        polled_by: number of the living process that polls it; None for none.
        oldest: Unix seconds at which the oldest waiting message came; None without one.
    """

    mailbox: Mailbox
    waiting: int
    leased: int
    popped: int
    full: bool
    cursor: str | None
    polled_by: int | None
    oldest: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """One message of the file.

    Attributes:
        message: None where it was popped and only its id is kept.
        until: Unix seconds: end of the lease, or of the wait for its files; None where neither.
        holder: number of the process that has it; None for none.
        deliveries: how often it was handed out.
        received_at: Unix seconds; 0 where an earlier version took it.
        popped_at: Unix seconds.
    """

    mailbox: Mailbox
    activity_id: str
    message: InboxMessage | None
    state: State
    until: float | None
    holder: int | None
    deliveries: int
    received_at: float
    popped_at: float | None


def list_mailboxes(store: InboxStore) -> list[MailboxState]:
    """Return every mailbox of the file, by origin and workspace.

    Raises:
        StateError: the file cannot be read.
    """
    now = time.time()
    with store.database.reading() as db:
        counts = {
            Mailbox(row[0], row[1]): row[2:]
            for row in db.execute(
                "SELECT origin, workspace_id, sum(popped_at IS NULL),"
                " sum(popped_at IS NULL AND leased_until > ? AND NOT pushed),"
                " sum(popped_at IS NOT NULL AND body <> '{}'), min(CASE WHEN popped_at IS NULL THEN received_at END)"
                " FROM messages GROUP BY origin, workspace_id",
                (now,),
            )
        }
        cursors = {
            Mailbox(row[0], row[1]): str(row[2])
            for row in db.execute("SELECT origin, workspace_id, since_id FROM cursors")
        }
        pollers = {
            Mailbox(row[0], row[1]): str(row[2])
            for row in db.execute("SELECT origin, workspace_id, owner FROM pollers")
        }
    found: list[MailboxState] = []
    for mailbox in sorted({*counts, *cursors, *pollers}, key=lambda box: (box.origin, box.workspace_id)):
        waiting, leased, popped, oldest = counts.get(mailbox, (0, 0, 0, None))
        found.append(
            MailboxState(
                mailbox=mailbox,
                waiting=waiting,
                leased=leased,
                popped=popped,
                full=waiting >= MAX_WAITING,
                cursor=cursors.get(mailbox),
                polled_by=_living(pollers.get(mailbox, ""), store.owner),
                oldest=oldest,
            )
        )
    return found


def list_messages(
    store: InboxStore, *, mailbox: Mailbox | None = None, popped: bool = False, limit: int = 100, offset: int = 0
) -> list[StoredMessage]:
    """Return messages, oldest first: those that wait, or (`popped`) those that were popped.

    Args:
        store: the file.
        mailbox: None for all.
        popped: the other half.
        limit: how many at most.
        offset: how many to pass by.

    Raises:
        StateError: the file cannot be read.
    """
    where = "popped_at IS NOT NULL" if popped else "popped_at IS NULL"
    values: tuple[object, ...] = ()
    if mailbox is not None:
        where += " AND origin = ? AND workspace_id = ?"
        values = (mailbox.origin, mailbox.workspace_id)
    return _select(store, f"{where} ORDER BY position LIMIT ? OFFSET ?", (*values, limit, offset))


def find_messages(store: InboxStore, activity_id: str) -> list[StoredMessage]:
    """Return the messages of an id: none, one, or one of each tenant that uses it.

    Raises:
        StateError: the file cannot be read.
    """
    return _select(store, "activity_id = ? ORDER BY position", (activity_id,))


def requeue(store: InboxStore, mailbox: Mailbox, activity_id: str) -> bool:
    """Have a message handed out anew: end its lease, or take back that it was popped.

    False when there is no such message, or only its id is left.

    Raises:
        StateError: the file cannot be written.
    """
    with store.database.transaction() as db:
        return bool(
            db.execute(
                "UPDATE messages SET popped_at = NULL, leased_until = 0, holder = '', pushed = 0, pushes = 0"
                " WHERE origin = ? AND workspace_id = ? AND activity_id = ? AND body <> '{}'",
                (mailbox.origin, mailbox.workspace_id, activity_id),
            ).rowcount
        )


def _select(store: InboxStore, where: str, values: tuple[object, ...]) -> list[StoredMessage]:
    now = time.time()
    with store.database.reading() as db:
        rows = db.execute(
            "SELECT origin, workspace_id, activity_id, body, leased_until, holder, pushed, deliveries, received_at,"  # noqa: S608 - constants of this module
            f" held_until, popped_at FROM messages WHERE {where}",
            values,
        ).fetchall()
    return [_stored(row, now, store.owner) for row in rows]


def _stored(row: tuple[Any, ...], now: float, me: str) -> StoredMessage:
    (
        origin,
        workspace_id,
        activity_id,
        body,
        leased_until,
        holder,
        pushed,
        deliveries,
        received_at,
        held_until,
        popped_at,
    ) = row
    state: State = "waiting"
    until: float | None = None
    if popped_at is not None:
        state = "popped"
    elif leased_until > now:
        state, until = ("pushed" if pushed else "leased"), leased_until
    elif held_until > now:
        state, until = "fetching", held_until
    return StoredMessage(
        mailbox=Mailbox(origin, workspace_id),
        activity_id=activity_id,
        message=None if body == "{}" else message_from(body),
        state=state,
        until=until,
        holder=_living(holder, me) if state in {"leased", "pushed"} else None,
        deliveries=deliveries,
        received_at=received_at,
        popped_at=popped_at,
    )


def _living(owner: str, me: str) -> int | None:
    """Return the number of a process, unless it is gone."""
    number = owner.partition(":")[0]
    return int(number) if number.isdecimal() and not owners.is_gone(owner, me=me) else None
