"""One file of the ledger: a SQLite database whose records can be added to and nothing else.

A ledger is a chain of segments: `audit_ledger.db`, `audit_ledger.000002.db`, ... Each begins with a record that continues the chain
of the one before, and a full one ends with a seal, after which it never changes.

A commit is written to the WAL file and not synced: the end of a process takes nothing of it, a power cut may take the last commits, and
those as wholes. `sync` brings them to the disk, and `fold` from the WAL file into the main file, at moments that the ledger chooses.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import sqlite3
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.tools.audit.records import COLUMNS, SEAL, Record, canonical_json, read_record, sign
from molecule_runtime.tools.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from molecule_runtime.tools.audit.keys import Key

_VERSION: Final = 1

LONG_BYTES: Final = 16 * 1024 * 1024
"""Of a WAL file that is worth to be folded: some 1,800 calls, each with a record."""

_SCHEMA: Final = """
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    model_used TEXT NOT NULL,
    outcome TEXT NOT NULL,
    input_hash TEXT,
    output_hash TEXT,
    human_oversight_flag INTEGER NOT NULL,
    risk_flag INTEGER NOT NULL,
    trace_id TEXT NOT NULL,
    content TEXT,
    key_id TEXT NOT NULL,
    prev_hmac TEXT,
    hmac TEXT NOT NULL
);
CREATE TABLE head (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    seq INTEGER NOT NULL,
    hmac TEXT NOT NULL,
    sealed INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    mac TEXT NOT NULL
);
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the audit ledger is append-only'); END;
CREATE TRIGGER entries_remain BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the audit ledger is append-only'); END;
CREATE TRIGGER entries_follow BEFORE INSERT ON entries
    WHEN EXISTS (SELECT 1 FROM entries) AND NOT EXISTS (
        SELECT 1 FROM entries WHERE seq = NEW.seq - 1 AND hmac = NEW.prev_hmac AND operation != 'ledger_seal'
        AND seq = (SELECT max(seq) FROM entries)
    )
    BEGIN SELECT RAISE(ABORT, 'the audit ledger is append-only'); END;
CREATE TRIGGER head_remains BEFORE DELETE ON head BEGIN SELECT RAISE(ABORT, 'the audit ledger is append-only'); END;
CREATE TRIGGER head_advances BEFORE UPDATE ON head
    WHEN NEW.seq <= OLD.seq OR OLD.sealed OR NOT EXISTS (SELECT 1 FROM entries WHERE seq = NEW.seq AND hmac = NEW.hmac)
    BEGIN SELECT RAISE(ABORT, 'the audit ledger is append-only'); END;
"""

_INSERT: Final = f"INSERT INTO entries ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})"  # noqa: S608 - our own column names
_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM entries"  # noqa: S608 - our own column names


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last record of a segment, signed, so that a segment that lost its end shows it."""

    seq: int
    hmac: str
    sealed: bool
    key_id: str
    mac: str

    @classmethod
    def of(cls, seq: int, hmac: str, operation: str, key: Key) -> Head:
        """Return the signed head for a segment that ends with the record `seq`."""
        sealed = operation == SEAL
        body = canonical_json({"seq": seq, "hmac": hmac, "sealed": sealed})
        return cls(seq=seq, hmac=hmac, sealed=sealed, key_id=key.id, mac=sign(key, "head", body))

    def expected_mac(self, key: Key) -> str:
        """Return what `mac` must be."""
        return sign(key, "head", canonical_json({"seq": self.seq, "hmac": self.hmac, "sealed": self.sealed}))


def path_of(ledger: Path, number: int) -> Path:
    """Return the file of a segment; the first is the ledger's own file."""
    return ledger if number == 1 else ledger.with_name(f"{ledger.stem}.{number:06d}{ledger.suffix}")


def numbers(ledger: Path) -> list[int]:
    """Return the numbers of the segments that are there, in order."""
    pattern = re.compile(re.escape(ledger.stem) + r"\.([0-9]{6})" + re.escape(ledger.suffix))
    found = [1] if ledger.exists() else []
    if ledger.parent.is_dir():
        found += [int(match[1]) for path in ledger.parent.iterdir() if (match := pattern.fullmatch(path.name))]
    return sorted(found)


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """Open a segment for writing, making it (0600) when there is none.

    Args:
        path: of the file.
        busy_seconds: to wait for other processes, while opening.

    Raises:
        OSError: the file cannot be made.
        sqlite3.Error: it is no database, or stayed locked for `busy_seconds`.
        AuditError: a newer version wrote it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # SQLite would create the file with the umask's mode; its -wal and -shm files copy the mode of the main file.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        _retrying(connection, "PRAGMA journal_mode=WAL", busy_seconds)
        # Where the file system allows no WAL, nothing but a sync of every commit keeps the file whole.
        connection.execute(f"PRAGMA synchronous={'NORMAL' if writes_ahead(connection) else 'FULL'}")
        # To fold costs two syncs, which no commit should have to pay for.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _retrying(connection: sqlite3.Connection, statement: str, seconds: float) -> None:
    """Run a statement for which SQLite does not wait by itself: the first switch of a file to WAL."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or time.monotonic() >= deadline:
                raise
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 - jitter
        else:
            return


