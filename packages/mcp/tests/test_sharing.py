"""Several processes share one inbox file: who is there, and who of them polls."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from molecule_runtime.mcp import owners
from molecule_runtime.mcp.sharing import Sharing
from molecule_runtime.mcp.store import InboxStore, Mailbox

from .test_store import BOX, message

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import pytest

BOXES = [Mailbox("https://acme.example", f"ws-{number}") for number in range(3)]


@contextmanager
def another_process() -> Generator[tuple[str, subprocess.Popen[str]]]:
    """A living process, and its name."""
    code = "import sys; from molecule_runtime.mcp import owners; print(owners.this_process(), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None
        try:
            yield it.stdout.readline().strip(), it
        finally:
            it.kill()


def me() -> str:
    return owners.this_process()


def test_a_process_is_there_until_it_ends_even_where_nobody_asked_for_its_exit_code() -> None:
    with another_process() as (name, it):
        assert owners.is_gone(name, me=me()) is False
        it.kill()
        # A zombie has a number, and handles no message.
        os.waitid(os.P_PID, it.pid, os.WEXITED | os.WNOWAIT)
        assert owners.is_gone(name, me=me()) is True
        it.wait(10)
        assert owners.is_gone(name, me=me()) is True


def test_a_number_that_another_process_has_now_is_not_the_process_of_before() -> None:
    with another_process() as (name, _):
        pid, start, place = name.split(":")
        assert owners.is_gone(f"{pid}:{int(start) - 1}:{place}", me=me()) is True
        own_pid, own_start, own_place = me().split(":")
        assert owners.is_gone(f"{own_pid}:{int(own_start) - 1}:{own_place}", me=me()) is True
        assert owners.is_gone(me(), me=me()) is False


def test_what_cannot_be_seen_from_here_is_not_called_gone() -> None:
    pid, start, place = me().split(":")
    boot, _, space = place.partition("/")
    assert owners.is_gone(f"{pid}:{start}:{boot}/{space}1", me=me()) is None
    # After the machine was started again nothing of before is there.
    assert owners.is_gone(f"{pid}:{start}:another-boot/{space}", me=me()) is True
    assert owners.is_gone("", me=me()) is True


def test_where_the_system_does_not_say_when_a_process_began_a_living_number_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, which has no /proc."""
    with another_process() as (_, it):
        monkeypatch.setattr(owners, "_PROC", tmp_path)
        assert me() == me()
        assert owners.is_gone(f"{it.pid}:~abc:/", me=me()) is None
        it.kill()
        it.wait(10)
        assert owners.is_gone(f"{it.pid}:~abc:/", me=me()) is True
        assert owners.is_gone(f"{os.getpid()}:~abc:/", me=me()) is True


def test_of_two_processes_one_polls_and_the_other_takes_over_when_it_is_gone(store: InboxStore) -> None:
    with another_process() as (name, it):
        theirs, ours = Sharing(store.database, name), Sharing(store.database, store.owner)
        for sharing in (theirs, ours):
            sharing.beat(eager=False)
        assert theirs.claim(BOXES[:2]) == set(BOXES[:2])
        assert ours.claim(BOXES) == {BOXES[2]}
        it.kill()
        it.wait(10)
        assert ours.claim(BOXES) == set(BOXES)


