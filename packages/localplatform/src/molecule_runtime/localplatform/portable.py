"""A platform's database as portable JSON: out of one SQLite file, and into another.

    {"format": "molecule-local-export", "version": 1, "created_at": …, "schema": 3, "with_secrets": false,
     "sequences": {"activity": 812}, "tables": {"workspaces": [{"id": …}, …], …}}

A row is an object of its columns, bytes are `{"$base64": …}`. `schema` is the version of the database, so an older export is read as that
version had it and then brought up to date like an older database. `sequences` are the counters of rows that are numbered for ever: agents
remember how far they have read.

Without secrets an export has no tokens, no organisation tokens, no inbound secrets (new ones are made when it is imported) and of the
secrets only the model, which is none. What people and agents wrote is exported as it is.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote

from molecule_runtime.localplatform import timestamps
from molecule_runtime.localplatform.errors import CommandError, DataFolderError
from molecule_runtime.localplatform.json_stream import JsonStream, JsonStreamError
from molecule_runtime.localplatform.store.database import migrations

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

FORMAT = "molecule-local-export"
VERSION = 1

SECRET_TABLES: Mapping[str, str] = {"tokens": "0", "org_tokens": "0", "secrets": "key = 'MODEL'"}
"""Tables of secrets, with the condition (SQL) for the rows that are none."""

SECRET_COLUMNS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("workspaces", "inbound_secret"): lambda: secrets.token_urlsafe(32)
}
"""Columns that hold a secret, with what makes a new one."""

_BASE64 = "$base64"
_BUSY_SECONDS = 5.0
_SHOWN_VIOLATIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an export says of itself."""

    schema: int
    created_at: str
    with_secrets: bool
    sequences: Mapping[str, int]


def export(path: Path, write: Callable[[bytes], object], *, with_secrets: bool, now: int) -> dict[str, int]:
    """Write the database as it is at one moment, whether or not a platform works on it; returns how many rows of which table.

    Raises:
        DataFolderError: there is no such database, or it is of a newer version.
        CommandError: it holds something that JSON cannot.
    """
    counts: dict[str, int] = {}
    with _opened(path) as connection:
        connection.execute("BEGIN")  # from the first read on, one snapshot
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        _check_schema(schema, str(path))
        header = {
            "format": FORMAT,
            "version": VERSION,
            "created_at": timestamps.render(now),
            "schema": schema,
            "with_secrets": with_secrets,
            "sequences": _sequences(connection),
        }
        write(_dump(header)[:-1] + b',"tables":{')
        for number, table in enumerate(_tables(connection)):
            condition = "1" if with_secrets else SECRET_TABLES.get(table, "1")
            left_out = () if with_secrets else tuple(column for name, column in SECRET_COLUMNS if name == table)
            write(b"%b\n%b:[" % (b"," if number else b"", _dump(table)))
            counts[table] = 0
            for row in _rows(connection, table, condition):
                body = {column: _out(value) for column, value in row.items() if column not in left_out}
                try:
                    line = _dump(body)
                except ValueError as exc:
                    raise CommandError(f"row {counts[table] + 1} of {table} cannot be exported: {exc}") from None
                write((b",\n" if counts[table] else b"\n") + line)
                counts[table] += 1
            write(b"\n]")
        write(b"\n}}\n")
    return counts


def read_header(source: IO[str]) -> Header:
    """Read an export through to its end, and return what it says of itself.

    Raises:
        CommandError: it is no export, or one that a newer molecule-local made.
    """
    found: dict[str, Any] = {}
    with _readable():
        stream = JsonStream(source)
        for key in stream.members():
            if key == "tables":
                for _ in stream.members():
                    for _ in stream.items():
                        stream.value()
            else:
                found[key] = stream.value()
        stream.end()
    if found.get("format") != FORMAT:
        raise CommandError("the file is no export of molecule-local; make one with: molecule-local export FILE")
    version, schema, sequences = _number_in(found, "version"), _number_in(found, "schema"), found.get("sequences", {})
    if version > VERSION:
        raise CommandError(
            f"the export is of format version {version} and this molecule-local reads {VERSION}; {_UPGRADE}"
        )
    known = len(migrations())
    if schema > known:
        raise CommandError(
            f"the export is of database version {schema} and this molecule-local knows {known}; {_UPGRADE}"
        )
    if not isinstance(sequences, dict) or not all(
        _is_number(value) for value in cast("dict[str, Any]", sequences).values()
    ):
        raise CommandError("sequences of the export must be whole numbers; it was changed")
    return Header(
        schema=schema,
        created_at=str(found.get("created_at") or ""),
        with_secrets=found.get("with_secrets") is True,
        sequences=cast("dict[str, int]", sequences),
    )


