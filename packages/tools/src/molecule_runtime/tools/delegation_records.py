"""The journal's rows of delegations: one for each intent, so that a retry is one delegation and a deliberate repeat is two.

A call that never came back (its process was killed, or nobody knows whether its request arrived) and the same call again are one
intent, with one id. Once a call has come back, the same words again are a new intent.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    import sqlite3

    from molecule_runtime.tools.journal import Journal, Owner

Mode = Literal["sync", "async"]
State = Literal["begun", "unknown", "queued", "dispatched", "completed", "failed"]
"""`begun`: a process is at it. `unknown`: the request may have arrived. The others are the platform's words."""

RETRY_SECONDS: Final = 3600.0
"""For which the same call counts as a retry of one that never came back."""

MAX_ROWS: Final = 5000
MAX_AGE_SECONDS: Final = 31 * 24 * 3600.0
"""Longer than the platform keeps a delegation (7 days, contract `platform-api.md` 6.1)."""

MAX_ANSWER_CHARS: Final = 64 * 1024
MAX_SUMMARY_CHARS: Final = 200

_COLUMNS: Final = (
    "intent, delegation_id, target_id, summary, mode, state, owner, queue_id, answer, created, changed, claimed"
)
_WHOSE: Final = "origin = ? AND workspace_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One delegation, as far as the journal knows.

    Attributes:
        intent: its idempotency key; for a synchronous one also its id, and that of its message.
        owner: the process that works on it.
        queue_id: where its message waits for a busy peer; `""` for nowhere.
        answer: what the peer said, or why it failed; None before its end.
        created: seconds since 1970, and so are `changed` and `claimed`.
        claimed: when the agent got the answer; None before that.
    """

    intent: str
    delegation_id: str
    target_id: str
    summary: str
    mode: Mode
    state: State
    owner: str
    queue_id: str
    answer: str | None
    created: float
    changed: float
    claimed: float | None


def begin(db: sqlite3.Connection, journal: Journal, whose: Owner, mode: Mode, target_id: str, task: str) -> Entry:
    """Return the intent of a call: that of a call like it which never came back, or a new one. Atomic among processes."""
    now = time.time()
    digest = hashlib.sha256(json.dumps([mode, target_id, task]).encode()).hexdigest()
    key = (whose.origin, whose.workspace_id)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE {_WHOSE} AND digest = ? AND state IN ('begun', 'unknown', 'queued')"  # noqa: S608 - no value is in it
        " AND claimed IS NULL AND changed > ? ORDER BY number DESC",
        (*key, digest, now - RETRY_SECONDS),
    )
    for row in rows:
        entry = Entry(**dict(zip(_COLUMNS.split(", "), row, strict=True)))
        if entry.state == "unknown" or journal.is_abandoned(entry.owner):
            db.execute(
                f"UPDATE delegations SET owner = ?, state = ?, changed = ? WHERE {_WHOSE} AND delegation_id = ?",  # noqa: S608 - constants only; every value is a parameter
                (journal.process, "queued" if entry.state == "queued" else "begun", now, *key, entry.delegation_id),
            )
            return entry
    intent = str(uuid.uuid4())
    _insert(db, journal, whose, intent, digest, target_id, redact_text(task[: MAX_SUMMARY_CHARS * 4]), mode, now)
    _evict(db, now)
    found = find(db, whose, intent)
    assert found is not None  # noqa: S101 - the row of this transaction
    return found


def find(db: sqlite3.Connection, whose: Owner, delegation_id: str) -> Entry | None:
    """Return one delegation of a workspace."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE {_WHOSE} AND delegation_id = ?",  # noqa: S608 - no value is in it
        (whose.origin, whose.workspace_id, delegation_id),
    ).fetchone()
    return None if row is None else Entry(**dict(zip(_COLUMNS.split(", "), row, strict=True)))