def test_a_process_that_stands_still_loses_its_mailboxes(store: InboxStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_process() as (name, _):
        theirs, ours = Sharing(store.database, name), Sharing(store.database, store.owner)
        theirs.beat(eager=False)
        theirs.claim(BOXES)
        assert ours.claim(BOXES) == set()
        monkeypatch.setattr("molecule_runtime.mcp.sharing.ALIVE_SECONDS", -1.0)
        theirs.beat(eager=False)
        assert ours.claim(BOXES) == set(BOXES)


def test_a_mailbox_that_a_process_leaves_is_taken_by_another(store: InboxStore) -> None:
    with another_process() as (name, _):
        theirs, ours = Sharing(store.database, name), Sharing(store.database, store.owner)
        theirs.beat(eager=False)
        theirs.claim(BOXES)
        theirs.give_up(BOXES[:1])
        assert ours.claim(BOXES) == {BOXES[0]}


def test_a_process_hears_that_somebody_waits_in_another(store: InboxStore) -> None:
    ours = Sharing(store.database, store.owner)
    ours.beat(eager=True)
    assert ours.others() == (0, 0.0)
    with another_process() as (name, _):
        theirs = Sharing(store.database, name)
        theirs.beat(eager=False)
        assert ours.others() == (1, 0.0)
        theirs.beat(eager=True)
        assert ours.others()[1] > 0


def test_the_lease_of_a_process_that_cannot_be_seen_is_kept_while_it_says_that_it_is_there(
    store: InboxStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, start, place = store.owner.split(":")
    other = InboxStore(tmp_path / "state" / "molecule-mcp.db")
    other.owner = f"{pid}:{start}:{place}1"
    try:
        Sharing(other.database, other.owner).beat(eager=False)
        store.add(BOX, [message("a")], cursor="a")
        assert other.lease([BOX]) is not None
        assert store.lease([BOX]) is None
        monkeypatch.setattr("molecule_runtime.mcp.sharing.ALIVE_SECONDS", -1.0)
        Sharing(other.database, other.owner).beat(eager=False)
        assert store.lease([BOX]) is not None
    finally:
        other.close()


def test_a_file_of_the_first_format_is_brought_up_to_date_with_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    db = sqlite3.connect(path)
    db.executescript(
        """
        CREATE TABLE messages (
            position INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, workspace_id TEXT NOT NULL, activity_id TEXT NOT NULL,
            body TEXT NOT NULL, leased_until REAL NOT NULL DEFAULT 0, leased_by INTEGER NOT NULL DEFAULT 0, popped_at REAL,
            UNIQUE (origin, workspace_id, activity_id)
        );
        CREATE INDEX messages_waiting ON messages (origin, workspace_id, position) WHERE popped_at IS NULL;
        CREATE TABLE cursors (origin TEXT NOT NULL, workspace_id TEXT NOT NULL, since_id TEXT NOT NULL, PRIMARY KEY (origin, workspace_id));
        INSERT INTO messages (origin, workspace_id, activity_id, body, leased_until, leased_by) VALUES
            ('https://acme.example', 'ws-1', 'a', '{"activity_id": "a", "text": "hi", "kind": "canvas_user", "peer_id": "", "method": "",
              "created_at": ""}', 9e9, 1);
        INSERT INTO cursors VALUES ('https://acme.example', 'ws-1', 'a');
        PRAGMA user_version = 1;
        """
    )
    db.close()
    store = InboxStore(path)
    try:
        assert store.cursor(BOXES[1]) == "a"
        leased = store.lease([BOXES[1]])
        assert leased is not None
        assert (leased.text, leased.delivery_count) == ("hi", 1)
    finally:
        store.close()


def test_processes_that_make_the_file_at_the_same_moment_all_get_it(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from molecule_runtime.mcp.database import Database; Database(Path(sys.argv[1])).close()"
    path = str(tmp_path / "new" / "inbox.db")
    several = [subprocess.Popen([sys.executable, "-c", code, path]) for _ in range(4)]
    assert [it.wait(60) for it in several] == [0] * 4


def test_a_thousand_mailboxes_are_one_question(store: InboxStore) -> None:
    """SQLite takes an expression of 1,000 terms at most."""
    many = [Mailbox("https://acme.example", f"ws-{number}") for number in range(2000)]
    store.add(many[-1], [message("a")], cursor="a")
    leased = store.lease(many)
    assert leased is not None
    assert store.summary(many) == {many[-1]: (1, 1)}
    assert store.pop(many, "a") == many[-1]
