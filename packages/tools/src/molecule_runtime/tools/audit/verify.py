"""Verification: does every record stand where it was written, unchanged, and is none missing?"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.tools.audit import checkpoints, segment
from molecule_runtime.tools.audit.records import OPEN, SEAL, Record, read_record, same
from molecule_runtime.tools.errors import AuditError, LedgerKeyError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence
    from pathlib import Path

    from molecule_runtime.tools.audit.checkpoints import Checkpoint
    from molecule_runtime.tools.audit.keys import KeyRing
    from molecule_runtime.tools.audit.segment import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a verification found.

    Attributes:
        events: records that were looked at; those of one agent where one was asked for.
        last_seq: number of the last record; 0 for an empty ledger.
        segments: how many files.
        checkpoints: how many were compared.
        problem: the first thing that is wrong, `""` for nothing.
        first_bad_id: the record that it is about, where it is about one.
    """

    events: int
    last_seq: int
    segments: int
    checkpoints: int
    problem: str = ""
    first_bad_id: str | None = None

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problem


class _BrokenError(Exception):
    """Ends a verification; the first argument says what is wrong."""

    def __init__(self, problem: str, record: Record | None = None) -> None:
        super().__init__(problem)
        self.record = record


class _Chain:
    """Follows the records one by one; memory does not grow with the ledger."""

    def __init__(self, keys: KeyRing, statements: Iterable[Checkpoint], agent_id: str | None) -> None:
        self._keys = keys
        self._agent_id = agent_id
        self._due = sorted(statements, key=lambda checkpoint: checkpoint.seq, reverse=True)
        self.compared = 0
        self.events = 0
        self.last: Record | None = None

    def follow(self, record: Record) -> None:
        last = self.last
        if last is not None and record.seq != last.seq + 1:
            raise _BrokenError(f"record {record.seq} follows {last.seq}: records are missing or out of order", record)
        if last is not None and record.prev_hmac != last.hmac:
            raise _BrokenError(f"record {record.seq} does not continue record {last.seq}", record)
        if last is None and record.seq == 1 and record.prev_hmac is not None:
            raise _BrokenError("record 1 continues a record that is not there", record)
        key = self._keys.known.get(record.key_id)
        if key is None:
            raise _unknown({record.key_id})
        if not same(record.hmac, record.mac(key)):
            raise _BrokenError(f"record {record.seq} was changed: its MAC is wrong", record)
        if (last is None or last.operation == SEAL) != (record.operation == OPEN):
            raise _BrokenError(f"record {record.seq}: a segment begins or ends where it must not", record)
        while self._due and self._due[-1].seq <= record.seq:
            checkpoint = self._due.pop()
            # One that is older than the first record here belongs to a part that is kept elsewhere.
            if checkpoint.seq == record.seq:
                self.compared += 1
                if checkpoint.head != record.hmac:
                    raise _BrokenError(f"record {record.seq} is not the one that a signed checkpoint names", record)
        self.last = record
        self.events += self._agent_id is None or record.agent_id == self._agent_id

    def end(self) -> None:
        if self._due:
            last = self.last.seq if self.last else 0
            raise _BrokenError(
                f"the ledger ends with record {last}, but a signed checkpoint knows record {self._due[0].seq}: the end was cut off"
            )

    def check_head(self, head: Head, number: int) -> None:
        key = self._keys.known.get(head.key_id)
        if key is None:
            raise _unknown({head.key_id})
        if not same(head.mac, head.expected_mac(key)):
            raise _BrokenError(f"the signed end of segment {number} was changed")
        last = self.last
        if last is None or last.seq != head.seq or last.hmac != head.hmac:
            raise _BrokenError(
                f"segment {number} ends with record {last.seq if last else 0}, and it must with {head.seq}"
            )
        if head.sealed != (last.operation == SEAL):
            raise _BrokenError(f"segment {number} is marked as ended, and is not", last)


