"""Portable JSON: a database comes out and in as it was, secrets only on request, and what does not fit is refused whole."""

from __future__ import annotations

import base64
import io
import json
import re
import sqlite3
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecule_runtime.localplatform import json_stream, portable
from molecule_runtime.localplatform.errors import CommandError, DataFolderError
from molecule_runtime.localplatform.json_stream import JsonStream, JsonStreamError
from molecule_runtime.localplatform.store.database import migrations

if TYPE_CHECKING:
    from pathlib import Path

Tables = dict[str, list[dict[str, Any]]]


def database(path: Path, schema: int | None = None) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    for number, script in migrations()[:schema]:
        connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    return connection


def insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - names of this file


def workspace(connection: sqlite3.Connection, identifier: str, **values: Any) -> None:
    row = {"name": identifier, "inbound_secret": f"inbound-{identifier}", "created_at": 1, "updated_at": 1, **values}
    insert(connection, "workspaces", id=identifier, **row)


def out(path: Path, *, with_secrets: bool = True) -> str:
    pieces: list[bytes] = []
    portable.export(path, pieces.append, with_secrets=with_secrets, now=0)
    return b"".join(pieces).decode()


def into(path: Path, text: str) -> dict[str, int]:
    header = portable.read_header(io.StringIO(text))
    return portable.build(path, io.StringIO(text), header)


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
        tables = sorted(name for (name,) in found if name != "sqlite_schema")
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}  # noqa: S608


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_database_comes_out_and_in_as_it_was(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("portable")
    draw = data.draw
    with closing(database(folder / "a.db")) as connection:
        ids = [f"ws-{number}" for number in range(draw(st.integers(1, 5)))]
        for number, identifier in enumerate(ids):
            workspace(
                connection,
                identifier,
                parent_id=draw(st.sampled_from([None, *ids[:number]])),
                role=draw(st.none() | texts),
                error_rate=draw(reals),
                last_acked_seq=draw(numbers),
                agent_card_json=draw(st.none() | texts),
            )
        for number in range(draw(st.integers(0, 6))):
            insert(
                connection,
                "activity",
                seq=draw(st.none() | st.integers(1000 * number + 1, 1000 * number + 999)),
                id=f"a-{number}",
                workspace_id=draw(st.sampled_from(ids)),
                activity_type=draw(texts),
                summary=draw(st.none() | texts),
                created_at=draw(numbers),
            )
        connection.execute("DELETE FROM activity WHERE seq % 3 = 0")
        for number, blob in enumerate(draw(st.lists(st.none() | st.binary(max_size=300), max_size=4))):
            insert(
                connection,
                "a2a_queue",
                id=f"q-{number}",
                workspace_id=ids[0],
                body_json=draw(texts),
                response_body=blob,
                enqueued_at=1,
            )
        for number, secret in enumerate(draw(st.lists(texts, max_size=3))):
            insert(connection, "secrets", workspace_id=None, key=f"K{number}", value=secret, created_at=1, updated_at=1)
            insert(
                connection,
                "tokens",
                id=f"t-{number}",
                workspace_id=ids[0],
                kind="api",
                hash=bytes([number]) * 32,
                prefix="12345678",
                created_at=1,
            )
    text = out(folder / "a.db")
    into(folder / "b.db", text)
    assert content(folder / "b.db") == content(folder / "a.db")
    assert out(folder / "b.db") == text
    assert json.loads(text)["sequences"] == dict(content(folder / "a.db")["sqlite_sequence"])


def test_rows_come_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db")) as connection:
        workspace(connection, "ws")
        for number in ("z", "a", "m"):
            insert(connection, "a2a_queue", id=number, workspace_id="ws", body_json="{}", enqueued_at=1)
    into(tmp_path / "b.db", out(tmp_path / "a.db"))
    assert [row[0] for row in content(tmp_path / "b.db")["a2a_queue"]] == ["z", "a", "m"]


def test_the_search_index_is_made_anew(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db")) as connection:
        workspace(connection, "ws")
        for number, text in enumerate(("the harbour is frozen", "apples are ripe", "gone")):
            row = {"id": f"m-{number}", "workspace_id": "ws", "scope": "LOCAL", "created_at": 1}
            insert(connection, "memories", content=text, **row)
        connection.execute("DELETE FROM memories WHERE content = 'gone'")
        # As if it had never been kept up to date.
        connection.execute("INSERT INTO memories_fts (memories_fts) VALUES ('delete-all')")
    text = out(tmp_path / "a.db")
    assert not [name for name in json.loads(text)["tables"] if "fts" in name]
    into(tmp_path / "b.db", text)
    with closing(sqlite3.connect(tmp_path / "b.db", isolation_level=None)) as connection:
        found = connection.execute("SELECT rowid FROM memories_fts WHERE memories_fts MATCH 'apple'").fetchall()
        assert found == [(2,)]
        connection.execute("INSERT INTO memories_fts (memories_fts, rank) VALUES ('integrity-check', 1)")
        insert(connection, "memories", id="new", workspace_id="ws", scope="LOCAL", content="x", created_at=1)
        assert connection.execute("SELECT max(number) FROM memories").fetchone() == (4,)


def full_of_secrets(path: Path) -> None:
    with closing(database(path)) as connection:
        workspace(connection, "ws", **{"inbound_secret": "inbound-5f3a"})
        token = {"prefix": "begin-77", "created_at": 1}
        insert(connection, "tokens", id="t", workspace_id="ws", kind="api", hash=b"hash-of-token", **token)
        insert(connection, "org_tokens", id="o", hash=b"hash-of-org-token", **token)
        insert(connection, "secrets", workspace_id="ws", key="OPENAI", value="value-of-it", created_at=1, updated_at=1)
        insert(connection, "secrets", workspace_id="ws", key="MODEL", value="gpt-x", created_at=1, updated_at=1)


def test_an_export_without_secrets_has_none_and_its_import_makes_new_ones(tmp_path: Path) -> None:
    full_of_secrets(tmp_path / "a.db")
    hashes = [base64.b64encode(value).decode() for value in (b"hash-of-token", b"hash-of-org-token")]
    text = out(tmp_path / "a.db", with_secrets=False)
    for secret in ("inbound-5f3a", "begin-77", "value-of-it", "OPENAI", *hashes):
        assert secret not in text
        assert secret in out(tmp_path / "a.db")
    into(tmp_path / "b.db", text)
    found = content(tmp_path / "b.db")
    assert (found["tokens"], found["org_tokens"]) == ([], [])
    assert [row[:3] for row in found["secrets"]] == [("ws", "MODEL", "gpt-x")]
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:
        (secret,) = connection.execute("SELECT inbound_secret FROM workspaces").fetchone()
    assert len(secret) >= 40
    assert secret not in {"", "inbound-5f3a"}


HARMLESS = {
    ("a2a_queue", "idempotency_key"),
    ("delegations", "idempotency_key"),
    ("key_values", "key"),
    ("key_values", "key"),
    ("secrets", "key"),
    ("token_usage", "input_tokens"),
    ("token_usage", "output_tokens"),
}
"""Columns that sound like a secret and are none; `secrets.key` goes with its row."""


def test_every_column_that_sounds_like_a_secret_is_known_to_be_one_or_none(tmp_path: Path) -> None:
    sounds = re.compile(r"secret|token|hash|passw|credential|key|private", re.IGNORECASE)
    with closing(database(tmp_path / "a.db")) as connection:
        columns = connection.execute(
            "SELECT tables.name, columns.name FROM pragma_table_list AS tables, pragma_table_info(tables.name) AS columns"
            " WHERE tables.schema = 'main' AND tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'"
        ).fetchall()
    assert len(columns) > 100
    suspicious = {
        (table, column)
        for table, column in columns
        if sounds.search(column) or (sounds.search(table) and column == "value")
    }
    known = {(table, column) for table, column in columns if table in portable.SECRET_TABLES}
    known |= set(portable.SECRET_COLUMNS) | HARMLESS
    assert suspicious - known == set()
    assert set(portable.SECRET_TABLES) <= {table for table, _ in columns}
    assert set(portable.SECRET_COLUMNS) <= set(columns)


def test_an_export_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(database(tmp_path / "old.db", schema=1)) as connection:
        workspace(connection, "ws", model="gpt-x")
    text = out(tmp_path / "old.db")
    assert json.loads(text)["schema"] == 1
    into(tmp_path / "new.db", text)
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
        assert connection.execute("SELECT talk_to_user_enabled FROM workspaces").fetchall() == [(1,)]
        # What the migration does with such rows, it did.
        assert connection.execute("SELECT key, value FROM secrets").fetchall() == [("MODEL", "gpt-x")]


def test_columns_that_are_not_in_the_export_get_their_defaults(tmp_path: Path) -> None:
    row = {"id": "ws", "name": "alice", "created_at": 1, "updated_at": 1}
    into(tmp_path / "new.db", export_of({"workspaces": [row]}))
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert connection.execute("SELECT tier, status FROM workspaces").fetchall() == [(3, "provisioning")]


def test_a_snapshot_does_not_see_what_is_written_while_it_is_read(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db")) as connection:
        workspace(connection, "before")
        pieces: list[bytes] = []

        def write(piece: bytes) -> None:
            pieces.append(piece)
            workspace(connection, f"during-{len(pieces)}")

        counts = portable.export(tmp_path / "a.db", write, with_secrets=True, now=0)
    assert counts["workspaces"] == 1
    assert "during" not in b"".join(pieces).decode()


def test_memory_does_not_grow_with_the_size_of_the_database(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db")) as connection:
        workspace(connection, "ws")
        connection.execute(
            "INSERT INTO activity (id, workspace_id, activity_type, summary, created_at)"
            " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
            " SELECT 'a-' || i, 'ws', 'agent_log', hex(randomblob(1500)), i FROM n"
        )
    tracemalloc.start()
    try:
        with (tmp_path / "out.json").open("wb") as handle:
            portable.export(tmp_path / "a.db", handle.write, with_secrets=True, now=0)
        with (tmp_path / "out.json").open(encoding="utf-8") as source:
            header = portable.read_header(source)
            source.seek(0)
            assert portable.build(tmp_path / "b.db", source, header)["activity"] == 3000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "out.json").stat().st_size > 9_000_000
    assert peak < 3_000_000


def test_a_database_that_somebody_reads_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "_BUSY_SECONDS", 0.1)
    with closing(database(tmp_path / "a.db")) as writer, closing(sqlite3.connect(tmp_path / "a.db")) as reader:
        workspace(writer, "before")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM workspaces").fetchall()
        workspace(writer, "after")
        with pytest.raises(CommandError, match="another program reads"):
            portable.settle(tmp_path / "a.db")
        reader.rollback()
        reader.close()
        writer.close()
        portable.settle(tmp_path / "a.db")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.db"]


# --- what is refused --------------------------------------------------------------------------------------------------------


def export_of(tables: dict[str, Any], **header: Any) -> str:
    return json.dumps(
        {
            "format": portable.FORMAT,
            "version": 1,
            "created_at": "",
            "schema": len(migrations()),
            "sequences": {},
            **header,
            "tables": tables,
        }
    )


WORKSPACE = {"id": "ws", "name": "alice", "created_at": 1, "updated_at": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not the JSON"),
        ("[]", "an object was expected"),
        ("not json", "not the JSON"),
        (export_of({"workspaces": [WORKSPACE]})[:-3], "not the JSON"),
        (export_of({}) + "{}", "something follows"),
        (export_of({}, format="something-else"), "no export of molecule-local"),
        (export_of({}, version=2), "format version 2"),
        (export_of({}, version="1"), "version"),
        (export_of({}, schema=999), "database version 999"),
        (export_of({}, schema=0), "schema"),
        (export_of({}, sequences={"activity": "x"}), "sequences"),
        (export_of({}, sequences={"nothing": 1}), "'nothing'"),
        (export_of({"nothing": []}), "table 'nothing'"),
        ('{"tables": {"workspaces": {}}}', "an array was expected"),
        (export_of({"workspaces": ["ws"]}), "row 1 of workspaces is not an object"),
        (export_of({"workspaces": [{**WORKSPACE, "nothing": 1}]}), "'nothing'"),
        (export_of({"workspaces": [{**WORKSPACE, "tier": "high"}]}), "row 1 of workspaces does not fit"),
        (export_of({"workspaces": [{**WORKSPACE, "tier": True}]}), "workspaces: tier must be"),
        (export_of({"workspaces": [{**WORKSPACE, "tier": 2**63}]}), "row 1 of workspaces does not fit"),
        (export_of({"workspaces": [{**WORKSPACE, "name": "\ud800"}]}), "row 1 of workspaces does not fit"),
        (export_of({"workspaces": [{**WORKSPACE, "name": {"$base64": "%"}}]}), "not base64"),
        (export_of({"workspaces": [{**WORKSPACE, "name": ["x"]}]}), "workspaces: name must be"),
        (export_of({"workspaces": [{**WORKSPACE, "status": "dancing"}]}), "CHECK"),
        (export_of({"workspaces": [WORKSPACE, WORKSPACE]}), "row 2 of workspaces does not fit: UNIQUE"),
        (export_of({"workspaces": [{"id": "ws"}]}), "NOT NULL"),
        (export_of({"workspaces": [{**WORKSPACE, "parent_id": "gone"}]}), "refers to rows that it does not have"),
        (export_of({"workspaces": []})[:-1].replace('"tables": {', '"tables": {"workspaces": [], ') + "}", "twice"),
        (export_of({})[:-1] + ', "more": ' + "[" * 100_000, "nested too deeply"),
        (export_of({}, more=float("nan")), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=re.escape(said)):
        into(tmp_path / "new.db", text)


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with closing(database(tmp_path / "a.db")) as connection:
        connection.execute("PRAGMA user_version = 999")
    with pytest.raises(DataFolderError, match="version 999"):
        out(tmp_path / "a.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"x" * 4096)
    with pytest.raises(DataFolderError, match="cannot be read"):
        out(tmp_path / "a.db")
    with pytest.raises(DataFolderError, match="there is no database"):
        out(tmp_path / "b.db")


# --- the reader of large JSON ------------------------------------------------------------------------------------------------


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | reals | st.text(max_size=20),
    nested,
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(
    document=st.dictionaries(st.text(max_size=5), st.lists(values, max_size=4), max_size=4),
    chunk=st.integers(1, 7),
    indent=st.none() | st.integers(0, 3),
)
def test_a_document_is_read_alike_in_pieces_of_any_size(
    document: dict[str, list[Any]], chunk: int, indent: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_CHARS", chunk)
        stream = JsonStream(io.StringIO(json.dumps(document, indent=indent) + " \n"))
        read = {key: [stream.value() for _ in stream.items()] for key in stream.members()}
        stream.end()
    assert read == document


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from('{}[],:"\\x1 e-.'), max_size=12), chunk=st.integers(1, 3))
def test_what_is_not_json_is_refused_like_the_standard_reader_does(text: str, chunk: int) -> None:
    try:
        expected: object = json.loads(text)
    except ValueError:
        expected = JsonStreamError
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK_CHARS", chunk)
        stream = JsonStream(io.StringIO(text))
        try:
            found: object = stream.value()
            stream.end()
        except JsonStreamError:
            found = JsonStreamError
    assert cast("Any", found) == expected
