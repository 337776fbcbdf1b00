"""The inbox on disk: no message is lost, none comes twice, and none goes to another mailbox."""

from __future__ import annotations

import os
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.warm import run_program

from molecule_runtime.mcp.errors import StateError
from molecule_runtime.mcp.store import InboxStore, Mailbox
from molecule_runtime.tools import InboxMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BOX = Mailbox("https://acme.example", "ws-1")
OTHER_TENANT = Mailbox("https://globex.example", "ws-1")


def message(activity_id: str, text: str = "hi") -> InboxMessage:
    return InboxMessage(
        activity_id=activity_id,
        text=text,
        kind="peer_agent",
        peer_id="ws-2",
        method="message/send",
        created_at="2026-01-01T00:00:00Z",
        arrival_workspace_id="",
    )


def handed_out(activity_id: str, times: int) -> InboxMessage:
    return replace(message(activity_id), delivery_count=times)


def ids(messages: Iterable[InboxMessage]) -> list[str]:
    return [item.activity_id for item in messages]


def test_a_message_comes_back_as_it_was(store: InboxStore) -> None:
    whole = InboxMessage(
        activity_id="a",
        text="é 😀 \ud800 \x00",
        kind="canvas_user",
        peer_id="",
        method="message/send",
        created_at="2026-01-01T00:00:00Z",
        arrival_workspace_id="ws-1",
        peer_name="Bob",
        peer_role="tester",
        agent_card_url="https://x",
        attachments=({"kind": "file", "uri": "u", "mime_type": "", "name": "n"},),
    )
    store.add(BOX, [whole, message("b")], cursor="b")
    assert store.peek([BOX], 10) == [whole, message("b")]


def test_messages_are_listed_and_handed_out_in_the_order_in_which_they_came(store: InboxStore) -> None:
    store.add(BOX, [message("z"), message("a")], cursor="a")
    store.add(BOX, [message("m")], cursor="m")
    assert ids(store.peek([BOX], 10)) == ["z", "a", "m"]
    assert ids(store.peek([BOX], 2)) == ["z", "a"]
    leased = [store.lease([BOX]) for _ in range(4)]
    assert [item and item.activity_id for item in leased] == ["z", "a", "m", None]


