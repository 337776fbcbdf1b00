"""Turns of one conversation: they follow each other, each has its answer, and each can be cancelled."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from a2a.client import ClientConfig, create_client
from a2a.helpers import new_text_message
from a2a.types import CancelTaskRequest, GetTaskRequest, Role, SendMessageConfiguration, SendMessageRequest, TaskState
from a2a.utils.errors import TaskNotCancelableError

from .gated import GATED, call, ends, runs, said, send, state_of, task_when, text_in
from .support import DEADLINE, FakePlatform, Workspace, eventually, process, ready, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]

TASK = "runtime_config: {mode: task}"
MODES = pytest.mark.parametrize("config", ["", TASK], ids=["reply", "task"])


def with_turns(workspace: Workspace, **turns: object) -> Workspace:
    path = workspace.root / "configs" / "config.yaml"
    path.write_text(path.read_text().replace("a2a:\n", f"a2a:\n  turns: {json.dumps(turns)}\n"))
    return workspace


@asynccontextmanager
async def opening(*events: anyio.Event) -> AsyncGenerator[None]:
    """Open gates in the end, so that a test that fails does not wait for its deadline."""
    try:
        yield
    finally:
        for event in events:
            event.set()


async def within(seconds: float, work: Callable[[], Any]) -> Any:
    """Await something that must not take longer; the bound is the promise under test, and its double the machine's due."""
    with anyio.fail_after(seconds * 2):
        return await work()