def build(path: Path, source: IO[str], header: Header) -> dict[str, int]:
    """Make a new database of an export; returns how many rows of which table it has.

    Raises:
        CommandError: something in the export does not fit; the file at `path` is then of no use.
    """
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            # Nobody but this process knows of the file until it is complete, and then it is brought to disk as a whole.
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            scripts = migrations()
            for number, script in scripts[: header.schema]:
                _migrate(connection, number, script)
            connection.execute("BEGIN IMMEDIATE")
            _fill(connection, source, header)
            connection.execute("COMMIT")
            connection.execute("PRAGMA foreign_keys = ON")
            for number, script in scripts[header.schema :]:
                _migrate(connection, number, script)
            _rebuild_search(connection)
            _check(connection)
            return {table: _count(connection, table) for table in _tables(connection)}
    except sqlite3.Error as exc:
        raise CommandError(f"no database can be made of the export: {exc}") from exc


def is_empty(path: Path) -> bool:
    """Tell whether a database holds nothing, or is not there.

    Raises:
        DataFolderError: it cannot be read.
    """
    if not path.exists() or path.stat().st_size == 0:
        return True
    with _opened(path) as connection:
        return not any(_count(connection, table) for table in _tables(connection))


def settle(path: Path) -> None:
    """Bring everything that a database has beside its file into it.

    Raises:
        CommandError: another program uses it.
    """
    with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise CommandError(f"another program reads {str(path)!r}; end it and try again")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


# --- out ------------------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Generator[sqlite3.Connection]:
    if not path.is_file():
        raise DataFolderError(f"there is no database at {str(path)!r}; name its folder with --data")
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
        )
        with closing(connection):
            yield connection
    except sqlite3.Error as exc:
        raise DataFolderError(f"database {str(path)!r} cannot be read ({exc})") from exc


def _check_schema(schema: int, path: str) -> None:
    known = len(migrations())
    if not 1 <= schema <= known:
        raise DataFolderError(
            f"database {path!r} is of version {schema} and this molecule-local knows 1 to {known}; {_UPGRADE}"
        )


def _tables(connection: sqlite3.Connection) -> list[str]:
    """Return the tables that hold data, in a fixed order: not SQLite's own, and not what a search index consists of."""
    found = connection.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name"
    )
    return [name for (name,) in found if not name.startswith("sqlite_")]


def _rows(connection: sqlite3.Connection, table: str, condition: str) -> Iterator[dict[str, Any]]:
    columns = _columns(connection, table)
    listed = ", ".join(_quoted(column) for column in columns)
    # The order in which they came: where two are otherwise equal, it counts.
    (rowless,) = connection.execute("SELECT wr FROM pragma_table_list(?) WHERE schema = 'main'", (table,)).fetchone()
    order = listed if rowless else "rowid"
    for values in connection.execute(f"SELECT {listed} FROM {_quoted(table)} WHERE {condition} ORDER BY {order}"):  # noqa: S608
        yield dict(zip(columns, values, strict=True))


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    # Without those that SQLite computes.
    return [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?) ORDER BY cid", (table,))]


def _sequences(connection: sqlite3.Connection) -> dict[str, int]:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'").fetchone() is None:
        return {}
    return dict(connection.execute("SELECT name, seq FROM sqlite_sequence ORDER BY name").fetchall())


