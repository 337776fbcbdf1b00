"""Answers to senders who do not wait: kept on the disk until they are with the platform, and sent once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from starlette.responses import JSONResponse

from molecule_runtime.a2a import answers as answers_module
from molecule_runtime.a2a import late_answers
from molecule_runtime.a2a.answers import Answers
from molecule_runtime.a2a.late_answers import LateAnswers
from molecule_runtime.a2a.senders import Sender
from molecule_runtime.a2a.statefile import StateFile
from molecule_runtime.core import envelope

from .mailbox import Platform, client_of, serving_platform
from .support import DEADLINE, eventually

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.fixture
async def platform() -> AsyncGenerator[Platform, None]:
    async with serving_platform() as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_BACKOFF", "_AGAIN_SECONDS"):
        monkeypatch.setattr(answers_module, name, 0.02)


def to(workspace_id: str | None, key: str) -> Sender:
    return Sender(workspace_id=workspace_id, message_id=f"m-{key}", context_id="c", key=key)


async def deliver_all(platform: Platform, path: Path | None) -> None:
    """Deliver what an earlier process left, and end."""
    async with StateFile.open(path) as state, client_of(platform) as client, anyio.create_task_group() as tasks:
        answers = Answers(client, state)
        tasks.start_soon(answers.run)
        left = 1
        with anyio.fail_after(DEADLINE):
            while left:
                (left,) = await state.run(lambda db: db.execute("SELECT count(*) FROM late_answers").fetchone())
            await answers.finish()


async def test_answers_that_were_handed_over_leave_before_the_end_in_their_order(platform: Platform) -> None:
    async with StateFile.open(None) as state, client_of(platform) as client, anyio.create_task_group() as tasks:
        answers = Answers(client, state)
        tasks.start_soon(answers.run)
        for number in range(5):
            reply = envelope.Reply(text=str(number), files=(envelope.File(uri="workspace:/a"),))
            answers.later(to(None, str(number)), reply)
        # The same one again is the same one.
        answers.later(to(None, "4"), envelope.Reply(text="4"))
        await eventually(lambda: platform.said, "the first leaves")
        with anyio.fail_after(DEADLINE):
            await answers.finish()
    assert [said["message"] for said in platform.said] == ["0", "1", "2", "3", "4"]
    assert platform.said[0]["attachments"] == [{"uri": "workspace:/a", "name": "file"}]


async def test_answers_that_a_process_left_behind_are_sent_by_the_next_one_once(
    platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite3"
    async with StateFile.open(path) as state, client_of(platform) as client:
        answers = Answers(client, state)
        answers.later(to(None, "a"), envelope.Reply(text="to a person"))
        answers.later(to("ws-2", "b"), envelope.Failure(message="Agent error: to a peer"))
        answers.later(Sender(workspace_id="ws-2", message_id="m", expects_no_answer=True), envelope.Reply(text="x"))
    await deliver_all(platform, path)
    person, peer = platform.said
    assert person == {"message": "to a person"}
    assert peer["params"]["message"]["parts"] == [{"kind": "text", "text": "Agent error: to a peer"}]
    assert peer["params"]["message"]["metadata"]["in_reply_to"] == "m-b"
    platform.said.clear()
    await deliver_all(platform, path)
    assert platform.said == []


@pytest.mark.parametrize("said", [True, False])
async def test_a_process_that_ended_between_saying_and_noting_it_is_not_repeated_to_a_person(
    platform: Platform, tmp_path: Path, *, said: bool
) -> None:
    path = tmp_path / "state.sqlite3"
    async with StateFile.open(path) as state, client_of(platform) as client:
        kept = LateAnswers(state, client)
        await kept.add(to(None, "a"), envelope.Reply(text="the answer"))
        waiting = await kept.next()
        assert waiting is not None
        await kept.begin(waiting)
    note = {
        "id": "n",
        "method": "notify",
        "created_at": "2026-01-01T00:00:00Z",
        "response_body": {"result": "the answer"},
    }
    platform.rows = [note] if said else [{**note, "response_body": {"result": "another"}}, {**note, "method": "x"}]
    await deliver_all(platform, path)
    assert platform.said == ([] if said else [{"message": "the answer"}])


async def test_an_answer_that_cannot_be_kept_is_sent_all_the_same_and_one_too_many_is_said_to_be_lost(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.sqlite3"
    monkeypatch.setattr(late_answers, "MAX_WAITING", 1)
    async with StateFile.open(path) as state, client_of(platform) as client, anyio.create_task_group() as tasks:
        answers = Answers(client, state)
        answers.later(to(None, "a"), envelope.Reply(text="kept"))
        answers.later(to(None, "b"), envelope.Reply(text="one too many"))
        await eventually(lambda: "the answer to message m-b is lost" in caplog.text, "it is lost")

        def drop(db: sqlite3.Connection) -> None:
            db.execute("DROP TABLE late_answers")

        await state.run(drop)
        answers.later(to(None, "c"), envelope.Reply(text="not kept"))
        await eventually(lambda: "m-c would not survive a restart" in caplog.text, "it is not kept")
        tasks.start_soon(answers.run)
        await eventually(lambda: platform.said, "it is sent")
        with anyio.fail_after(DEADLINE):
            await answers.finish()
    assert platform.said == [{"message": "not kept"}]


async def test_a_person_is_told_when_the_platform_comes_back(platform: Platform) -> None:
    platform.say_faults = [JSONResponse({"error": "down"}, status_code=503)] * 3
    async with StateFile.open(None) as state, client_of(platform) as client, anyio.create_task_group() as tasks:
        answers = Answers(client, state)
        tasks.start_soon(answers.run)
        answers.later(to(None, "a"), envelope.Reply(text="hello"))
        await eventually(lambda: len(platform.said) == 4, "it is tried until it is taken")
        with anyio.fail_after(DEADLINE):
            await answers.finish()
    assert platform.said == [{"message": "hello"}] * 4
