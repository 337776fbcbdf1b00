from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import stat
import threading
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.warm import run_program

from molecule_runtime.tools.audit import Event, Ledger, hash_content, open_ring, segment, verify
from molecule_runtime.tools.audit.keys import rotate
from molecule_runtime.tools.audit.records import canonical_json
from molecule_runtime.tools.audit.verify import records
from molecule_runtime.tools.errors import AuditError, LedgerKeyError

from .audit_support import Disk, calls, checked, ring, vandalise, written

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from tests.support.warm import WarmProcess

# Many writers, each record acknowledged on stdout once it is written. Run for ever when they are told to.
THREADS = """
import pathlib, sys, threading
from molecule_runtime.tools.audit import Event, Ledger, open_ring
folder, agent, appends = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ledger = Ledger(folder / "ledger.db", open_ring(folder / "ledger.key", create=True), segment_records=150, checkpoint_records=40,
                busy_seconds=60)
lock = threading.Lock()
def write(name):
    done = 0
    while done < appends or not appends:
        done += 1
        ledger.append([Event(agent_id=agent, operation="tool_call", model_used=f"{agent}/{name}/{done};")])
        with lock:
            print(f"{agent}/{name}/{done};", flush=True)
threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(25)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
CALLS = """
import pathlib, sys, anyio
from molecule_runtime.tools.audit import AuditSettings, AuditTrail, Event
folder, agent, appends = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
trail = AuditTrail(AuditSettings(ledger=folder / "ledger.db", key_file=folder / "ledger.key"))
async def write(name):
    done = 0
    while done < appends or not appends:
        done += 1
        await trail.record(Event(agent_id=agent, operation="tool_call", model_used=f"{agent}/{name}/{done};"))
        print(f"{agent}/{name}/{done};", flush=True)
        await anyio.lowlevel.checkpoint()
async def main():
    async with anyio.create_task_group() as tasks:
        for number in range(25): tasks.start_soon(write, number)