def _out(value: object) -> object:
    return {_BASE64: base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# --- in -------------------------------------------------------------------------------------------------------------------


def _migrate(connection: sqlite3.Connection, number: int, script: str) -> None:
    connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _fill(connection: sqlite3.Connection, source: IO[str], header: Header) -> None:
    known = {table: _columns(connection, table) for table in _tables(connection)}
    for table in known:
        # A migration may have put rows there; the export has them.
        connection.execute(f"DELETE FROM {_quoted(table)}")  # noqa: S608
    seen: set[str] = set()
    with _readable():
        stream = JsonStream(source)
        for key in stream.members():
            if key != "tables":
                stream.value()
                continue
            for table in stream.members():
                if table not in known:
                    raise CommandError(
                        f"the export has a table {table!r}, which database version {header.schema} has not"
                    )
                if table in seen:
                    raise CommandError(f"the export has the table {table!r} twice")
                seen.add(table)
                for number, _ in enumerate(stream.items(), 1):
                    _insert(connection, table, known[table], stream.value(), number)
    for table, last in header.sequences.items():
        if table not in known:
            raise CommandError(f"the export counts rows of {table!r}, which database version {header.schema} has not")
        # Rows that were pruned leave the counter ahead of the last one.
        changed = connection.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?", (last, table))
        if not changed.rowcount:
            connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))
    _check_references(connection)


def _insert(connection: sqlite3.Connection, table: str, columns: list[str], row: object, number: int) -> None:
    place = f"row {number} of {table}"
    if not isinstance(row, dict):
        raise CommandError(f"{place} is not an object")
    values = {column: _in(value, f"{place}: {column}") for column, value in cast("dict[str, Any]", row).items()}
    if unknown := sorted(values.keys() - set(columns)):
        raise CommandError(f"{place} has a column {unknown[0]!r}, which the table has not")
    for (name, column), make in SECRET_COLUMNS.items():
        if name == table and values.get(column) is None:
            values[column] = make()
    listed = ", ".join(_quoted(column) for column in values)
    marks = ", ".join("?" * len(values))
    try:
        connection.execute(f"INSERT INTO {_quoted(table)} ({listed}) VALUES ({marks})", tuple(values.values()))  # noqa: S608
    except (sqlite3.Error, OverflowError, UnicodeEncodeError) as exc:
        raise CommandError(f"{place} does not fit: {_reason(exc)}") from None


def _in(value: object, place: str) -> object:
    if isinstance(value, dict):
        body = cast("dict[str, Any]", value)
        text = body.get(_BASE64)
        if len(body) == 1 and isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise CommandError(f"{place} is not base64") from None
    if isinstance(value, (dict, list, bool)):
        raise CommandError(f"{place} must be text, a number, null or {{{_BASE64!r}: text}}")
    return value


def _check_references(connection: sqlite3.Connection) -> None:
    broken: list[str] = []
    for table, rowid, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        broken.append(f"{table}{'' if rowid is None else f' (row {rowid})'} refers to {parent}")
        if len(broken) > _SHOWN_VIOLATIONS:
            broken[-1] = "and more"
            break
    if broken:
        raise CommandError(f"the export refers to rows that it does not have: {', '.join(broken)}")


def _rebuild_search(connection: sqlite3.Connection) -> None:
    found = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE VIRTUAL TABLE%fts5%'"
    )
    for (table,) in found.fetchall():
        connection.execute(f"INSERT INTO {_quoted(table)} ({_quoted(table)}) VALUES ('rebuild')")  # noqa: S608


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise CommandError(f"the new database is damaged: {verdict}")


def _count(connection: sqlite3.Connection, table: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()  # noqa: S608
    return int(count)


@contextmanager
def _readable() -> Generator[None]:
    try:
        yield
    except JsonStreamError as exc:
        raise CommandError(f"the file is not the JSON of an export: {exc}") from None


def _reason(exc: Exception) -> str:
    # Never the value: it may be a secret.
    return str(exc) if isinstance(exc, sqlite3.Error) else type(exc).__name__


def _number_in(found: Mapping[str, Any], key: str) -> int:
    value: object = found.get(key)
    if not _is_number(value) or not value:
        raise CommandError(f"the export does not say its {key}; it was changed")
    return cast("int", value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_UPGRADE = "install a newer molecule-runtime-localplatform"
