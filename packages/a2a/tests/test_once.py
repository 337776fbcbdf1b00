"""A message that is sent again is the same message."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from a2a.client import ClientConfig, create_client
from a2a.helpers import get_message_text, new_text_message
from a2a.server.context import ServerCallContext
from a2a.types import Message, Role, SendMessageRequest

from molecule_runtime.a2a.once import Once
from molecule_runtime.a2a.statefile import StateFile
from molecule_runtime.a2a.tasks import TaskLimits

from .gated import GATED, call, ends, runs, said, send, state_of, task_when, text_in
from .support import DEADLINE, FakePlatform, Workspace, eventually, process, ready, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]

TASK = "runtime_config: {mode: task}"
MODES = pytest.mark.parametrize("config", ["", TASK], ids=["reply", "task"])


async def stream(workspace: Workspace, message: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "message/stream", "params": {"message": message}}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client,
        client.stream("POST", workspace.url, json=body) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))["result"]


@MODES
async def test_a_message_that_is_sent_again_runs_once_and_has_one_answer(make_workspace: Make, config: str) -> None:
    workspace = make_workspace(GATED, config)
    async with serving(workspace):
        await ready(workspace)
        message = said("hello")
        answers = [await send(workspace, message, blocking=blocking) for blocking in (True, None, False, True)]
        assert answers == answers[:1] * 4
        assert "done: hello" in text_in(answers[0])
        streamed = [event async for event in stream(workspace, message)]
        assert streamed == answers[:1]
    assert runs(workspace) == ["hello"]


@MODES
async def test_a_retry_during_the_turn_waits_for_the_same_answer(
    make_workspace: Make, platform: FakePlatform, config: str
) -> None:
    workspace = make_workspace(GATED, config)
    waiting, opened = platform.gate("g")
    message = said("wait g", contextId="c")
    answers: list[dict[str, Any]] = []
    streams: list[list[dict[str, Any]]] = []

    async def ask() -> None:
        answers.append(await send(workspace, message))

    async def follow() -> None:
        streams.append([event async for event in stream(workspace, message)])

    async with serving(workspace):
        await ready(workspace)
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            with anyio.fail_after(DEADLINE):
                await waiting.wait()
            group.start_soon(ask)
            group.start_soon(ask)
            group.start_soon(follow)
            if config:
                # A sender that does not want to wait gets the task that runs.
                task = await send(workspace, message, blocking=False)
                assert state_of(task) == "working"
            opened.set()
    assert answers == answers[:1] * 3
    assert runs(workspace) == ["wait g"]
    last = streams[0][-1]
    assert last == answers[0] if not config else last["status"]["state"] == "completed"


async def test_a_retry_after_a_stream_broke_follows_the_turn_that_runs(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    waiting, opened = platform.gate("g")
    message = said("wait g")
    async with serving(workspace):
        await ready(workspace)
        async with anyio.create_task_group() as group:

            async def broken() -> None:
                async for _ in stream(workspace, message):
                    pass

            group.start_soon(broken)
            with anyio.fail_after(DEADLINE):
                await waiting.wait()
            group.cancel_scope.cancel()
        answers: list[dict[str, Any]] = []
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append(await send(workspace, message))

            group.start_soon(ask)
            opened.set()
    assert text_in(answers[0]) == "done: wait g"
    assert runs(workspace) == ["wait g"]


async def test_another_callers_id_and_another_content_are_other_messages(make_workspace: Make) -> None:
    workspace = make_workspace(GATED)
    async with serving(workspace):
        await ready(workspace)
        ids = {"messageId": "m-1"}
        for message in (
            said("a", **ids),
            said("a", **ids, metadata={"source_workspace_id": "ws-2"}),
            said("a", **ids, metadata={"source_workspace_id": "ws-3"}),
            said("b", **ids),
            said("a", **ids, contextId="c"),
        ):
            for _ in range(2):
                await send(workspace, message)
    assert runs(workspace) == ["a", "a", "a", "b", "a"]


async def test_the_official_client_may_try_again_in_both_versions(make_workspace: Make) -> None:
    workspace = make_workspace(GATED)
    async with serving(workspace):
        await ready(workspace)
        message = new_text_message("hello", role=Role.ROLE_USER)
        texts: list[str] = []
        for streaming in (False, True, False):
            async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
                client = await create_client(workspace.url, ClientConfig(streaming=streaming, httpx_client=http))
                copy = Message()
                copy.CopyFrom(message)
                events = [event async for event in client.send_message(SendMessageRequest(message=copy))]
                texts += [get_message_text(event.message) for event in events]
        # The same message in the older form is the same message.
        texts.append(text_in(await send(workspace, said("hello", messageId=message.message_id))))
        assert texts == ["done: hello"] * 4
    assert runs(workspace) == ["hello"]


async def test_a_turn_that_failed_has_failed_for_a_retry_too(make_workspace: Make) -> None:
    workspace = make_workspace(GATED)
    async with serving(workspace):
        await ready(workspace)
        message = said("fail x")
        first, second = await send(workspace, message), await send(workspace, message)
        assert first == second
        assert state_of(first) == "failed"
    assert runs(workspace) == ["fail x"]


async def test_a_message_that_was_refused_may_be_sent_again(make_workspace: Make) -> None:
    workspace = make_workspace(GATED)
    async with serving(workspace):
        await ready(workspace)
        message = said("x", taskId="unheard-of")
        for _ in range(3):
            answer = await call(workspace, "message/send", message=message)
            assert "error" in answer
        assert runs(workspace) == []


@MODES
async def test_an_answer_outlives_the_process_and_a_turn_that_was_killed_may_be_sent_again(
    make_workspace: Make, platform: FakePlatform, config: str
) -> None:
    workspace = make_workspace(GATED, config)
    done, killed = said("hello"), said("wait g")
    waiting, opened = platform.gate("g")
    async with process(workspace) as host:
        await ready(workspace)
        answer = await send(workspace, done)
        task = await send(workspace, killed, blocking=False)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        host.popen.kill()
        assert await host.exit_code() == -9
    opened.set()
    async with process(workspace) as host:
        await ready(workspace)
        assert await send(workspace, done) == answer
        found = (await call(workspace, "tasks/get", id=task["id"]))["result"]
        assert state_of(found) == "failed"
        assert "restarted" in found["status"]["message"]["parts"][0]["text"]
        listed = (await call_1_0(workspace, "ListTasks", {"status": "TASK_STATE_FAILED"}))["result"]["tasks"]
        assert [entry["id"] for entry in listed] == [task["id"]]
        await host.says("1 task(s) were running")
        assert "done: wait g" in text_in(await send(workspace, killed))
    assert runs(workspace) == ["hello", "wait g", "wait g"]


async def test_a_host_that_remembers_in_memory_leaves_nothing_on_disk(make_workspace: Make) -> None:
    workspace = make_workspace(GATED, "x-note: memory")
    path = workspace.root / "configs" / "config.yaml"
    path.write_text(path.read_text().replace("a2a:\n", "a2a:\n  tasks: {store: memory}\n"))
    async with serving(workspace):
        await ready(workspace)
        message = said("hello")
        assert await send(workspace, message) == await send(workspace, message)
    assert runs(workspace) == ["hello"]
    assert [file.name for file in workspace.state.iterdir() if "sqlite" in file.name] == []


async def test_a_turn_that_the_host_stopped_may_be_sent_again(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace(GATED)
    waiting, opened = platform.gate("g")
    message = said("wait g")
    answers: list[dict[str, Any]] = []
    async with anyio.create_task_group() as group, serving(workspace, drain=0.2):
        await ready(workspace)

        async def ask() -> None:
            answers.append(await send(workspace, message))

        group.start_soon(ask)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
    assert state_of(answers[0]) == "failed"
    assert "stopping" in json.dumps(answers[0])
    opened.set()
    async with serving(workspace):
        await ready(workspace)
        assert text_in(await send(workspace, message)) == "done: wait g"


def request(text: str, message_id: str) -> SendMessageRequest:
    message = new_text_message(text, role=Role.ROLE_USER)
    message.message_id = message_id
    return SendMessageRequest(message=message)


async def test_answers_are_bounded_by_number_and_age() -> None:
    @asynccontextmanager
    async def answered(limits: TaskLimits, count: int) -> AsyncGenerator[tuple[Once, StateFile]]:
        async with StateFile.open(None) as state:
            once = Once(state, limits)
            await once.start()
            for number in range(count):
                delivery, new = await once.begin(request("x", f"m-{number}"), ServerCallContext())
                assert new
                delivery.reply = new_text_message(f"answer {number}")
                await once.answered(delivery)
            yield once, state

    async with answered(TaskLimits(max_finished=40), 100) as (once, state):
        rows = await state.run(lambda db: db.execute("SELECT count(*) FROM answers").fetchone()[0])
        assert 40 <= rows < 40 + 32
        delivery, new = await once.begin(request("x", "m-99"), ServerCallContext())
        assert not new
        assert delivery.reply is not None
        assert get_message_text(delivery.reply) == "answer 99"
        assert (await once.begin(request("x", "m-10"), ServerCallContext()))[1]
    async with answered(TaskLimits(max_age=3600), 3) as (once, state):
        await state.run(lambda db: db.execute("UPDATE answers SET answered = answered - 4000 WHERE number < 3"))
        news = [(await once.begin(request("x", f"m-{number}"), ServerCallContext()))[1] for number in range(3)]
        assert news == [True, True, False]
    async with answered(TaskLimits(max_bytes=100), 64) as (once, state):
        assert await state.run(lambda db: db.execute("SELECT total(bytes) FROM answers").fetchone()[0]) <= 100


async def test_a_task_that_was_forgotten_takes_its_answer_with_it(make_workspace: Make) -> None:
    workspace = make_workspace(GATED, TASK)
    path = workspace.root / "configs" / "config.yaml"
    path.write_text(path.read_text().replace("a2a:\n", "a2a:\n  tasks: {max_finished: 2}\n"))
    async with serving(workspace):
        await ready(workspace)
        messages = [said(name) for name in ("a", "b", "c")]
        for message in messages:
            await send(workspace, message)
        for message in messages:
            await send(workspace, message)
    assert runs(workspace)[:4] == ["a", "b", "c", "a"]


async def call_1_0(workspace: Workspace, method: str, params: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return dict((await client.post(workspace.url, json=body, headers={"A2A-Version": "1.0"})).json())


async def test_a_sender_that_does_not_wait_gets_its_task_at_once_and_its_answer_later(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED)
    _, opened = platform.gate("g")
    async with serving(workspace):
        await ready(workspace)
        message = said("wait g")
        task = await send(workspace, message, blocking=False)
        assert state_of(task) == "working"
        assert state_of(await send(workspace, message, blocking=False)) == "working"
        opened.set()
        ended = await task_when(workspace, task["id"], "completed")
        assert text_in(ended) == "done: wait g"
        assert (await send(workspace, message))["id"] == task["id"]
    assert runs(workspace) == ["wait g"]
    await eventually(lambda: ends(workspace) == [], "nothing was cancelled")