def verify(
    path: Path,
    keys: KeyRing,
    *,
    agent_id: str | None = None,
    anchors: Sequence[Checkpoint] = (),
    partial: bool = False,
) -> Verification:
    """Verify a whole ledger: every record, the ends of its segments, and the checkpoints beside it. Blocking.

    Args:
        path: the ledger.
        keys: that it was signed with.
        agent_id: count this workspace's records only; the chain is one, so all are verified.
        anchors: checkpoints that were kept elsewhere.
        partial: the oldest segments may be missing, because they are archived elsewhere.

    Raises:
        LedgerKeyError: records are signed with a key that is not on the ring.
        AuditError: a file cannot be read.
    """
    with _translated(path):
        try:
            statements = [*checkpoints.read(checkpoints.file_of(path)), *anchors]
            chain = _Chain(keys, _trusted(statements, keys), agent_id)
        except (_BrokenError, ValueError) as exc:
            return Verification(events=0, last_seq=0, segments=0, checkpoints=0, problem=str(exc))
        numbers = segment.numbers(path)
        problem, bad = "", None
        try:
            _follow(path, chain, numbers, partial=partial)
        except _BrokenError as exc:
            problem, bad = str(exc), exc.record
    return Verification(
        events=chain.events,
        last_seq=chain.last.seq if chain.last else 0,
        segments=len(numbers),
        checkpoints=chain.compared,
        problem=problem,
        first_bad_id=bad.id if bad else None,
    )


def verify_export(lines: Iterable[str], keys: KeyRing, *, anchors: Sequence[Checkpoint] = ()) -> Verification:
    """Verify what `export` wrote, whole and without a filter.

    Raises:
        LedgerKeyError: records are signed with a key that is not on the ring.
    """
    problem, bad = "", None
    try:
        chain = _Chain(keys, _trusted(anchors, keys), None)
    except _BrokenError as exc:
        return Verification(events=0, last_seq=0, segments=0, checkpoints=0, problem=str(exc))
    try:
        for line in lines:
            chain.follow(parse_line(line))
        chain.end()
    except _BrokenError as exc:
        problem, bad = str(exc), exc.record
    except (ValueError, RecursionError) as exc:
        problem = f"line {chain.events + 1} is not a record of the ledger ({exc})"
    return Verification(
        events=chain.events,
        last_seq=chain.last.seq if chain.last else 0,
        segments=0,
        checkpoints=chain.compared,
        problem=problem,
        first_bad_id=bad.id if bad else None,
    )


def parse_line(line: str) -> Record:
    """Return the record of a line of an export.

    Raises:
        ValueError: it is none.
    """
    body: Any = json.loads(line)
    if not isinstance(body, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of a file, not of a caller
    return read_record(cast("dict[str, Any]", body))


def records(path: Path, *, agent_id: str | None = None) -> Iterator[Record]:
    """Yield every record of the ledger in order, or those of one workspace; nothing is verified.

    Raises:
        AuditError: a file cannot be read.
    """
    with _translated(path):
        for number in segment.numbers(path):
            with segment.reading(segment.path_of(path, number)) as (_, rows):
                yield from (row for row in rows if agent_id is None or row.agent_id == agent_id)


def _follow(path: Path, chain: _Chain, numbers: Sequence[int], *, partial: bool) -> None:
    if numbers and numbers[0] != 1 and not partial:
        raise _BrokenError(f"the ledger begins with segment {numbers[0]}; where are those before it? (--partial)")
    for place, number in enumerate(numbers):
        if number != numbers[0] + place:
            raise _BrokenError(f"segment {numbers[0] + place} is missing")
        if place and chain.last is not None and chain.last.operation != SEAL:
            raise _BrokenError(f"segment {number - 1} was not ended, and there is a segment {number}", chain.last)
        with segment.reading(segment.path_of(path, number)) as (head, rows):
            before = chain.last
            try:
                for record in rows:
                    chain.follow(record)
            except ValueError as exc:
                raise _BrokenError(f"segment {number}: {exc}") from None
            if head is not None:
                chain.check_head(head, number)
            elif chain.last is not before or number != numbers[-1]:
                raise _BrokenError(f"segment {number} has lost its signed end")
    chain.end()


def _trusted(statements: Sequence[Checkpoint], keys: KeyRing) -> list[Checkpoint]:
    if unknown := checkpoints.unknown_keys(statements, keys):
        raise _unknown(unknown)
    for checkpoint in statements:
        if not checkpoint.is_signed_by(keys.known[checkpoint.key_id]):
            raise _BrokenError(f"the checkpoint of record {checkpoint.seq} was changed: its signature is wrong")
    return list(statements)


def _unknown(ids: Iterable[str]) -> LedgerKeyError:
    return LedgerKeyError(
        f"the ledger is signed with the key {', '.join(sorted(ids))}, which is neither in the key file nor AUDIT_LEDGER_SALT"
    )


@contextmanager
def _translated(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as exc:
        raise AuditError(f"the audit ledger {path} cannot be read: {exc}") from exc
