"""Reading the inbox from a platform that forgets, refuses, fails and repeats itself, over real sockets."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from starlette.responses import JSONResponse, Response

from molecule_runtime.a2a import inbox as inbox_module
from molecule_runtime.a2a.answers import Answers
from molecule_runtime.a2a.inbox import MAX_ATTEMPTS, Inbox
from molecule_runtime.a2a.inbox_rows import InboxItem, InboxMessage, item_in
from molecule_runtime.a2a.senders import Sender
from molecule_runtime.a2a.statefile import StateFile
from molecule_runtime.core import envelope
from molecule_runtime.core.platform.wire import ActivityRow

from .mailbox import Platform, client_of, row, serving_platform
from .support import DEADLINE, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform() -> AsyncGenerator[Platform, None]:
    async with serving_platform() as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_INTERVAL", "BUSY_INTERVAL", "MAX_BACKOFF"):
        monkeypatch.setattr(inbox_module, name, 0.02)


@dataclass
class Reader:
    """An inbox at work, and what it was given."""

    seen: list[str] = field(default_factory=list[str])
    given_up: list[str] = field(default_factory=list[str])
    failures: dict[str, int] = field(default_factory=dict[str, int])
    held: set[str] = field(default_factory=set[str])

    async def handle(self, message: InboxItem) -> bool:
        self.seen.append(message.row_id)
        while message.row_id in self.held:  # noqa: ASYNC110 - a test lets go of it
            await anyio.sleep(0.01)
        if self.failures.get(message.row_id, 0) > 0:
            self.failures[message.row_id] -= 1
            raise RuntimeError("this time it fails")
        return True

    async def give_up(self, message: InboxItem) -> None:
        self.given_up.append(message.row_id)


@asynccontextmanager
async def reading(platform: Platform, path: Path | None, reader: Reader) -> AsyncGenerator[StateFile]:
    async with StateFile.open(path) as state, client_of(platform) as client, anyio.create_task_group() as tasks:
        inbox = Inbox(client, state, reader.handle, reader.give_up)
        tasks.start_soon(inbox.run)
        try:
            yield state
        finally:
            reader.held.clear()
            inbox.stop()


async def test_rows_are_handled_once_and_acknowledged_in_order_although_one_takes_longer(
    platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite3"
    platform.rows = [row(1, source=None), row(2), row(3, source=None, contextId="c"), row(4)]
    reader = Reader(held={"row-2"})
    async with reading(platform, path, reader):
        # The second of that sender waits for the first, and nobody else does.
        await eventually(lambda: reader.seen == ["row-1", "row-2", "row-3"], "three begin")
        await eventually(lambda: platform.acknowledged == [1], "the first is let go of")
        reader.held.clear()
        await eventually(lambda: platform.acknowledged[-1] == 4, "all are let go of")
    platform.rows.append(row(5))
    reader = Reader()
    async with reading(platform, path, reader):
        await eventually(lambda: platform.acknowledged[-1] == 5, "the new one is let go of")
    assert reader.seen == ["row-5"]


async def test_what_was_handled_behind_one_that_was_not_does_not_run_again_after_a_crash(
    platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite3"
    platform.rows = [row(1, source=None), row(2), row(3)]
    async with StateFile.open(path) as state, client_of(platform) as client:
        reader = Reader(held={"row-1"})
        with anyio.CancelScope() as crash:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Inbox(client, state, reader.handle, reader.give_up).run)
                await eventually(lambda: reader.seen == ["row-1", "row-2", "row-3"], "all begin")

                handled: list[tuple[str]] = []
                while len(handled) < 2:
                    handled = await state.run(
                        lambda db: db.execute("SELECT row_id FROM inbox_rows WHERE handled IS NOT NULL").fetchall()
                    )
                crash.cancel()
    reader = Reader()
    async with reading(platform, path, reader):
        await eventually(lambda: platform.acknowledged == [3], "all are let go of")
    assert reader.seen == ["row-1"]


async def test_a_cursor_that_the_platform_forgot_is_replaced_by_a_look_back_that_takes_nothing_twice(
    platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite3"
    platform.rows = [row(1), row(2)]
    async with reading(platform, path, Reader()):
        await eventually(lambda: platform.acknowledged[-1:] == [2], "both are let go of")
    platform.forgotten = {"row-2"}
    platform.rows.append(row(3))
    platform.asked.clear()
    reader = Reader()
    async with reading(platform, path, reader):
        await eventually(lambda: platform.acknowledged[-1] == 3, "the new one is let go of")
    assert reader.seen == ["row-3"]
    assert [sorted(query) for query in platform.asked[:2]] == [
        ["limit", "since_id", "type"],
        ["limit", "since_secs", "type"],
    ]


async def test_a_backlog_of_several_pages_is_read_to_its_beginning(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_module, "PAGE", 3)
    platform.rows = [row(number) for number in range(1, 9)]
    reader = Reader()
    async with reading(platform, None, reader):
        await eventually(lambda: platform.acknowledged[-1:] == [8], "all are let go of")
    assert reader.seen == [f"row-{number}" for number in range(1, 9)]


async def test_a_platform_that_fails_is_asked_again_and_one_that_knows_no_acknowledgement_is_spared(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    platform.rows = [row(1)]
    platform.ack_status = 404
    platform.faults = [
        JSONResponse({"error": "busy"}, status_code=503),
        JSONResponse({"error": "slow down", "retry_after": 0.01}, status_code=429),
        Response("<html>", media_type="text/html"),
    ]
    reader = Reader()
    async with reading(platform, None, reader) as state:
        await eventually(lambda: reader.seen == ["row-1"], "the row is read")
        await eventually(lambda: platform.acknowledged == [1], "one attempt to acknowledge")
        platform.rows.append(row(2))
        cursor = ""
        while cursor != "row-2":
            cursor = await state.run(lambda db: db.execute("SELECT row_id FROM inbox_cursors").fetchone()[0])
    assert platform.acknowledged == [1]
    assert "cannot read the inbox (attempt 1)" in caplog.text


async def test_a_message_that_fails_is_tried_again_and_given_up_in_the_end(platform: Platform) -> None:
    platform.rows = [row(1), row(2), row(3)]
    reader = Reader(failures={"row-1": 2, "row-2": 99})
    async with reading(platform, None, reader):
        await eventually(lambda: platform.acknowledged[-1:] == [3], "all are let go of")
    assert reader.seen == ["row-1"] * 3 + ["row-2"] * MAX_ATTEMPTS + ["row-3"]
    assert reader.given_up == ["row-2"]


def read(data: dict[str, Any]) -> InboxMessage | None:
    found = item_in(ActivityRow.model_validate(data), own_id="ws-1")
    assert found is None or isinstance(found, InboxMessage)
    return found


async def test_own_rows_and_rows_without_a_message_are_passed_over() -> None:
    assert read(row(1, source=None, method="notify")) is None
    assert read(row(1, source="ws-1")) is None
    bodies: tuple[Any, ...] = (None, 3, "{", {"params": {}}, {"params": {"message": {"parts": 3}}}, [])
    for body in bodies:
        assert read({**row(1), "request_body": body}) is None


async def test_a_row_says_who_sent_it_whatever_the_message_says() -> None:
    claimed = {"source_workspace_id": "ws-9", "trace": "x"}
    of_peer = read(row(1, metadata=claimed))
    of_person = read(row(1, source=None, metadata=claimed))
    assert of_peer is not None
    assert of_person is not None
    assert of_peer.request is not None
    assert of_person.request is not None
    assert of_peer.sender.workspace_id == "ws-2"
    assert of_peer.request.message.metadata["source_workspace_id"] == "ws-2"
    assert of_person.sender.workspace_id is None
    assert sorted(of_person.request.message.metadata) == ["trace"]


async def test_a_message_in_the_old_form_or_as_text_is_read_and_has_an_id_that_stays() -> None:
    old = row(1, parts=[{"type": "text", "text": "old"}], messageId="")
    for data in (old, {**old, "request_body": json.dumps(old["request_body"])}):
        found = read(data)
        assert found is not None
        assert found.request is not None
        assert found.request.message.message_id == "row-1"
        assert found.request.message.parts[0].text == "old"
    unreadable = read(row(1, parts=[{"kind": "text", "text": 3}]))
    assert unreadable is not None
    assert unreadable.request is None


def to(workspace_id: str | None, **fields: Any) -> Sender:
    return Sender(workspace_id=workspace_id, message_id="m-1", key="row-1", **fields)


async def test_an_answer_is_sent_until_the_platform_took_or_refused_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.a2a.answers.MAX_BACKOFF", 0.01)
    busy = {"error": "busy"}
    async with StateFile.open(None) as state, client_of(platform) as client:
        answers = Answers(client, state)
        platform.say_faults = [
            JSONResponse(busy, status_code=503),
            JSONResponse(busy, status_code=429),
            JSONResponse(busy, status_code=401),
        ]
        with anyio.fail_after(DEADLINE):
            await answers.deliver(to(None), envelope.Reply(text="hello"))
        assert platform.said == [{"message": "hello"}] * 4

        # It may not, and never will.
        platform.said.clear()
        platform.say_faults = [JSONResponse({"error": "talk_to_user_disabled"}, status_code=403)]
        await answers.deliver(to(None), envelope.Failure(message="Agent error: x"))
        assert platform.said == [{"message": "Agent error: x"}]

        # Too large: the sender hears that at least.
        platform.said.clear()
        platform.say_faults = [JSONResponse({"error": "too large"}, status_code=413)]
        await answers.deliver(to(None), envelope.Reply(text="x" * 5000))
        assert platform.said[0]["message"] == "x" * 5000
        assert "5000 characters" in platform.said[1]["message"]

        # A peer is told under one id, and not again when it may be at work on it.
        platform.said.clear()
        platform.say_faults = [
            JSONResponse(busy, status_code=503),
            JSONResponse({**busy, "delivery_confirmed": True}, status_code=502),
        ]
        with anyio.fail_after(DEADLINE):
            await answers.deliver(to("ws-2", context_id="c"), envelope.Reply(text="hello"))
        assert len({said["params"]["message"]["messageId"] for said in platform.said}) == 1
        assert len(platform.said) == 2

        # What is an answer itself is not answered, and what is no workspace cannot be.
        platform.said.clear()
        await answers.deliver(to("ws-2", expects_no_answer=True), envelope.Reply(text="hello"))
        await answers.deliver(to("Not/An Id"), envelope.Reply(text="hello"))
        assert platform.said == []
        with anyio.fail_after(DEADLINE):
            await answers.finish()
