"""The inbox as a person looks at it, and a message that is handed out anew."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from molecule_runtime.mcp.listing import find_messages, list_mailboxes, list_messages, requeue
from molecule_runtime.mcp.sharing import Sharing
from molecule_runtime.mcp.store import Mailbox
from molecule_runtime.tools import InboxMessage

if TYPE_CHECKING:
    import pytest

    from molecule_runtime.mcp.store import InboxStore

BOX = Mailbox("https://acme.example", "ws-1")
OTHER_TENANT = Mailbox("https://globex.example", "ws-1")


def message(activity_id: str) -> InboxMessage:
    return InboxMessage(
        activity_id=activity_id,
        text=f"text of {activity_id}",
        kind="peer_agent",
        peer_id="ws-2",
        method="message/send",
        created_at="2026-01-01T00:00:00Z",
        arrival_workspace_id="",
    )


def texts(store: InboxStore, mailbox: Mailbox = BOX) -> list[str]:
    return [item.text for item in store.peek([mailbox], 10)]


def test_every_mailbox_is_listed_with_what_waits_and_who_polls_it(
    store: InboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.listing.MAX_WAITING", 2)
    store.add(BOX, [message("a"), message("b"), message("c")], cursor="c")
    store.add(OTHER_TENANT, [message("a")], cursor="a")
    store.pop([BOX], "a")
    store.lease([BOX])
    Sharing(store.database, store.owner).claim([BOX])
    acme, globex = list_mailboxes(store)
    assert (acme.mailbox, acme.waiting, acme.leased, acme.popped, acme.full, acme.cursor) == (BOX, 2, 1, 1, True, "c")
    assert acme.polled_by == os.getpid()
    assert acme.oldest is not None
    assert (globex.mailbox, globex.waiting, globex.full, globex.polled_by) == (OTHER_TENANT, 1, False, None)


def test_a_message_is_listed_with_what_became_of_it(store: InboxStore) -> None:
    store.add(BOX, [message(name) for name in "abcd"], cursor="d", held={"d": 4e9})
    store.pop([BOX], "a")
    store.lease([BOX])
    store.lease_for_push([BOX])
    listed = list_messages(store)
    assert [(item.activity_id, item.state) for item in listed] == [("b", "leased"), ("c", "pushed"), ("d", "fetching")]
    leased, pushed, fetching = listed
    assert (leased.holder, leased.deliveries, pushed.holder, fetching.holder) == (os.getpid(), 1, os.getpid(), None)
    assert leased.until is not None
    assert fetching.until == 4e9
    (popped,) = list_messages(store, mailbox=BOX, popped=True)
    assert (popped.state, popped.message, popped.until) == ("popped", message("a"), None)
    assert popped.popped_at is not None
    assert list_messages(store, mailbox=OTHER_TENANT) == []
    assert [item.activity_id for item in list_messages(store, limit=1, offset=1)] == ["c"]


def test_a_message_is_found_at_every_tenant_that_uses_its_id(store: InboxStore) -> None:
    store.add(BOX, [message("a")], cursor="a")
    store.add(OTHER_TENANT, [message("a")], cursor="a")
    assert [item.mailbox for item in find_messages(store, "a")] == [BOX, OTHER_TENANT]
    assert find_messages(store, "unknown") == []


def test_a_message_that_was_popped_by_mistake_is_handed_out_anew_and_only_it(store: InboxStore) -> None:
    store.add(BOX, [message("a"), message("b")], cursor="b")
    store.add(OTHER_TENANT, [message("a")], cursor="a")
    for mailbox in (BOX, OTHER_TENANT):
        store.pop([mailbox], "a")
    assert requeue(store, BOX, "a") is True
    assert (texts(store), texts(store, OTHER_TENANT)) == (["text of a", "text of b"], [])
    again = store.lease([BOX])
    assert again is not None
    assert again.activity_id == "a"


def test_a_message_that_an_agent_holds_is_handed_out_anew(store: InboxStore) -> None:
    store.add(BOX, [message("a")], cursor="a")
    store.lease([BOX])
    assert store.lease([BOX]) is None
    assert requeue(store, BOX, "a") is True
    assert store.lease([BOX]) is not None


def test_what_is_not_there_any_more_cannot_be_handed_out_anew(
    store: InboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requeue(store, BOX, "unknown") is False
    store.add(BOX, [message("a")], cursor="a")
    store.pop([BOX], "a")
    monkeypatch.setattr("molecule_runtime.mcp.store.KEEP_POPPED_SECONDS", -1.0)
    store.add(BOX, [], cursor="a")
    assert requeue(store, BOX, "a") is False
    (row,) = find_messages(store, "a")
    assert (row.state, row.message) == ("popped", None)
