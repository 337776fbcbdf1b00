"""The journal's rows of approvals: what was asked for, bound to the exact action by its hash, and whether it was used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import sqlite3

    from molecule_runtime.tools.journal import Owner

Api = Literal["requests", "approvals"]
"""Where the platform keeps it: among the requests, or in the older list of approvals (contract `platform-api.md` 9, 24.8)."""

MAX_ROWS: Final = 2000
MAX_AGE_SECONDS: Final = 31 * 24 * 3600.0

_WHOSE: Final = "origin = ? AND workspace_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for approval.

    Attributes:
        fingerprint: hash of the action and its arguments.
        expires: seconds since 1970; later than that it allows nothing.
    """

    request_id: str
    api: Api
    fingerprint: str
    expires: float


def keep(db: sqlite3.Connection, whose: Owner, asked: Asked) -> None:
    """Note a request that was made; one that is known stays as it is."""
    now = time.time()
    db.execute(
        "INSERT OR IGNORE INTO approvals (origin, workspace_id, request_id, api, fingerprint, status, created, expires)"
        " VALUES (?, ?, ?, ?, ?, 'open', ?, ?)",
        (whose.origin, whose.workspace_id, asked.request_id, asked.api, asked.fingerprint, now, asked.expires),
    )
    db.execute("DELETE FROM approvals WHERE created < ?", (now - MAX_AGE_SECONDS,))
    over: int = db.execute("SELECT count(*) FROM approvals").fetchone()[0] - MAX_ROWS
    if over > 0:
        db.execute(
            "DELETE FROM approvals WHERE number IN (SELECT number FROM approvals ORDER BY status = 'open', number LIMIT ?)",
            (over,),
        )


def open_for(db: sqlite3.Connection, whose: Owner, fingerprint: str) -> Asked | None:
    """Return the newest request for exactly this action that is neither used nor closed nor lapsed."""
    row = db.execute(
        f"SELECT request_id, api, fingerprint, expires FROM approvals WHERE {_WHOSE} AND fingerprint = ? AND status = 'open'"  # noqa: S608 - no value is in it
        " AND expires > ? ORDER BY number DESC LIMIT 1",
        (whose.origin, whose.workspace_id, fingerprint, time.time()),
    ).fetchone()
    return None if row is None else Asked(request_id=row[0], api=row[1], fingerprint=row[2], expires=row[3])


def is_known(db: sqlite3.Connection, whose: Owner, request_id: str) -> bool:
    """Tell whether a request is in the journal, in whatever state."""
    values = (whose.origin, whose.workspace_id, request_id)
    return db.execute(f"SELECT 1 FROM approvals WHERE {_WHOSE} AND request_id = ?", values).fetchone() is not None  # noqa: S608 - constants only; every value is a parameter


def use(db: sqlite3.Connection, whose: Owner, asked: Asked) -> bool:
    """Take an approval: once, for the action that it was asked for. Atomic among processes."""
    changed = db.execute(
        f"UPDATE approvals SET status = 'used', used = ? WHERE {_WHOSE} AND request_id = ? AND fingerprint = ? AND status = 'open'",  # noqa: S608 - constants only; every value is a parameter
        (time.time(), whose.origin, whose.workspace_id, asked.request_id, asked.fingerprint),
    )
    return changed.rowcount > 0


def close(db: sqlite3.Connection, whose: Owner, request_id: str) -> None:
    """Note that a request allows nothing: it was denied, taken back, or nobody decided in time."""
    db.execute(
        f"UPDATE approvals SET status = 'closed' WHERE {_WHOSE} AND request_id = ? AND status = 'open'",  # noqa: S608 - constants only; every value is a parameter
        (whose.origin, whose.workspace_id, request_id),
    )
