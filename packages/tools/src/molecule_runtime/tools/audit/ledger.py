"""The writer of the ledger: one at a time, of however many threads and processes.

The lock is SQLite's own write lock, held for one batch. Within it the last record is read, and every new one is signed together with
the MAC of the one before, so the order of the file is the order of the chain.

What is appended is written when the append returns, and nobody who ends the process takes it back. It is on the disk five seconds later: to
wait for that would cost each call several times what it costs otherwise. So a power cut takes the last five seconds at most, and what it
leaves is the beginning of the chain, whole: a WAL is read up to the first commit that is not all there, and a segment is brought to the
disk before the next one begins. It never looks like a cut of the ledger, for a checkpoint is signed when its record is on the disk.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import uuid
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.tools.audit import checkpoints, segment
from molecule_runtime.tools.audit.checkpoints import Checkpoint
from molecule_runtime.tools.audit.records import OPEN, SEAL, Event, Record, mac_of
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

SYNC_SECONDS: Final = 5.0
"""After which what was appended is brought to the disk. Who appends in that moment may be held up by the disk, hence not more often."""

_FIELDS: Final = tuple(field.name for field in fields(Event))

BUSY_SECONDS: Final = 10.0
"""How long a writer waits for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What an append wrote: the records, and the checkpoint where one was due."""

    records: Sequence[Record]
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was appended at once: its end, in which segment, and whether a checkpoint of it is due, which `Ledger.sign` makes."""

    end: Head
    segment: int
    is_due: bool