def test_a_page_and_its_cursor_are_written_together_or_not_at_all(
    store: InboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(BOX, [message("a")], cursor="a")

    def page() -> Iterable[InboxMessage]:
        yield message("b")
        raise RuntimeError("the process fails in the middle of a page")

    with pytest.raises(RuntimeError):
        store.add(BOX, page(), cursor="b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (ids(store.peek([BOX], 10)), store.cursor(BOX)) == (["a"], "a")
    # The store works on.
    assert store.add(BOX, [message("b")], cursor="b") == 1
    assert (ids(store.peek([BOX], 10)), store.cursor(BOX)) == (["a", "b"], "b")


_WRITER = """
import sys
from pathlib import Path
from molecule_runtime.mcp.store import InboxStore, Mailbox
from molecule_runtime.tools import InboxMessage

box = Mailbox("https://acme.example", "ws-1")
store = InboxStore(Path(sys.argv[1]))
page = int(store.cursor(box) or -1) + 1
while True:
    messages = [
        InboxMessage(activity_id=f"{page}-{part}", text="x" * 2000, kind="peer_agent", peer_id="p", method="",
                     created_at="", arrival_workspace_id="")
        for part in range(3)
    ]
    store.add(box, messages, cursor=str(page))
    print(page, flush=True)
    page += 1
"""


def test_pages_that_come_while_the_file_is_busy_are_all_written_and_one_that_cannot_be_fails_alone(
    store: InboxStore,
) -> None:
    boxes = [Mailbox("https://acme.example", f"ws-{number}") for number in range(8)]

    def broken() -> Iterator[InboxMessage]:
        yield message("lost")
        raise ValueError("half a page")

    with closing(sqlite3.connect(store.database.path, isolation_level=None)) as busy, ThreadPoolExecutor(16) as threads:
        busy.execute("BEGIN IMMEDIATE")
        written = [threads.submit(store.add, box, [message("a"), message("b")], cursor="b") for box in boxes]
        failing = threads.submit(store.add, OTHER_TENANT, broken(), cursor="lost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        later = [threads.submit(store.add, box, [message("b"), message("c")], cursor="c") for box in boxes]
        busy.execute("COMMIT")
        assert sum(page.result() for page in (*written, *later)) == 3 * len(boxes)
        with pytest.raises(ValueError, match="half a page"):
            failing.result()
    assert {tuple(sorted(ids(store.peek([box], 10)))) for box in boxes} == {("a", "b", "c")}
    assert store.peek([OTHER_TENANT], 10) == []
    assert store.cursor(OTHER_TENANT) is None


def test_after_any_number_of_kills_no_message_is_missing_and_none_is_twice(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    reported = -1
    for round_number in range(6):
        writer, said = run_program(_WRITER, str(path))
        with said:
            for line in said:
                reported = int(line)
                if reported >= (round_number + 1) * 5:
                    writer.kill()
                    break
            assert writer.wait() == -9
    store = InboxStore(path)
    try:
        cursor = store.cursor(BOX)
        assert cursor is not None
        # What was reported as written is there; at most the page under way at the kill is there beyond it.
        assert reported <= int(cursor)
        expected = [f"{page}-{part}" for page in range(int(cursor) + 1) for part in range(3)]
        assert ids(store.peek([BOX], 100_000)) == expected
    finally:
        store.close()


def test_a_message_that_comes_again_is_taken_once(store: InboxStore) -> None:
    assert store.add(BOX, [message("a"), message("b")], cursor="b") == 2
    assert store.add(BOX, [message("b"), message("c"), message("c")], cursor="c") == 1
    assert ids(store.peek([BOX], 10)) == ["a", "b", "c"]


def test_a_popped_message_does_not_come_back_as_long_as_the_platform_could_send_it(
    store: InboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(BOX, [message("a", "a secret")], cursor="a")
    assert store.pop([BOX], "a")
    assert store.add(BOX, [message("a")], cursor="a") == 0
    assert store.peek([BOX], 10) == []
    # Long after that the tombstone goes too.
    monkeypatch.setattr("molecule_runtime.mcp.store.TOMBSTONE_SECONDS", -1.0)
    store.add(BOX, [], cursor="a")
    assert store.add(BOX, [message("a")], cursor="a") == 1


@pytest.mark.parametrize(("name", "value"), [("KEEP_POPPED_SECONDS", -1.0), ("KEEP_POPPED", 1)])
def test_of_a_popped_message_no_text_is_left_after_some_days_or_many_more_messages(
    store: InboxStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(f"molecule_runtime.mcp.store.{name}", value)
    store.add(BOX, [message("a", "a secret"), message("b", "another")], cursor="b")
    store.pop([BOX], "a")
    store.pop([BOX], "b")
    store.add(BOX, [], cursor="b")
    with sqlite3.connect(tmp_path / "state" / "molecule-mcp.db") as db:
        bodies = [row[0] for row in db.execute("SELECT body FROM messages ORDER BY position")]
    assert bodies[0] == "{}"
    assert (bodies[1] == "{}") is (name == "KEEP_POPPED_SECONDS")
    db.close()


def test_popping_is_idempotent(store: InboxStore) -> None:
    store.add(BOX, [message("a")], cursor="a")
    assert [store.pop([BOX], "a"), store.pop([BOX], "a"), store.pop([BOX], "unknown")] == [BOX, None, None]


def test_each_message_is_handed_to_one_waiter_of_one_process(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    stores = [InboxStore(path), InboxStore(path)]
    try:
        stores[0].add(BOX, [message(str(number)) for number in range(40)], cursor="39")
        with ThreadPoolExecutor(8) as threads:
            futures = [threads.submit(stores[number % 2].lease, [BOX]) for number in range(60)]
            leased = [future.result() for future in futures]
        got = [item.activity_id for item in leased if item is not None]
        assert sorted(got, key=int) == [str(number) for number in range(40)]
    finally:
        for opened in stores:
            opened.close()


def test_a_message_that_is_handed_out_is_still_listed(store: InboxStore) -> None:
    store.add(BOX, [message("a")], cursor="a")
    store.lease([BOX])
    assert ids(store.peek([BOX], 10)) == ["a"]
    assert store.waiting(BOX) == 1
    assert store.pop([BOX], "a")


def test_a_message_comes_back_when_its_lease_ends(store: InboxStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(BOX, [message("a")], cursor="a")
    monkeypatch.setattr("molecule_runtime.mcp.store.LEASE_SECONDS", -1.0)
    assert store.lease([BOX]) == handed_out("a", 1)
    # That it comes again is said.
    again = store.lease([BOX])
    assert again == handed_out("a", 2)
    assert again is not None
    assert (again.to_json()["redelivered"], again.to_json()["delivery_count"]) == (True, 2)


def test_a_lease_can_be_taken_back(store: InboxStore) -> None:
    store.add(BOX, [message("a")], cursor="a")
    store.lease([BOX])
    assert store.lease([BOX]) is None
    store.release([BOX], "a")
    # It reached nobody, so this is the first time.
    assert store.lease([BOX]) == handed_out("a", 1)


_LEASER = """
import signal, sys
from pathlib import Path
from molecule_runtime.mcp.store import InboxStore, Mailbox
store = InboxStore(Path(sys.argv[1]))
assert store.lease([Mailbox("https://acme.example", "ws-1")]) is not None
print("leased", flush=True)
signal.pause()
"""


def test_what_a_dead_process_was_handed_is_free_again_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    store = InboxStore(path)
    try:
        store.add(BOX, [message("a")], cursor="a")
        leaser, said = run_program(_LEASER, str(path))
        with said:
            assert said.readline() == "leased\n"
            assert store.release_dead_leases() is False
            assert store.lease([BOX]) is None
        leaser.kill()
        assert leaser.wait() == -9
        # Nobody has to look for the dead first.
        assert store.lease([BOX]) == handed_out("a", 2)
    finally:
        store.close()


def test_one_workspace_id_at_two_tenants_is_two_mailboxes(store: InboxStore) -> None:
    store.add(BOX, [message("a", "acme's")], cursor="a")
    store.add(OTHER_TENANT, [message("a", "globex's"), message("b")], cursor="b")
    assert [item.text for item in store.peek([BOX], 10)] == ["acme's"]
    assert (store.cursor(BOX), store.cursor(OTHER_TENANT)) == ("a", "b")
    assert (store.waiting(BOX), store.waiting(OTHER_TENANT)) == (1, 2)
    assert store.pop([BOX], "b") is None
    assert store.pop([BOX], "a")
    assert ids(store.peek([OTHER_TENANT], 10)) == ["a", "b"]
    store.forget_cursor(BOX)
    assert (store.cursor(BOX), store.cursor(OTHER_TENANT)) == (None, "b")


def test_one_activity_id_at_two_tenants_is_popped_where_it_was_handed_out(store: InboxStore) -> None:
    store.add(BOX, [message("a", "acme's")], cursor="a")
    store.add(OTHER_TENANT, [message("a", "globex's")], cursor="a")
    store.lease([OTHER_TENANT])
    assert store.pop([BOX, OTHER_TENANT], "a")
    assert [item.text for item in store.peek([BOX, OTHER_TENANT], 10)] == ["acme's"]


def test_two_ids_that_begin_alike_are_two_mailboxes(store: InboxStore) -> None:
    one, two = (Mailbox(BOX.origin, f"workspace-{name}") for name in ("one", "two"))
    store.add(one, [message("a")], cursor="a")
    assert store.cursor(two) is None
    assert store.peek([two], 10) == []


def test_no_mailbox_has_no_messages(store: InboxStore) -> None:
    store.add(BOX, [message("a")], cursor="a")
    assert (store.peek([], 10), store.lease([]), store.pop([], "a")) == ([], None, None)


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    InboxStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StateError, match="newer molecule-mcp"):
        InboxStore(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (99,)
    db.close()


def test_a_file_that_is_no_inbox_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    path.write_bytes(b"This is not a database. " * 100)
    with pytest.raises(StateError, match="set CONFIGS_DIR"):
        InboxStore(path)
    with pytest.raises(StateError):
        InboxStore(tmp_path)


def test_a_failure_of_the_file_is_ours_to_tell_and_not_sqlites(store: InboxStore, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "state" / "molecule-mcp.db") as db:
        db.execute("DROP TABLE messages")
    db.close()
    for call in (lambda: store.waiting(BOX), lambda: store.lease([BOX]), lambda: store.add(BOX, [], cursor="a")):
        with pytest.raises(StateError, match=r"molecule-mcp\.db cannot be used"):
            call()


def test_the_files_of_the_inbox_are_for_their_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "inbox.db"
    old_umask = os.umask(0)
    try:
        store = InboxStore(path)
        store.add(BOX, [message("a")], cursor="a")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        store.close()
    finally:
        os.umask(old_umask)
    assert modes == {"inbox.db": 0o600, "inbox.db-wal": 0o600, "inbox.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_inbox_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    InboxStore(path).close()
    path.chmod(0o644)
    InboxStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
