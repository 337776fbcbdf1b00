"""The writer of the ledger: one at a time, of however many threads and processes.

The lock is SQLite's own write lock, held for one batch. Within it the last record is read, and every new one is signed together with
the MAC of the one before, so the order of the file is the order of the chain.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import uuid
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.tools.audit import checkpoints, segment
from molecule_runtime.tools.audit.checkpoints import Checkpoint
from molecule_runtime.tools.audit.records import OPEN, SEAL, Event, Record
from molecule_runtime.tools.audit.segment import Head
from molecule_runtime.tools.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from molecule_runtime.tools.audit.keys import KeyRing

logger = logging.getLogger(__name__)

SEGMENT_RECORDS: Final = 100_000
"""Records of one file, some 60 MB without content; then the next begins."""

CHECKPOINT_RECORDS: Final = 500
"""Records between two checkpoints."""

_FIELDS: Final = tuple(field.name for field in fields(Event))

BUSY_SECONDS: Final = 10.0
"""How long a writer waits for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What an append wrote: the records, and the checkpoint where one was due."""

    records: Sequence[Record]
    checkpoint: Checkpoint | None


class Ledger:
    """Appends to the ledger at a path. Safe to use from several threads and processes; blocking, so callers use a thread.

    Nothing is opened before the first record.
    """

    def __init__(
        self,
        path: Path,
        keys: KeyRing,
        *,
        segment_records: int = SEGMENT_RECORDS,
        checkpoint_records: int = CHECKPOINT_RECORDS,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.path = path
        self._keys = keys
        self._segment_records = segment_records
        self._checkpoint_records = checkpoint_records
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._number = 0
        self._is_ahead = False
        self._connection: sqlite3.Connection | None = None
        self._closing: weakref.finalize[[], Ledger] | None = None

    def append(self, events: Sequence[Event]) -> Appended:
        """Write events (at least one) to the end of the chain, all or none of them.

        Raises:
            AuditError: the file cannot be used, or others held it for longer than the time to wait.
        """
        with self._lock, self._translated():
            records, head = self._append(events)
            self._is_ahead = True
            every = self._checkpoint_records
            is_due = (records[0].seq - 1) // every != head.seq // every
            return Appended(records=records, checkpoint=self._checkpoint_where_possible(head) if is_due else None)

    def checkpoint(self) -> Checkpoint | None:
        """Sign how far the ledger has come and write that beside it; None for a ledger without a record.

        Raises:
            AuditError: a file cannot be used.
        """
        with self._lock, self._translated():
            found = segment.numbers(self.path)
            if not found:
                return None
            head = segment.head_of(self._open(found[-1]))
            return None if head is None else self._checkpoint(head)

    def rotate(self) -> None:
        """End the current segment now; the next record begins a new one. A ledger without a record stays without.

        Raises:
            AuditError: a file cannot be used.
        """
        with self._lock, self._translated():
            found = segment.numbers(self.path)
            if not found:
                return
            connection = self._open(found[-1])
            with segment.transaction(connection):
                head = segment.head_of(connection)
                if head is not None and not head.sealed:
                    self._add(connection, head, [self._seal()])

    def close(self) -> None:
        """Sign how far the ledger has come, where anything was written since, and close the file; the next record opens it again."""
        with self._lock:
            try:
                with self._translated():
                    head = segment.head_of(self._connection) if self._connection is not None else None
                if head is not None and self._is_ahead:
                    self._checkpoint_where_possible(head)
            except AuditError as exc:
                logger.warning("the end of the ledger was not looked at: %s", exc)
            finally:
                if self._closing is not None:
                    self._closing()
                self._connection, self._closing = None, None

    def _append(self, events: Sequence[Event]) -> tuple[list[Record], Head]:
        # Another process may seal the segment between our look and our lock, hence the loop; each round is a later segment.
        number = max(segment.numbers(self.path) or [1]) if self._connection is None else self._number
        previous: Head | None = None
        while True:
            connection = self._open(number)
            with segment.transaction(connection):
                head = segment.head_of(connection)
                if head is None:
                    head = self._begin(connection, number, previous)
                if not head.sealed:
                    full = self._is_full(connection, len(events))
                    records = self._add(connection, head, [*events, self._seal()] if full else events)
                    head = Head.of(records[-1], self._keys.current)
                    return records[: len(events)], head
            number, previous = number + 1, head

    def _begin(self, connection: sqlite3.Connection, number: int, previous: Head | None) -> Head:
        """Write the tables and the first record of a segment that is new."""
        if previous is None and number > 1:
            # The first look met a file without a record: who made it was killed. The segment before it is sealed.
            with segment.reading(segment.path_of(self.path, number - 1)) as (previous, _):
                pass
        if number > 1 and (previous is None or not previous.sealed):
            raise AuditError(f"the audit ledger {self.path} has a segment {number} but the one before does not end")
        segment.create(connection)
        opening = Event(agent_id="", operation=OPEN, model_used=str(number))
        (record,) = self._add(connection, previous, [opening])
        return Head.of(record, self._keys.current)

    def _add(self, connection: sqlite3.Connection, head: Head | None, events: Sequence[Event]) -> list[Record]:
        key = self._keys.current
        seq, previous = (0, None) if head is None else (head.seq, head.hmac)
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        records: list[Record] = []
        for event in events:
            seq += 1
            unsigned = Record(
                **_storable(event), seq=seq, id=str(uuid.uuid4()), timestamp=now, key_id=key.id, prev_hmac=previous
            )
            previous = unsigned.mac(key)
            records.append(replace(unsigned, hmac=previous))
        segment.add(connection, records, Head.of(records[-1], key))
        return records

    def _is_full(self, connection: sqlite3.Connection, more: int) -> bool:
        first = connection.execute("SELECT min(seq) AS first, max(seq) AS last FROM entries").fetchone()
        return int(first["last"]) - int(first["first"]) + 1 + more >= self._segment_records

    def _seal(self) -> Event:
        return Event(agent_id="", operation=SEAL)

    def _checkpoint_where_possible(self, head: Head) -> Checkpoint | None:
        try:
            return self._checkpoint(head)
        except OSError as exc:
            # The records stand, which is what matters more.
            logger.warning("a checkpoint of the audit ledger %s was not written: %s", self.path, exc)
            return None

    def _checkpoint(self, head: Head) -> Checkpoint:
        key = self._keys.current
        made = Checkpoint(
            seq=head.seq,
            head=head.hmac,
            segment=self._number,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            key_id=key.id,
        ).signed(key)
        checkpoints.append(self.path, made)
        self._is_ahead = False
        return made

    def _open(self, number: int) -> sqlite3.Connection:
        if self._connection is not None and self._number == number:
            return self._connection
        if self._closing is not None:
            self._closing()
        path = segment.path_of(self.path, number)
        self._connection = segment.connect(path, busy_seconds=self._busy_seconds)
        self._closing = weakref.finalize(self, self._connection.close)
        self._number = number
        return self._connection

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as exc:
            raise AuditError(f"the audit ledger {self.path} cannot be used: {exc}; see AUDIT_LEDGER_DB") from exc


def _storable(event: Event) -> dict[str, Any]:
    """Return the fields, without halves of surrogate pairs, which SQLite cannot keep."""
    storable: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(event, name)
        is_odd = isinstance(value, str) and not value.isascii()
        storable[name] = value.encode("utf-8", "replace").decode() if is_odd else value
    return storable
