"""What the tests of the audit ledger share: a ledger in a folder, and a vandal with SQLite at hand."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molecule_runtime.tools.audit import Event, KeyRing, Ledger, Verification, open_ring, verify

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    import pytest

WAL_HEADER, WAL_FRAME = 32, 24 + 4096
"""Bytes; "The WAL File Format" at sqlite.org."""

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


class Disk:
    """Knows what is certain to be on the disk: what each file held when it was last synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        """The names of the files that were synced, in order."""
        self._contents: dict[Path, bytes] = {}
        self._events: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        sync = os.fsync

        def spied(descriptor: int) -> None:
            sync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            self._contents[path] = path.read_bytes()
            self.order.append(path.name)
            self._events[path.name].set()

        monkeypatch.setattr(os, "fsync", spied)

    def synced(self, name: str) -> threading.Event:
        """Set when a file of this name was synced."""
        return self._events[name]

    def after_a_power_cut(self, folder: Path, left: Path, chance: random.Random) -> None:
        """Copy a ledger as a power cut could leave it: any of what was written to a WAL since its last sync may be missing.

        Its header is synced by SQLite itself, before what follows it; everything else is in files that are only written and synced.
        """
        left.mkdir()
        for path in folder.iterdir():
            content = path.read_bytes()
            if path.name.endswith("-wal") and content:
                certain = self._contents.get(path, b"").ljust(len(content), b"\0")
                pieces = [content[:WAL_HEADER]]
                for start in range(WAL_HEADER, len(content), WAL_FRAME):
                    end = start + WAL_FRAME
                    pieces.append((content if chance.random() < 0.8 else certain)[start:end])
                content = b"".join(pieces)
            if not path.name.endswith("-shm"):  # that is memory
                (left / path.name).write_bytes(content)
                (left / path.name).chmod(0o600)


def vandalise(path: Path, *statements: str, values: Sequence[Any] = ()) -> None:
    """Change the file as somebody who may write it could."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for trigger in TRIGGERS:
            db.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            db.execute(statement, values)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
