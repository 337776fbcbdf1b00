"""One task in its turn: what its followers hear, and what it may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from a2a.server.context import ServerCallContext
from a2a.types import Artifact, Message, Part, Role, Task, TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent

from molecule_runtime.a2a import live as live_module
from molecule_runtime.a2a.errors import TaskTooLargeError
from molecule_runtime.a2a.live import MAX_BEHIND, LiveTask
from molecule_runtime.a2a.statefile import open_state
from molecule_runtime.a2a.tasks import Tasks

from .support import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

WORKING, DONE, ASKS = (
    TaskState.TASK_STATE_WORKING,
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_INPUT_REQUIRED,
)


@pytest.fixture
async def live() -> AsyncGenerator[LiveTask]:
    async with open_state(None) as state:
        said = Message(message_id="m", role=Role.ROLE_USER, parts=[Part(text="go")])
        yield LiveTask("t", "c", message=said, task=None, tasks=Tasks(state), call=ServerCallContext())


def status(state: Any, **fields: Any) -> TaskStatusUpdateEvent:
    event = TaskStatusUpdateEvent(**fields)
    event.status.state = state
    return event


def piece(text: str, *, append: bool = True) -> TaskArtifactUpdateEvent:
    return TaskArtifactUpdateEvent(artifact=Artifact(artifact_id="a", parts=[Part(text=text)]), append=append)


async def heard(live: LiveTask, *events: Any) -> list[Any]:
    """Follow, let the agent say the events, and return what the follower hears until the end."""
    follower = live.follow()
    for event in events:
        await live.put(event)
    with anyio.fail_after(DEADLINE):
        return [event async for event in follower.events()]


async def test_whoever_follows_hears_of_the_task_first_whatever_the_agent_says_first(live: LiveTask) -> None:
    first, update, done = await heard(live, piece("hello", append=False), status(DONE))
    assert isinstance(first, Task)
    assert (first.id, first.context_id, first.history[0].parts[0].text) == ("t", "c", "go")
    assert update.artifact.parts[0].text == "hello"
    assert done.status.state == DONE


async def test_events_carry_the_ids_of_the_task_and_times_in_milliseconds(live: LiveTask) -> None:
    events = await heard(live, Task(id="of another"), status(WORKING, task_id="wrong"), piece("x"), status(DONE))
    assert {getattr(event, "task_id", "t") for event in events} == {"t"}
    whole = live.snapshot()
    assert whole is not None
    assert (whole.id, whole.context_id) == ("t", "c")
    for stamp in (event.status.timestamp for event in events if hasattr(event, "status")):
        assert stamp.nanos % 1_000_000 == 0
        assert len(stamp.ToJsonString()) == len("2026-01-31T12:00:00.000Z")


async def test_nothing_follows_the_end(live: LiveTask) -> None:
    await heard(live, status(DONE))
    await live.put(piece("late"))
    await live.put(status(WORKING))
    whole = live.snapshot()
    assert whole is not None
    assert not whole.artifacts
    assert whole.status.state == DONE


async def test_a_task_that_waits_for_its_sender_ends_the_stream(live: LiveTask) -> None:
    events = await heard(live, status(ASKS))
    assert events[-1].status.state == ASKS


async def test_a_message_is_the_only_thing_that_is_heard_and_leaves_no_task(live: LiveTask) -> None:
    said = Message(message_id="r", role=Role.ROLE_AGENT, parts=[Part(text="hi")])
    assert await heard(live, said) == [said]
    assert live.snapshot() is None


async def test_whoever_falls_behind_is_shown_the_whole_task_and_then_the_rest(live: LiveTask) -> None:
    slow = live.follow()
    await live.put(status(WORKING))
    for number in range(MAX_BEHIND + 50):
        await live.put(piece(f"{number} "))
    events = slow.events()
    with anyio.fail_after(DEADLINE):
        whole = await anext(events)
        assert isinstance(whole, Task)
        assert "".join(part.text for part in whole.artifacts[0].parts).split() == [
            str(number) for number in range(MAX_BEHIND + 50)
        ]
        await live.put(piece("after"))
        await live.put(status(DONE))
        more, done = [event async for event in events]
    assert isinstance(more, TaskArtifactUpdateEvent)
    assert more.artifact.parts[0].text == "after"
    assert isinstance(done, TaskStatusUpdateEvent)
    assert done.status.state == DONE


async def test_a_message_of_the_agent_in_a_status_becomes_history_with_the_next_one(live: LiveTask) -> None:
    said = Message(message_id="p", role=Role.ROLE_AGENT, parts=[Part(text="half way")])
    event = status(WORKING)
    event.status.message.CopyFrom(said)
    await heard(live, event, status(DONE))
    whole = live.snapshot()
    assert whole is not None
    assert [message.message_id for message in whole.history] == ["m", "p"]


async def test_an_agent_may_not_say_more_than_a_task_holds_and_can_still_end_it(
    live: LiveTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "MAX_TASK_BYTES", 1000)
    with pytest.raises(TaskTooLargeError):
        await live.put(piece("x" * 1001))
    await live.put(status(TaskState.TASK_STATE_FAILED))
    assert live.ended
