"""What people see on a terminal: nothing that steers it, columns that line up, and lines for everything that happens."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_runtime.core import console
from molecule_runtime.localplatform.commands import journal
from molecule_runtime.localplatform.commands.frames import Frame

NAMES = {"a": "alice", "b": "bob"}


def name(identifier: object) -> str:
    return NAMES.get(str(identifier), str(identifier))


@given(text=st.text(max_size=200))
def test_nothing_that_steers_a_terminal_is_shown(text: str) -> None:
    shown = console.safe(text)
    assert all(character.isprintable() or character in "\n\t" or ord(character) > 127 for character in shown)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert console.safe(shown) == shown
    shown.encode()
    assert "\n" not in console.one_line(text)


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60), columns=st.integers(2, 50))
def test_a_cut_line_fits(text: str, columns: int) -> None:
    assert console.measure(console.cut(text, columns)) <= max(columns, 1)


def test_wide_characters_take_two_columns() -> None:
    assert [console.measure(text) for text in ("abc", "子供", "é", "e\u0301", "👍")] == [3, 4, 1, 1, 2]
    assert console.cut("子供です", 5) == "子供…"
    lines = console.table(("A", "B"), [("子", "x"), ("abcd", "y")]).splitlines()
    assert [console.measure(line) for line in lines] == [7, 7, 7]


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (None, "never"),
        ("", "never"),
        ("2026-11-26T12:00:00Z", "now"),
        ("2026-11-26T12:00:09.5Z", "now"),
        ("2026-11-26T11:59:48Z", "12s ago"),
        ("2026-11-26T11:57:59Z", "2m ago"),
        ("2026-11-26T08:00:00Z", "4h ago"),
        ("2026-11-20T08:00:00Z", "6d ago"),
        ("yesterday", "yesterday"),
        ("2026-11-20T08:00:00", "2026-11-20T08:00:00"),
    ],
)
def test_ages_are_relative(moment: str | None, said: str) -> None:
    assert console.age(moment, datetime(2026, 11, 26, 12, tzinfo=UTC)) == said


def test_sizes_are_for_people() -> None:
    assert [console.size(octets) for octets in (0, 999, 12_345, 26_214_400, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "12.3 kB",
        "26.2 MB",
        "3000.0 GB",
    ]


def test_a_sign_that_the_terminal_lacks_is_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console.say("alice → bob … 子")
    assert raw.getvalue() == b"alice -> bob ... ?\n"


def told(event: str, **payload: Any) -> list[tuple[str, str]]:
    frame = Frame(event=event, workspace_id="a", timestamp="2026-11-26T12:00:00Z", payload=payload)
    return [(line.who, line.text) for line in journal.lines_of_event(frame, name)]


@pytest.mark.parametrize(
    ("event", "payload", "said"),
    [
        ("WORKSPACE_ONLINE", {"url": "http://x"}, "is online"),
        ("WORKSPACE_ONLINE", {"recovered_from": "offline"}, "is online again"),
        ("WORKSPACE_OFFLINE", {"reason": "no\nheartbeat"}, "is offline: no heartbeat"),
        ("WORKSPACE_DEGRADED", {"sample_error": "no key"}, "is degraded: no key"),
        ("TASK_UPDATED", {"current_task": "adding"}, "works on: adding"),
        ("TASK_UPDATED", {"current_task": ""}, None),
        ("WORKSPACE_HEARTBEAT", {}, None),
        ("ACTIVITY_LOGGED", {}, None),
        ("A2A_ANSWERED", {"status": "ok"}, None),
        ("A2A_ANSWERED", {"status": "queued"}, "is busy; the message waits in its queue"),
        ("DELEGATION_SENT", {"target_id": "b", "task_preview": "add"}, "delegates to bob: add"),
        ("DELEGATION_COMPLETE", {}, None),
        (
            "REQUEST_CREATED",
            {"recipient_type": "user", "title": "Go?", "request_id": "12345678-9"},
            "asks you: Go? (molecule-local requests show 12345678)",
        ),
        ("REQUEST_CREATED", {"recipient_type": "agent", "recipient_id": "b", "title": "Go?"}, "asks bob: Go?"),
        (
            "APPROVAL_REQUESTED",
            {"action": "deploy", "approval_id": "12345678-9"},
            "asks you: deploy (molecule-local requests show 12345678)",
        ),
        ("REQUEST_RESPONDED", {"request_id": "12345678-9", "status": "rejected"}, "request 12345678 is refused"),
        ("APPROVAL_DENIED", {"approval_id": "12345678-9", "decided_by": "user"}, None),
        ("APPROVAL_DENIED", {"approval_id": "12345678-9", "decided_by": "auto-expired"}, "request 12345678 expired"),
        ("CRON_EXECUTED", {"name": "nightly"}, "schedule 'nightly' ran"),
        ("SOMETHING_NEW", {"a": "é"}, 'SOMETHING_NEW {"a": "é"}'),
    ],
)
def test_events_are_told_in_words(event: str, payload: dict[str, Any], said: str | None) -> None:
    assert told(event, **payload) == ([] if said is None else [("alice", said)])


def rows(**row: Any) -> list[tuple[str, str]]:
    base = {"created_at": "2026-11-26T12:00:00Z", "workspace_id": "b", "activity_type": "a2a_receive", "status": "ok"}
    return [(line.who, line.text) for line in journal.lines_of_row({**base, **row}, name)]


SENT = {"params": {"message": {"parts": [{"kind": "text", "text": "hi"}]}}}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"method": "message/send", "request_body": SENT}, [("you → bob", "hi")]),
        (
            {
                "method": "message/send",
                "source_id": "a",
                "request_body": SENT,
                "response_body": {"result": "ho"},
                "duration_ms": 7,
            },
            [("alice → bob", "hi"), ("alice ← bob", "ho  (7 ms)")],
        ),
        (
            {"method": "message/send", "source_id": "a", "summary": "hi", "status": "error", "error_detail": "no\nkey"},
            [("alice → bob", "hi"), ("alice ← bob", "failed: no key")],
        ),
        (
            {
                "method": "message/send",
                "request_body": {"params": {"message": {"parts": [], "metadata": {"source": "platform"}}}},
                "summary": "restarted",
            },
            [("platform → bob", "restarted")],
        ),
        (
            {
                "method": "notify",
                "response_body": {"result": "see", "parts": [{"kind": "file", "file": {"uri": "u", "name": "n"}}]},
            },
            [("bob → you", "see [file n]")],
        ),
        ({"method": "notify", "response_body": None}, [("bob → you", "(no text)")]),
        ({"activity_type": "broadcast_receive", "source_id": "a", "summary": "all"}, [("alice → bob", "(to all) all")]),
        ({"method": "chat_upload_receive", "summary": "file x"}, [("you → bob", "file x")]),
        (
            {
                "activity_type": "delegation",
                "method": "delegate_result",
                "target_id": "a",
                "status": "completed",
                "response_body": {"text": "391"},
            },
            [("bob", "delegation to alice completed: 391")],
        ),
        ({"activity_type": "delegation", "method": "delegate"}, []),
        ({"activity_type": "a2a_send", "summary": "hi"}, []),
        ({"activity_type": "error", "summary": "oh", "error_detail": "no key"}, [("bob", "error: oh (no key)")]),
        ({"activity_type": "agent_log", "summary": None}, [("bob", "agent_log: ")]),
    ],
)
def test_rows_are_told_in_words(row: dict[str, Any], said: list[tuple[str, str]]) -> None:
    assert rows(**row) == said


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    nested,
    max_leaves=8,
)
KEYS = ("created_at", "workspace_id", "source_id", "target_id", "method", "summary", "request_body", "response_body")


@given(
    row=st.dictionaries(st.sampled_from([*KEYS, "status", "error_detail", "duration_ms", "activity_type"]), json_values)
)
def test_whatever_stands_in_a_row_it_is_told_somehow(row: dict[str, Any]) -> None:
    for line in journal.lines_of_row(row, name):
        assert "\n" not in line.render(80, datetime.now(UTC))


EVENTS = ("TASK_UPDATED", "REQUEST_CREATED", "DELEGATION_SENT", "A2A_SENT", "X")
PAYLOAD = ("title", "text", "source_id", "target_id", "task_preview", "status", "name")


@given(event=st.sampled_from(EVENTS), payload=st.dictionaries(st.sampled_from(PAYLOAD), json_values))
def test_whatever_stands_in_an_event_it_is_told_somehow(event: str, payload: dict[str, Any]) -> None:
    for _, text in told(event, **payload):
        assert "\n" not in text