class Ledger:
    """Appends to the ledger at a path. Safe to use from several threads and processes; blocking, but for `append_now`.

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
        self._first = 0
        self._is_ahead = False
        self._is_warm = False
        self._is_unsynced = False
        self._syncing: threading.Timer | None = None
        self._connection: sqlite3.Connection | None = None
        self._closing: weakref.finalize[[], Ledger] | None = None

    def append(self, events: Sequence[Event]) -> Appended:
        """Write events (at least one) to the end of the chain, all or none of them.

        Raises:
            AuditError: the file cannot be used, or others held it for longer than the time to wait.
        """
        with self._lock, self._translated():
            rows, head, is_due = self._append(events)
            number = self._number
            self._is_ahead = not is_due
        # Not under the lock: nobody who appends waits for the disk.
        made = self._checkpoint_where_possible(head, number) if is_due else None
        return Appended(records=[Record(**row) for row in rows], checkpoint=made)

    def append_now(self, events: Sequence[Event]) -> Written | None:
        """Do the same where nothing has to be waited for, neither another writer nor the disk; None where nothing was written.

        Then the file is not open yet, others hold it, or a segment ends, and `append` does it. A checkpoint that is due is left to the
        caller. Made for an event loop, which it holds up for less time than it takes to ask a thread.

        Raises:
            AuditError: the file cannot be used.
        """
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if not self._is_warm or self._connection is None:
                return None
            with self._translated():
                return self._append_warm(self._connection, events)
        finally:
            self._lock.release()

    def sign(self, written: Written) -> Checkpoint:
        """Make the checkpoint that is due; nobody who appends waits for it.

        Raises:
            AuditError: a file cannot be used.
        """
        with self._translated():
            return self._checkpoint(written.end, written.segment)

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
            number = self._number
            self._is_ahead = False
        with self._translated():
            return None if head is None else self._checkpoint(head, number)

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
            with segment.transaction(connection, busy_seconds=self._busy_seconds):
                head = segment.head_of(connection)
                if head is not None and not head.sealed:
                    self._add(connection, head, [self._seal()])
                    self._written()

    def close(self) -> None:
        """Sign how far the ledger has come, where anything was written since, and close the file; the next record opens it again."""
        with self._lock:
            if self._syncing is not None:
                self._syncing.cancel()
                self._is_unsynced = False
            try:
                with self._translated():
                    head = segment.head_of(self._connection) if self._connection is not None else None
                if head is not None and self._is_ahead:
                    self._checkpoint_where_possible(head, self._number)
            except AuditError as exc:
                logger.warning("the end of the ledger was not looked at: %s", exc)
            finally:
                if self._closing is not None:
                    self._closing()
                self._connection, self._closing, self._is_warm = None, None, False

    def _append_warm(self, connection: sqlite3.Connection, events: Sequence[Event]) -> Written | None:
        try:
            with segment.transaction(connection, busy_seconds=0):
                head = segment.head_of(connection)
                if head is None or head.sealed or self._is_full(head, len(events)):
                    return None
                _, end = self._add(connection, head, events)
        except sqlite3.OperationalError as exc:
            if segment.is_busy(exc):
                return None
            raise
        self._written()
        is_due = self._is_due(head.seq, end.seq)
        self._is_ahead = not is_due
        return Written(end=end, segment=self._number, is_due=is_due)

    def _append(self, events: Sequence[Event]) -> tuple[list[dict[str, Any]], Head, bool]:
        # Another process may seal the segment between our look and our lock, hence the loop; each round is a later segment.
        number = max(segment.numbers(self.path) or [1]) if self._connection is None else self._number
        previous: Head | None = None
        while True:
            connection = self._open(number)
            with segment.transaction(connection, busy_seconds=self._busy_seconds):
                head = segment.head_of(connection)
                before = head or previous
                if head is None:
                    head = self._begin(connection, number, previous)
                if not head.sealed:
                    self._first = int(connection.execute("SELECT min(seq) FROM entries").fetchone()[0])
                    full = self._is_full(head, len(events))
                    rows, head = self._add(connection, head, [*events, self._seal()] if full else events)
                    break
            number, previous = number + 1, head
        self._is_warm = segment.writes_ahead(connection)
        self._written()
        return rows[: len(events)], head, self._is_due(before.seq if before else 0, head.seq)

    def _begin(self, connection: sqlite3.Connection, number: int, previous: Head | None) -> Head:
        """Write the tables and the first record of a segment that is new."""
        if number > 1:
            before = segment.path_of(self.path, number - 1)
            if previous is None:
                # The first look met a file without a record: who made it was killed. The segment before it is sealed.
                with segment.reading(before) as (previous, _):
                    pass
            # What continues a record must not be on the disk before it.
            segment.sync(before)
            if previous is None or not previous.sealed:
                raise AuditError(f"the audit ledger {self.path} has a segment {number} but the one before does not end")
        segment.create(connection)
        opening = Event(agent_id="", operation=OPEN, model_used=str(number))
        return self._add(connection, previous, [opening])[1]

    def _add(
        self, connection: sqlite3.Connection, head: Head | None, events: Sequence[Event]
    ) -> tuple[list[dict[str, Any]], Head]:
        key = self._keys.current
        seq, previous = (0, None) if head is None else (head.seq, head.hmac)
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        rows: list[dict[str, Any]] = []
        for event in events:
            seq += 1
            row = _storable(event)
            row |= {"seq": seq, "id": str(uuid.uuid4()), "timestamp": now, "key_id": key.id, "prev_hmac": previous}
            row["hmac"] = previous = mac_of(row, key)
            rows.append(row)
        end = Head.of(seq, rows[-1]["hmac"], rows[-1]["operation"], key)
        segment.add(connection, rows, end)
        return rows, end

    def _is_full(self, head: Head, more: int) -> bool:
        return head.seq - self._first + 1 + more >= self._segment_records

    def _is_due(self, before: int, after: int) -> bool:
        return before // self._checkpoint_records != after // self._checkpoint_records

    def _written(self) -> None:
        """Have what was written brought to the disk."""
        self._is_ahead = True
        if self._is_unsynced:
            return
        self._is_unsynced = True
        self._syncing = threading.Timer(SYNC_SECONDS, self._sync)
        self._syncing.daemon = True
        try:
            self._syncing.start()
        except RuntimeError:  # no thread can be had, as in a process that ends
            self._sync()

    def _sync(self) -> None:
        # Not under the lock, which would hold up whoever appends. What is committed from here on is for the next timer.
        self._is_unsynced = False
        try:
            segment.sync(segment.path_of(self.path, self._number))
        except OSError as exc:
            logger.warning("the audit ledger %s is written, but not on the disk yet: %s", self.path, exc)

    def _seal(self) -> Event:
        return Event(agent_id="", operation=SEAL)

    def _checkpoint_where_possible(self, head: Head, number: int) -> Checkpoint | None:
        try:
            return self._checkpoint(head, number)
        except OSError as exc:
            # The records stand, which is what matters more.
            logger.warning("a checkpoint of the audit ledger %s was not written: %s", self.path, exc)
            return None

    def _checkpoint(self, head: Head, number: int) -> Checkpoint:
        path = segment.path_of(self.path, number)
        # First: else a power cut could leave a promise without what it promises.
        segment.sync(path)
        key = self._keys.current
        made = Checkpoint(
            seq=head.seq,
            head=head.hmac,
            segment=number,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            key_id=key.id,
        ).signed(key)
        try:
            checkpoints.append(self.path, made)
        except OSError:
            self._is_ahead = True
            raise
        finally:
            self._fold(path)
        return made

    def _fold(self, path: Path) -> None:
        """Keep the WAL file short, once it is worth a sync of both files; the first to append after that does so on a thread."""
        try:
            if segment.is_long(path):
                segment.fold(path, busy_seconds=self._busy_seconds)
                self._is_warm = False
        except (OSError, sqlite3.Error) as exc:
            # The records stand; the next checkpoint tries again.
            logger.warning("the WAL file of the audit ledger %s was not folded: %s", self.path, exc)

    def _open(self, number: int) -> sqlite3.Connection:
        if self._connection is not None and self._number == number:
            return self._connection
        if self._closing is not None:
            self._closing()
        self._is_warm = False
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