def is_busy(exc: sqlite3.Error) -> bool:
    """Tell whether others held the file; their lock has several error codes."""
    return exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _check_version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > _VERSION:
        raise AuditError(f"the audit ledger {path} is of version {version}; a newer molecule-runtime-tools wrote it")
    return version


def writes_ahead(connection: sqlite3.Connection) -> bool:
    """Tell whether commits go to a WAL file, which makes them cheap."""
    return str(connection.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"


def sync(path: Path) -> None:
    """Bring what was committed to a segment to the disk, whichever process committed it.

    What is not in the WAL file any more is in the main file, which SQLite syncs before it lets go of the WAL.

    Raises:
        OSError: it cannot be brought there.
    """
    # The locks of SQLite are on the other two files, so to close this one takes none of them.
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(f"{path}-wal", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_long(path: Path) -> bool:
    """Tell whether the WAL file of a segment should be folded.

    Raises:
        OSError: nobody can tell.
    """
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size > LONG_BYTES
    except FileNotFoundError:
        return False


def fold(path: Path, *, busy_seconds: float) -> None:
    """Move what nobody reads any more from the WAL file into the main file; the next commit begins the WAL anew, and syncs once.

    On a connection of its own, so that those of others can go on to write.

    Raises:
        sqlite3.Error: the file cannot be used.
    """
    with closing(connect(path, busy_seconds=busy_seconds)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def transaction(connection: sqlite3.Connection, *, busy_seconds: float) -> Generator[None]:
    """Hold the write lock of the segment, which one process at a time has; all or nothing.

    Raises:
        sqlite3.OperationalError: others held it for `busy_seconds` (see `is_busy`).
    """
    if busy_seconds:
        connection.execute(f"PRAGMA busy_timeout={busy_seconds * 1000:.0f}")
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    finally:
        if busy_seconds:
            # Who does not want to wait does not have to say so, which costs a statement.
            connection.execute("PRAGMA busy_timeout=0")


def create(connection: sqlite3.Connection) -> None:
    """Make the tables; within a transaction."""
    # Not executescript, which would commit: the tables and the first record come into being together.
    statement = ""
    for line in _SCHEMA.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def head_of(connection: sqlite3.Connection) -> Head | None:
    """Return the head; None for a file whose first record is not written yet."""
    try:
        row = connection.execute("SELECT seq, hmac, sealed, key_id, mac FROM head").fetchone()
    except sqlite3.OperationalError:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            return None  # the tables come into being with the first record
        raise
    if row is None:
        return None
    return Head(
        seq=row["seq"],
        hmac=str(row["hmac"]),
        sealed=bool(row["sealed"]),
        key_id=str(row["key_id"]),
        mac=str(row["mac"]),
    )


def add(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Any]], head: Head) -> None:
    """Write records, as objects, and the head behind them; within a transaction."""
    connection.executemany(_INSERT, rows)
    connection.execute(
        "INSERT INTO head VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " seq = excluded.seq, hmac = excluded.hmac, sealed = excluded.sealed, key_id = excluded.key_id, mac = excluded.mac",
        (head.seq, head.hmac, head.sealed, head.key_id, head.mac),
    )


@contextmanager
def reading(path: Path, *, busy_seconds: float = 5.0) -> Generator[tuple[Head | None, Iterator[Record]]]:
    """Read a segment as it is at one moment, while others may go on writing: its head, and its records in order.

    Raises:
        sqlite3.Error: it is no database, or not of ours.
        AuditError: a newer version wrote it.
        ValueError: from the iterator: a row is not a record.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=busy_seconds, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        if _check_version(connection, path) == 0:
            yield None, iter(())
            return
        rows = connection.execute(f"{_SELECT} ORDER BY seq")
        yield head_of(connection), (read_record(dict(row)) for row in rows)
