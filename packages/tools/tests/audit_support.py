"""What the tests of the audit ledger share: a ledger in a folder, and a vandal with SQLite at hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from molecule_runtime.tools.audit import Event, KeyRing, Ledger, Verification, open_ring, verify

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TRIGGERS = ("entries_stay", "entries_remain", "entries_follow", "head_remains", "head_advances")


def ring(folder: Path, *, salt: str = "") -> KeyRing:
    return open_ring(folder / "ledger.key", salt=salt, create=True)


def calls(*tools: str, agent_id: str = "ws-1") -> list[Event]:
    return [Event(agent_id=agent_id, operation="tool_call", model_used=tool, input_hash="00") for tool in tools]


def written(folder: Path, records: int, **options: Any) -> Path:
    """A ledger with its opening record and so many calls, each written by itself."""
    path = folder / "ledger.db"
    ledger = Ledger(path, ring(folder), **options)
    for number in range(records):
        ledger.append(calls(f"tool-{number}"))
    ledger.close()
    return path


def checked(path: Path, **options: Any) -> Verification:
    return verify(path, ring(path.parent), **options)


def vandalise(path: Path, *statements: str, values: Sequence[Any] = ()) -> None:
    """Change the file as somebody who may write it could."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for trigger in TRIGGERS:
            db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            db.execute(statement, values)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