@MODES
async def test_messages_for_a_busy_conversation_are_acknowledged_and_answered_in_order(
    make_workspace: Make, platform: FakePlatform, config: str
) -> None:
    workspace = make_workspace(GATED, config)
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        first = await send(workspace, said("wait g", contextId="c"), blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        # One that does not want to wait, and one that says nothing about it.
        second = await within(1, lambda: send(workspace, said("second", contextId="c"), blocking=False))
        third = await within(1, lambda: send(workspace, said("third", contextId="c"), blocking=None))
        assert [state_of(second), state_of(third)] == ["submitted", "submitted"]
        assert "number 2" in json.dumps(third)
        # Another conversation is not busy.
        assert "done: other" in text_in(await send(workspace, said("other", contextId="d"), blocking=None))
        assert runs(workspace) == ["wait g", "other"]
        opened.set()
        for task, text in ((first, "wait g"), (second, "second"), (third, "third")):
            ended = await task_when(workspace, task["id"], "completed")
            assert f"done: {text}" in text_in(ended)
    assert runs(workspace) == ["wait g", "other", "second", "third"]


@MODES
async def test_a_sender_that_waits_for_a_busy_conversation_gets_the_answer_itself(
    make_workspace: Make, platform: FakePlatform, config: str
) -> None:
    workspace = make_workspace(GATED, config)
    waiting, opened = platform.gate("g")
    answers: dict[str, Any] = {}
    async with serving(workspace), opening(opened):
        await ready(workspace)
        await send(workspace, said("wait g", contextId="c"), blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        async with anyio.create_task_group() as group:

            async def old() -> None:
                answers["0.3"] = text_in(await send(workspace, said("old", contextId="c")))

            async def new() -> None:
                async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
                    client = await create_client(workspace.url, ClientConfig(streaming=False, httpx_client=http))
                    message = new_text_message("new", context_id="c", role=Role.ROLE_USER)
                    events = [event async for event in client.send_message(SendMessageRequest(message=message))]
                answers["1.0"] = str(events)

            async def streamed() -> None:
                async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
                    client = await create_client(workspace.url, ClientConfig(streaming=True, httpx_client=http))
                    message = new_text_message("stream", context_id="c", role=Role.ROLE_USER)
                    events: list[object] = []
                    async for event in client.send_message(SendMessageRequest(message=message)):
                        events.append(event)
                        if len(events) == 1:
                            # Whoever listens hears at once that the message is in the line.
                            assert event.task.status.state == TaskState.TASK_STATE_SUBMITTED
                            opened.set()
                answers["stream"] = str(events)

            group.start_soon(old)
            group.start_soon(new)
            group.start_soon(streamed)
    assert "done: old" in answers["0.3"]
    assert "done: new" in answers["1.0"]
    assert "done: stream" in answers["stream"]
    assert runs(workspace)[0] == "wait g"
    assert sorted(runs(workspace)[1:]) == ["new", "old", "stream"]


async def test_whoever_was_told_to_wait_and_asked_for_an_answer_is_sent_it(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        await send(workspace, said("wait g", contextId="c"), blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        peer = {"source_workspace_id": "ws-2"}
        person = said("of a person", contextId="c")
        peers = said("of a peer", contextId="c", metadata=peer)
        answer = said("an answer", contextId="c", metadata={**peer, "in_reply_to": "m"})
        patient = said("of one who asks again", contextId="c")
        for message in (person, peers, answer):
            assert state_of(await send(workspace, message, blocking=None)) == "submitted"
        task = await send(workspace, patient, blocking=False)
        opened.set()
        await task_when(workspace, task["id"], "completed")
        await eventually(lambda: platform.notes and platform.messages, "the answers are sent")
    assert platform.notes == [{"message": "done: of a person"}]
    ((target, sent),) = platform.messages
    message = sent["params"]["message"]
    assert target == "ws-2"
    assert message["parts"] == [{"kind": "text", "text": "done: of a peer"}]
    assert message["contextId"] == "c"
    assert message["metadata"] == {"in_reply_to": peers["messageId"], "source_workspace_id": "ws-1"}


async def test_a_line_that_is_full_takes_no_more_and_says_so(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = with_turns(make_workspace(GATED), max_waiting=2)
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        await send(workspace, said("wait g", contextId="c"), blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        queued = [await send(workspace, said(f"m{n}", contextId="c"), blocking=False) for n in range(2)]
        message = said("one too many", contextId="c")
        refused = await send(workspace, message)
        assert state_of(refused) == "rejected"
        assert "2 messages wait" in json.dumps(refused)
        opened.set()
        for task in queued:
            await task_when(workspace, task["id"], "completed")
        # A refusal is no answer: the message is taken when it comes again.
        assert text_in(await send(workspace, message)) == "done: one too many"


@MODES
async def test_a_newer_message_interrupts_and_both_are_answered(
    make_workspace: Make, platform: FakePlatform, config: str
) -> None:
    workspace = with_turns(make_workspace(GATED, config), busy="interrupt")
    waiting, opened = platform.gate("g")
    answers: list[dict[str, Any]] = []
    newer: dict[str, Any] = {}
    async with serving(workspace), opening(opened):
        await ready(workspace)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append(await send(workspace, said("wait g", contextId="c")))

            group.start_soon(ask)
            with anyio.fail_after(DEADLINE):
                await waiting.wait()
            newer = await within(1, lambda: send(workspace, said("stop that", contextId="c"), blocking=None))
            assert state_of(newer) == "submitted"
            await eventually(lambda: len(runs(workspace)) == 2, "the turn begins anew")
            opened.set()
        ended = await task_when(workspace, newer["id"], "completed")
    assert ends(workspace) == ["CancelledError"]
    again = runs(workspace)[1]
    assert again.startswith("wait g|")
    assert again.endswith("stop that")
    assert ("begun" in again) == bool(config)
    assert "stop that" in text_in(ended)
    assert "stop that" in text_in(answers[0])


async def test_a_message_that_interrupted_is_answered_although_the_other_was_cancelled(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = with_turns(make_workspace(GATED), busy="interrupt")
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        first = await send(workspace, said("wait g", contextId="c"), blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        second = await send(workspace, said("second", contextId="c"), blocking=False)
        await eventually(lambda: len(runs(workspace)) == 2, "the turn begins anew")
        assert state_of((await call(workspace, "tasks/cancel", id=first["id"]))["result"]) == "canceled"
        assert text_in(await task_when(workspace, second["id"], "completed")) == "done: second"
    assert runs(workspace)[2:] == ["second"]


@MODES
async def test_cancelling_ends_the_turn_and_its_sender_hears_it(
    make_workspace: Make, platform: FakePlatform, config: str
) -> None:
    workspace = make_workspace(GATED, config)
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        message = said("wait g", contextId="c")
        task = await send(workspace, message, blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        answers: list[dict[str, Any]] = []
        async with anyio.create_task_group() as group:

            async def follow() -> None:
                answers.append(await send(workspace, message))

            group.start_soon(follow)
            cancelled = await within(2, lambda: call(workspace, "tasks/cancel", id=task["id"]))
            assert state_of(cancelled["result"]) == "canceled"
        assert state_of(answers[0]) == "canceled"
        assert ends(workspace) == ["CancelledError"]
        # The conversation goes on, and what was cancelled stays so.
        assert "done: next" in text_in(await send(workspace, said("next", contextId="c")))
        assert state_of(await send(workspace, message)) == "canceled"
        again = await call(workspace, "tasks/cancel", id=task["id"])
        assert "error" in again
    assert runs(workspace) == ["wait g", "next"]


async def test_the_official_client_cancels_and_is_refused_when_it_is_too_late(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened), httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
        await ready(workspace)
        client = await create_client(workspace.url, ClientConfig(streaming=False, httpx_client=http))
        request = SendMessageRequest(
            message=new_text_message("wait g", role=Role.ROLE_USER),
            configuration=SendMessageConfiguration(return_immediately=True),
        )
        events = [event async for event in client.send_message(request)]
        task = events[0].task
        assert task.status.state == TaskState.TASK_STATE_WORKING
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        ended = await within(2, lambda: client.cancel_task(CancelTaskRequest(id=task.id)))
        assert ended.status.state == TaskState.TASK_STATE_CANCELED
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(CancelTaskRequest(id=task.id))
        found = await client.get_task(GetTaskRequest(id=task.id))
        assert found.status.state == TaskState.TASK_STATE_CANCELED


async def test_a_message_that_waits_can_be_cancelled_and_never_runs(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    waiting, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        first = await send(workspace, said("wait g", contextId="c"), blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        second = await send(workspace, said("second", contextId="c"), blocking=False)
        third = await send(workspace, said("third", contextId="c"), blocking=False)
        cancelled = await within(2, lambda: call(workspace, "tasks/cancel", id=second["id"]))
        assert state_of(cancelled["result"]) == "canceled"
        opened.set()
        for task in (first, third):
            await task_when(workspace, task["id"], "completed")
    assert runs(workspace) == ["wait g", "third"]


async def test_a_parked_task_can_be_cancelled(make_workspace: Make) -> None:
    workspace = make_workspace(GATED, TASK)
    async with serving(workspace):
        await ready(workspace)
        asks = await send(workspace, said("ask"))
        assert state_of(asks) == "input-required"
        # Its conversation is free meanwhile.
        assert "done: x" in text_in(await send(workspace, said("x", contextId=asks["contextId"])))
        cancelled = await within(2, lambda: call(workspace, "tasks/cancel", id=asks["id"]))
        assert state_of(cancelled["result"]) == "canceled"


async def test_a_task_that_the_executor_leaves_without_an_end_is_ended_with_what_it_said(make_workspace: Make) -> None:
    workspace = make_workspace(GATED, TASK)
    async with serving(workspace):
        await ready(workspace)
        left = await send(workspace, said("leave", contextId="c"))
        assert (state_of(left), text_in(left)) == ("completed", "begun")
        assert "done: x" in text_in(await send(workspace, said("x", contextId="c")))


async def test_a_parked_task_goes_on_with_the_next_message_also_after_a_restart(make_workspace: Make) -> None:
    workspace = make_workspace(GATED, TASK)
    async with process(workspace) as host:
        await ready(workspace)
        asks = await send(workspace, said("ask"))
        host.popen.kill()
        await host.exit_code()
    async with process(workspace):
        await ready(workspace)
        assert state_of((await call(workspace, "tasks/get", id=asks["id"]))["result"]) == "input-required"
        answer = await send(workspace, said("go", taskId=asks["id"], contextId=asks["contextId"]))
        assert state_of(answer) == "completed"
        assert "done: go" in text_in(answer)


@pytest.mark.parametrize("text", ["deaf", "wait g\nrude"], ids=["keeps the cancellation", "fails to cancel"])
async def test_an_adapter_that_resists_is_left_behind_and_its_turn_cancelled_all_the_same(
    make_workspace: Make, platform: FakePlatform, text: str
) -> None:
    workspace = make_workspace(GATED, TASK)
    _, opened = platform.gate("g")
    async with serving(workspace), opening(opened):
        await ready(workspace)
        task = await send(workspace, said(text, contextId="c"), blocking=False)
        await eventually(lambda: runs(workspace), "the turn begins")
        cancelled = await within(2, lambda: call(workspace, "tasks/cancel", id=task["id"]))
        assert state_of(cancelled["result"]) == "canceled"
        assert "done: x" in text_in(await send(workspace, said("x", contextId="c")))
        (workspace.root / "over").touch()
        opened.set()
        assert "done: y" in text_in(await send(workspace, said("y", contextId="c")))
        assert state_of((await call(workspace, "tasks/get", id=task["id"]))["result"]) == "canceled"


async def test_an_agent_that_says_nothing_for_too_long_has_failed_and_the_conversation_goes_on(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    waiting, opened = platform.gate("g")
    async with serving(workspace, A2A_COMPLETION_IDLE_TIMEOUT_SECONDS="0.5"), opening(opened):
        await ready(workspace)
        failed = await send(workspace, said("wait g", contextId="c"))
        assert waiting.is_set()
        assert state_of(failed) == "failed"
        assert "nothing for 0.5 s" in json.dumps(failed)
        assert text_in(await send(workspace, said("next", contextId="c"))) == "done: next"
    assert ends(workspace) == ["CancelledError"]


def groups(workspace: Workspace) -> list[int]:
    path = workspace.root / "groups.txt"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_host_whose_agent_is_busy_in_a_subprocess_stays_responsive_and_cancels_it(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    path = workspace.root / "configs" / "config.yaml"
    path.write_text(path.read_text() + "observability: {heartbeat_interval_seconds: 5}\n")
    busy = float(os.environ.get("RESP_E2E_A_BUSY_SECONDS", "6"))
    async with process(workspace) as host:
        await ready(workspace)
        began = time.monotonic()
        first = await send(workspace, said(f"sleep {busy:g}", contextId="c"), blocking=False)
        await eventually(lambda: groups(workspace), "the subprocess runs")
        before = len(platform.beats)
        second = await within(1, lambda: send(workspace, said("second", contextId="c"), blocking=None))
        assert state_of(second) == "submitted"
        await eventually(lambda: len(platform.beats) >= before + 1, "a beat while the agent is at work")
        assert platform.beats[-1]["active_tasks"] == 1
        assert platform.beats[-1]["current_task"] == f"sleep {busy:g}"
        slept = await task_when(workspace, first["id"], "completed", seconds=DEADLINE + busy)
        assert "done: sleep" in text_in(slept)
        assert time.monotonic() - began >= busy / 2
        assert "done: second" in text_in(await task_when(workspace, second["id"], "completed"))
        await eventually(lambda: platform.beats[-1]["active_tasks"] == 0, "a beat of an idle agent")

        third = await send(workspace, said("sleep 600", contextId="c"), blocking=False)
        await eventually(lambda: len(groups(workspace)) == 2, "another subprocess runs")
        group = groups(workspace)[1]
        assert lives(group)
        cancelled = await within(2, lambda: call(workspace, "tasks/cancel", id=third["id"]))
        assert state_of(cancelled["result"]) == "canceled"
        await eventually(lambda: not lives(group), "the process group ends")
        host.popen.terminate()
        assert await host.exit_code() == 0