anyio.run(main)
trail.close()
"""


def test_records_are_numbered_chained_signed_and_verify(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    rows = list(records(path))
    assert [row.seq for row in rows] == [1, 2, 3, 4]
    assert [row.operation for row in rows] == ["ledger_open", "tool_call", "tool_call", "tool_call"]
    assert rows[0].prev_hmac is None
    assert [later.prev_hmac for _, later in pairwise(rows)] == [row.hmac for row in rows[:-1]]
    found = checked(path)
    assert (found.valid, found.events, found.last_seq, found.problem) == (True, 4, 4, "")
    assert checked(path, agent_id="ws-1").events == 3


def test_everything_is_private_from_birth(tmp_path: Path) -> None:
    written(tmp_path / "new", 2, checkpoint_records=1)
    old = os.umask(0)
    try:
        written(tmp_path / "open", 2, checkpoint_records=1)
    finally:
        os.umask(old)
    for folder in ("new", "open"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / folder).iterdir()}
        assert set(modes) >= {"ledger.db", "ledger.key", "ledger.checkpoints.jsonl"}
        assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET outcome = 'failure' WHERE seq = 2",
        "DELETE FROM entries WHERE seq = 4",
        "DELETE FROM head",
        "UPDATE head SET seq = 2",
        "INSERT INTO entries SELECT seq + 7, 'x', timestamp, agent_id, session_id, operation, model_used, outcome, input_hash, output_hash,"
        " human_oversight_flag, risk_flag, trace_id, content, key_id, hmac, hmac FROM entries WHERE seq = 4",
    ],
)
def test_the_file_itself_refuses_anything_but_the_next_record(statement: str, tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)
    assert checked(path).valid


@pytest.mark.parametrize(
    ("statements", "bad"),
    [
        (["UPDATE entries SET outcome = 'failure' WHERE seq = 3"], 3),
        (["UPDATE entries SET timestamp = substr(timestamp, 1, 20) || '000000Z' WHERE seq = 3"], 3),
        (["UPDATE entries SET human_oversight_flag = 1 WHERE seq = 3"], 3),
        (["DELETE FROM entries WHERE seq = 3"], 4),
        (["DELETE FROM entries WHERE seq = 3", "UPDATE entries SET seq = seq - 1 WHERE seq > 3"], 3),
        (["DELETE FROM entries WHERE seq = 1"], 2),
        (["DELETE FROM entries WHERE seq > 3"], None),
        (
            [
                "DELETE FROM entries WHERE seq > 3",
                "UPDATE head SET seq = 3, hmac = (SELECT hmac FROM entries WHERE seq = 3)",
            ],
            None,
        ),
        (["DELETE FROM entries WHERE seq > 3", "DELETE FROM head"], None),
        (["UPDATE entries SET hmac = 'é' WHERE seq = 2"], 2),
    ],
)
def test_whatever_is_changed_or_taken_away_shows(statements: list[str], bad: int | None, tmp_path: Path) -> None:
    path = written(tmp_path, 5)
    ids = {row.seq: row.id for row in records(path)}
    vandalise(path, *statements)
    found = checked(path)
    assert not found.valid
    renumbered = {"3": ids[4]} if len(statements) == 2 and "seq - 1" in statements[1] else {}
    assert found.first_bad_id == (None if bad is None else renumbered.get(str(bad), ids[bad]))


def test_an_older_copy_of_the_ledger_is_caught_by_a_checkpoint_that_was_kept(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    shutil.copy(path, tmp_path / "older.db")
    ledger = Ledger(path, ring(tmp_path))
    ledger.append(calls("the last one"))
    kept = ledger.checkpoint()
    ledger.close()
    assert kept is not None
    assert kept.seq == 5
    shutil.copy(tmp_path / "older.db", path)
    assert "the end was cut off" in checked(path).problem
    # Who deletes the file of checkpoints too is caught by one that is elsewhere.
    (tmp_path / "ledger.checkpoints.jsonl").unlink()
    assert checked(path).valid
    assert "the end was cut off" in checked(path, anchors=[kept]).problem
    # And a history that was written anew, even with the key, does not have the record that was signed then.
    again = Ledger(path, ring(tmp_path))
    again.append(calls("something else"))
    again.close()
    assert "is not the one that a signed checkpoint names" in checked(path, anchors=[kept]).problem


def test_a_checkpoint_that_was_changed_is_no_proof(tmp_path: Path) -> None:
    path = written(tmp_path, 5, checkpoint_records=2)
    file = tmp_path / "ledger.checkpoints.jsonl"
    assert checked(path).checkpoints == 3
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace('"seq":4', '"seq":3')]) + "\n")
    assert "its signature is wrong" in checked(path).problem


def test_a_checkpoint_that_cannot_be_written_costs_no_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger.checkpoints.jsonl").mkdir()
    path = written(tmp_path, 3, checkpoint_records=2)
    assert "was not written" in caplog.text
    assert len(list(records(path))) == 4


def test_full_segments_are_sealed_and_the_chain_goes_on_in_the_next(tmp_path: Path) -> None:
    path = written(tmp_path, 10, segment_records=4)
    files = sorted(file.name for file in tmp_path.glob("*.db"))
    assert files[:2] == ["ledger.000002.db", "ledger.000003.db"]
    rows = list(records(path))
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    assert sum(row.operation == "tool_call" for row in rows) == 10
    found = checked(path)
    assert (found.valid, found.segments) == (True, len(files))
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        # A sealed file takes nothing, not even what would follow.
        db.execute(
            "INSERT INTO entries SELECT seq + 1, 'x', timestamp, agent_id, session_id, 'tool_call', model_used, outcome, input_hash,"
            " output_hash, human_oversight_flag, risk_flag, trace_id, content, key_id, hmac, 'y' FROM entries ORDER BY seq DESC LIMIT 1"
        )
    (tmp_path / "ledger.000002.db").rename(tmp_path / "archived.db")
    assert "segment 2 is missing" in checked(path).problem
    path.rename(tmp_path / "archived-1.db")
    assert "begins with segment 3" in checked(path).problem
    assert checked(path, partial=True).valid


def test_a_segment_whose_maker_was_killed_is_taken_up(tmp_path: Path) -> None:
    path = written(tmp_path, 1)
    ledger = Ledger(path, ring(tmp_path))
    ledger.rotate()
    (tmp_path / "ledger.000002.db").touch(0o600)
    assert checked(path).valid
    fresh = Ledger(path, ring(tmp_path))
    (record,) = fresh.append(calls("after")).records
    ledger.append(calls("and the one that rotated"))
    for each in (ledger, fresh):
        each.close()
    assert record.seq == 5
    assert (checked(path).valid, checked(path).last_seq) == (True, 6)


def test_a_new_key_signs_and_the_old_ones_verify(tmp_path: Path) -> None:
    path = written(tmp_path, 2)
    old = ring(tmp_path)
    new = rotate(tmp_path / "ledger.key")
    ledger = Ledger(path, new)
    ledger.append(calls("with the new key"))
    ledger.close()
    assert {row.key_id for row in records(path)} == {old.current.id, new.current.id}
    assert checked(path).valid
    with pytest.raises(LedgerKeyError, match=new.current.id):
        verify(path, old)
    salted = Ledger(path, ring(tmp_path, salt="a salt of the environment"))
    salted.append(calls("with the salt"))
    salted.close()
    with pytest.raises(LedgerKeyError, match="AUDIT_LEDGER_SALT"):
        checked(path)
    with (tmp_path / "ledger.key").open("a") as keys:
        keys.write("salt:a salt of the environment\n")
    assert checked(path).valid
    assert all(key.secret.hex() not in repr(ring(tmp_path)) for key in ring(tmp_path).known.values())


def test_the_salt_gives_the_key_of_the_contract(tmp_path: Path) -> None:
    secret = ring(tmp_path, salt="pepper").current.secret
    # PBKDF2-HMAC-SHA256 of "pepper", 210,000 rounds, as `openssl kdf` computes it.
    assert secret.hex() == "b95b29b670d0888d1f8ee3d771f3930c7822c4f080f1088a3c656d05dc92f119"


def test_a_key_file_that_others_read_or_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.key"
    with pytest.raises(LedgerKeyError, match="has no key"):
        open_ring(file, create=False)
    for content, mode, said in (
        ("k" * 64, 0o640, "chmod 600"),
        ("short", 0o600, "32 characters"),
        ("k" * 70_000, 0o600, "64 KiB"),
    ):
        file.write_text(content)
        file.chmod(mode)
        with pytest.raises(LedgerKeyError, match=said) as refused:
            open_ring(file, create=True)
        assert content not in str(refused.value)


def test_processes_that_begin_together_make_one_key(tmp_path: Path) -> None:
    made: list[str] = []
    start = threading.Barrier(8)

    def begin() -> None:
        start.wait(10)
        made.append(ring(tmp_path).current.id)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 8
    assert len(set(made)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.key"]


@pytest.mark.parametrize(
    ("program", "appends", "segments", "checkpoints"), [(THREADS, 4, 2, 5), (CALLS, 16, 1, 3)], ids=["threads", "calls"]
)
def test_a_hundred_writers_in_four_processes_and_a_kill_leave_one_whole_chain(
    program: str, appends: int, segments: int, checkpoints: int, tmp_path: Path
) -> None:
    def start(agent: str, appends: int) -> tuple[WarmProcess, TextIO]:
        return run_program(program, str(tmp_path), agent, str(appends))

    steady = [start(f"ws-{number}", appends) for number in range(3)]
    doomed, output = start("ws-doomed", 0)
    acknowledged: list[str] = []
    try:
        acknowledged += [output.readline() for _ in range(60)]
        doomed.kill()
        acknowledged += output.readlines()
        for process, out in steady:
            said = out.readlines()
            assert process.wait() == 0
            assert len(said) == 25 * appends
            acknowledged += said
    finally:
        for process, out in (*steady, (doomed, output)):
            process.kill()
            process.wait(10)
            out.close()
    rows = [row.model_used for row in records(tmp_path / "ledger.db")]
    whole = {line.strip() for line in acknowledged if line.strip().endswith(";")}
    assert len(whole) >= 75 * appends + 60
    assert whole <= set(rows), "what was acknowledged is in the ledger"
    found = checked(tmp_path / "ledger.db")
    assert (found.problem, found.last_seq) == ("", len(rows))
    assert found.segments >= segments
    assert found.checkpoints >= checkpoints


def test_a_record_is_written_at_once_where_nothing_has_to_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, ring(tmp_path), checkpoint_records=10, segment_records=16)
    assert ledger.append_now(calls("the file is not open yet")) is None
    ledger.append(calls("opens it"))
    assert ledger.append_now(calls("at once", "and another")) is not None
    # Others see it before the call returns, so no end of this process takes it back.
    assert [row.model_used for row in records(path)][-2:] == ["at once", "and another"]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert ledger.append_now(calls("others hold it")) is None
        other.execute("ROLLBACK")
    taken = [ledger.append_now(calls(f"tool-{number}")) for number in range(12)]
    due = [written is not None and written.is_due for written in taken]
    assert due == [False] * 5 + [True] + [False] * 6, "the tenth record makes a checkpoint due"
    assert [written is None for written in taken] == [False] * 11 + [True], "the sixteenth record ends the segment"
    ledger.append(calls("ends it"))
    assert ledger.checkpoint() is not None
    ledger.close()
    assert ledger.append_now(calls("the file is closed")) is None
    found = checked(path)
    assert (found.problem, found.last_seq, found.checkpoints) == ("", 17, 1)


def test_the_log_of_the_file_is_folded_when_it_is_long_and_the_chain_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "LONG_BYTES", 100_000)
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, ring(tmp_path), checkpoint_records=10)
    slowly = 0
    for number in range(200):
        done = ledger.append_now(calls(f"tool-{number}"))
        if done is None:
            slowly += 1
            ledger.append(calls(f"tool-{number}"))
        elif done.is_due:
            ledger.sign(done)
    assert (tmp_path / "ledger.db-wal").stat().st_size < 300_000
    assert 2 < slowly < 60, "whoever appends first after a fold has the sync of a log that begins anew"
    ledger.close()
    assert (checked(path).problem, checked(path).last_seq) == ("", 201)


def test_what_was_appended_is_on_the_disk_soon_and_before_a_checkpoint_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr("molecule_runtime.tools.audit.ledger.SYNC_SECONDS", 0.2)
    ledger = Ledger(tmp_path / "ledger.db", ring(tmp_path))
    ledger.append(calls("first"))
    assert ledger.append_now(calls("second")) is not None
    assert disk.synced("ledger.db-wal").wait(10)
    disk.order.clear()
    assert ledger.append_now(calls("third")) is not None
    ledger.close()
    assert disk.order[:2] == ["ledger.db-wal", "ledger.checkpoints.jsonl"]


def test_what_a_power_cut_leaves_is_the_beginning_of_the_chain_with_everything_that_was_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, chance = Disk(monkeypatch), random.Random(7)  # noqa: S311 - the same cuts every time
    folder = tmp_path / "ledger"
    # Two, as of two processes: one alone folds a segment when it leaves it.
    both = [Ledger(folder / "ledger.db", ring(folder), segment_records=9, checkpoint_records=7) for _ in range(2)]
    lost: set[int] = set()
    for number in range(30):
        ledger = both[number % 2]
        done = ledger.append_now(calls(f"tool-{number}")) if number % 3 else None
        if done is None:
            ledger.append(calls(f"tool-{number}"))
        elif done.is_due:
            ledger.sign(done)
        for cut in range(3):
            left = tmp_path / f"cut-{number}-{cut}"
            disk.after_a_power_cut(folder, left, chance)
            found = checked(left / "ledger.db")
            assert found.problem == ""
            lost.add(number + 1 - sum(row.operation == "tool_call" for row in records(left / "ledger.db")))
            if cut == 0:
                again = Ledger(left / "ledger.db", ring(left), segment_records=9, checkpoint_records=7)
                again.append(calls("after the cut"))
                again.close()
                assert checked(left / "ledger.db").problem == ""
    for ledger in both:
        ledger.close()
    assert len(lost) > 3, "some cuts lost something, and some nothing"


def test_a_checkpoint_that_a_power_cut_left_unfinished_spoils_none_that_follows(tmp_path: Path) -> None:
    path = written(tmp_path, 5, checkpoint_records=2)
    file = tmp_path / "ledger.checkpoints.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    ledger = Ledger(path, ring(tmp_path))
    kept = ledger.checkpoint()
    ledger.close()
    assert kept is not None
    found = checked(path)
    assert (found.problem, found.checkpoints) == ("", 3)


def test_text_that_sqlite_or_json_would_trip_over_is_kept_and_verifies(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, ring(tmp_path))
    odd = 'half \ud800 nul \x00 quote " <é> \u2028'
    ledger.append([Event(agent_id=odd, operation="tool_call", model_used=odd, content=json.dumps(odd))])
    ledger.close()
    assert checked(path).valid
    assert next(row for row in records(path) if row.operation == "tool_call").agent_id == odd.replace("\ud800", "?")
    assert hash_content(odd) != hash_content(odd.replace("\ud800", "?"))
    assert hash_content({"b": 1, "a": 2}) == hash_content({"a": 2, "b": 1})
    assert hash_content(None) is None


@given(st.dictionaries(st.sampled_from("abcdef"), st.none() | st.booleans() | st.integers() | st.text()))
def test_what_is_signed_is_the_json_of_the_contract(body: dict[str, Any]) -> None:
    assert canonical_json(body) == json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def test_a_file_that_is_no_ledger_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(AuditError, match=str(path)):
        Ledger(path, ring(tmp_path)).append(calls("x"))
    with pytest.raises(AuditError, match=str(path)):
        checked(path)
    path.unlink()
    written(tmp_path, 1)
    vandalise(path, "PRAGMA user_version = 9")
    with pytest.raises(AuditError, match="newer"):
        Ledger(path, ring(tmp_path)).append(calls("x"))
    with pytest.raises(AuditError, match="newer"):
        checked(path)