def newest(db: sqlite3.Connection, whose: Owner, limit: int) -> list[Entry]:
    """Return the newest delegations of a workspace that the agent did not get an answer to."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM delegations WHERE {_WHOSE} AND claimed IS NULL ORDER BY number DESC LIMIT ?",  # noqa: S608 - constants only; every value is a parameter
        (whose.origin, whose.workspace_id, limit),
    )
    return [Entry(**dict(zip(_COLUMNS.split(", "), row, strict=True))) for row in rows]


def started(db: sqlite3.Connection, whose: Owner, intent: str, delegation_id: str) -> None:
    """Note that the platform took a delegation, and under which id."""
    db.execute(
        f"UPDATE OR REPLACE delegations SET delegation_id = ?, state = 'dispatched', changed = ? WHERE {_WHOSE} AND intent = ?",  # noqa: S608 - constants only; every value is a parameter
        (delegation_id, time.time(), whose.origin, whose.workspace_id, intent),
    )


def moved(db: sqlite3.Connection, whose: Owner, delegation_id: str, state: State, queue_id: str = "") -> None:
    """Note how a delegation stands that has not ended."""
    db.execute(
        f"UPDATE delegations SET state = ?, queue_id = ?, changed = ? WHERE {_WHOSE} AND delegation_id = ?"  # noqa: S608 - constants only; every value is a parameter
        " AND state NOT IN ('completed', 'failed')",
        (state, queue_id, time.time(), whose.origin, whose.workspace_id, delegation_id),
    )


def released(db: sqlite3.Connection, whose: Owner, delegation_id: str) -> None:
    """Note that nobody works on a delegation any more, which is under way all the same: the same call again takes it up."""
    db.execute(
        "UPDATE delegations SET owner = '', state = CASE state WHEN 'begun' THEN 'unknown' ELSE state END, changed = ?"  # noqa: S608 - constants only; every value is a parameter
        f" WHERE {_WHOSE} AND delegation_id = ? AND claimed IS NULL",
        (time.time(), whose.origin, whose.workspace_id, delegation_id),
    )


def answered(
    db: sqlite3.Connection, whose: Owner, delegation_id: str, state: Literal["completed", "failed"], answer: str
) -> None:
    """Keep the answer to a delegation until the agent asks for it."""
    db.execute(
        f"UPDATE delegations SET state = ?, answer = ?, changed = ? WHERE {_WHOSE} AND delegation_id = ? AND claimed IS NULL",  # noqa: S608 - constants only; every value is a parameter
        (state, _storable(answer, MAX_ANSWER_CHARS), time.time(), whose.origin, whose.workspace_id, delegation_id),
    )


def claim(
    db: sqlite3.Connection,
    journal: Journal,
    whose: Owner,
    delegation_id: str,
    *,
    state: Literal["completed", "failed"],
    answer: str,
    target_id: str,
) -> float | None:
    """Take the answer of a delegation for the agent: None for the one who gets it first, and for others when that was.

    Of a delegation that the journal does not know it makes a row, so that this is true of it too.
    """
    now = time.time()
    known = find(db, whose, delegation_id)
    if known is None:
        _insert(db, journal, whose, delegation_id, "", target_id, "", "async", now)
    elif known.claimed is not None:
        return known.claimed
    db.execute(
        f"UPDATE delegations SET state = ?, answer = ?, changed = ?, claimed = ? WHERE {_WHOSE} AND delegation_id = ?",  # noqa: S608 - constants only; every value is a parameter
        (state, _storable(answer, MAX_ANSWER_CHARS), now, now, whose.origin, whose.workspace_id, delegation_id),
    )
    return None


def _insert(
    db: sqlite3.Connection,
    journal: Journal,
    whose: Owner,
    intent: str,
    digest: str,
    target_id: str,
    summary: str,
    mode: Mode,
    now: float,
) -> None:
    db.execute(
        "INSERT INTO delegations (origin, workspace_id, intent, delegation_id, digest, target_id, summary, mode, state, owner, queue_id,"
        " created, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'begun', ?, '', ?, ?)",
        (
            *(
                whose.origin,
                whose.workspace_id,
                intent,
                intent,
                digest,
                target_id,
                _storable(summary, MAX_SUMMARY_CHARS),
                mode,
            ),
            *(journal.process, now, now),
        ),
    )


def _storable(text: str, most: int) -> str:
    """Cut a text to what is kept; half of a surrogate pair, which JSON can carry, has no form in the file."""
    return text[:most].encode(errors="replace").decode()


def _evict(db: sqlite3.Connection, now: float) -> None:
    db.execute("DELETE FROM delegations WHERE changed < ?", (now - MAX_AGE_SECONDS,))
    over: int = db.execute("SELECT count(*) FROM delegations").fetchone()[0] - MAX_ROWS
    if over > 0:
        db.execute(
            "DELETE FROM delegations WHERE number IN"
            " (SELECT number FROM delegations ORDER BY claimed IS NULL, number LIMIT ?)",
            (over,),
        )
