"""A2A on the wire: the official 1.0 client, the 0.3 shape that the platform sends, and what older senders send."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

import anyio
import httpx
import pytest
from a2a.client import ClientConfig, create_client
from a2a.helpers import get_message_text, new_text_message
from a2a.types import CancelTaskRequest, GetTaskRequest, Role, SendMessageRequest, TaskState
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError

from molecule_runtime.core import envelope

from .support import DEADLINE, ECHO, FakePlatform, Workspace, ask, eventually, ready, serving, text_of

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]

TASK_MODE = """
    from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.tasks import TaskUpdater
    from molecule_runtime.core.adapter import BaseAdapter

    class Executor(AgentExecutor):
        async def execute(self, context, event_queue):
            await event_queue.enqueue_event(new_task_from_user_message(context.message))
            updater = TaskUpdater(event_queue, context.task_id, context.context_id)
            await updater.start_work()
            if context.get_user_input() == "boom":
                raise ValueError("customer 4711")
            await updater.add_artifact([new_text_part("part of ")], artifact_id="a")
            await updater.add_artifact([new_text_part("the answer")], artifact_id="a", append=True)
            await updater.complete(new_text_message("part of the answer"))

        async def cancel(self, context, event_queue):
            await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "tasks")
        display_name = staticmethod(lambda: "Tasks")
        description = staticmethod(lambda: "Answers with tasks.")

        async def setup(self, config):
            pass

        async def create_executor(self, config):
            return Executor()
"""


async def send_1_0(workspace: Workspace, text: str, *, streaming: bool = False) -> list[Any]:
    """Ask with the official client, as another agent would."""
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
        client = await create_client(workspace.url, ClientConfig(streaming=streaming, httpx_client=http))
        request = SendMessageRequest(message=new_text_message(text, role=Role.ROLE_USER))
        return [event async for event in client.send_message(request)]


async def test_the_official_client_gets_the_one_message_of_a_reply_executor(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        for streaming in (False, True):
            events = await send_1_0(workspace, "hello", streaming=streaming)
            assert [get_message_text(event.message) for event in events] == ["You said: hello"]


async def test_the_official_client_follows_a_task(make_workspace: Make) -> None:
    workspace = make_workspace(TASK_MODE)
    async with serving(workspace):
        await ready(workspace)
        events = await send_1_0(workspace, "hello")
        task = events[-1].task
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
        assert "".join(part.text for part in task.artifacts[0].parts) == "part of the answer"
        streamed = await send_1_0(workspace, "hello", streaming=True)
        assert len(streamed) > 2


async def test_a_task_that_ended_can_be_asked_for_and_not_be_cancelled(make_workspace: Make) -> None:
    workspace = make_workspace(TASK_MODE)
    async with serving(workspace):
        await ready(workspace)
        task = (await send_1_0(workspace, "hello"))[-1].task
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
            client = await create_client(workspace.url, ClientConfig(httpx_client=http))
            found = await client.get_task(GetTaskRequest(id=task.id))
            assert found.status.state == TaskState.TASK_STATE_COMPLETED
            with pytest.raises(TaskNotCancelableError):
                await client.cancel_task(CancelTaskRequest(id=task.id))
            with pytest.raises(TaskNotFoundError):
                await client.get_task(GetTaskRequest(id="unheard-of"))
        # The same in the 0.3 shape; with a client of its own, since the SDK leaves its version header on the first.
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": task.id}}
            assert (await http.post(workspace.url, json=body)).json()["result"]["status"]["state"] == "completed"
            refused = (await http.post(workspace.url, json={**body, "method": "tasks/cancel"})).json()
            assert refused["error"]["code"] == -32002


@pytest.mark.parametrize("source", [ECHO, TASK_MODE])
async def test_a_message_leaves_nothing_running_behind(make_workspace: Make, source: str) -> None:
    workspace = make_workspace(source)
    async with serving(workspace):
        await ready(workspace)
        await ask(workspace, "first")
        before = len(asyncio.all_tasks())
        for _ in range(20):
            await ask(workspace, "again")
        await eventually(lambda: len(asyncio.all_tasks()) <= before + 2, "the tasks of the turns end")


@pytest.mark.parametrize("path", ["/", "/a2a"])
async def test_a_0_3_message_is_answered_on_both_paths(make_workspace: Make, path: str) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        answer = await ask(workspace, "hello", path=path)
        assert answer["id"] == "request-1"
        assert text_of(answer) == "You said: hello"
        assert envelope.read_answer(answer) == envelope.Reply(
            text="You said: hello", context_id=answer["result"]["contextId"]
        )


async def test_a_0_3_message_gets_a_task_where_the_agent_answers_with_one(make_workspace: Make) -> None:
    workspace = make_workspace(TASK_MODE)
    async with serving(workspace):
        await ready(workspace)
        reply = envelope.read_answer(await ask(workspace, "hello"))
        assert isinstance(reply, envelope.Reply)
        assert reply.state == "completed"
        assert reply.text.replace("\n", "") == "part of the answer"


async def test_an_exception_in_a_task_ends_the_task_without_its_message(make_workspace: Make) -> None:
    workspace = make_workspace(TASK_MODE)
    async with serving(workspace):
        await ready(workspace)
        answer = await ask(workspace, "boom")
        assert envelope.read_answer(answer) == envelope.Failure(
            message="Agent error (ValueError): see the workspace's log"
        )
        assert "4711" not in json.dumps(answer)


async def test_an_exception_of_a_reply_executor_is_a_failed_task_without_its_message(make_workspace: Make) -> None:
    workspace = make_workspace(ECHO.replace('return f"You said: {turn.text}"', 'raise KeyError("customer 4711")'))
    async with serving(workspace):
        await ready(workspace)
        answer = await ask(workspace, "hello")
        assert answer["result"]["status"]["state"] == "failed"
        assert "4711" not in json.dumps(answer)
        assert envelope.read_answer(answer) == envelope.Failure(
            message="Agent error (KeyError): see the workspace's log"
        )


async def test_an_executor_that_says_nothing_is_a_failed_task_and_not_an_endless_wait(make_workspace: Make) -> None:
    source = TASK_MODE.replace(
        "await event_queue.enqueue_event(new_task", "return\n            await event_queue.enqueue_event(new_task"
    )
    workspace = make_workspace(source)
    async with serving(workspace):
        await ready(workspace)
        assert isinstance(envelope.read_answer(await ask(workspace, "hello")), envelope.Failure)


async def test_parts_keyed_by_type_and_messages_without_role_or_id_are_understood(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        assert text_of(await ask(workspace, "", part={"type": "text", "text": "old"})) == "You said: old"
        assert text_of(await ask(workspace, "", part={"text": "older"})) == "You said: older"
        body = {"method": "message/send", "id": 1, "params": {"message": {"parts": [{"type": "text", "text": "bare"}]}}}
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(workspace.url, json=body)
        assert text_of(answer.json()) == "You said: bare"


async def test_a_turn_has_the_metadata_the_sender_and_the_files_as_plain_values(make_workspace: Make) -> None:
    source = ECHO.replace(
        'return f"You said: {turn.text}"',
        "import json; from molecule_runtime.core import delegation_chain; "
        "return json.dumps([turn.metadata, turn.source_workspace_id, [[f.uri, f.name, f.mime_type] for f in turn.files], "
        "turn.context_id, turn.message_id, delegation_chain.current()])",
    )
    workspace = make_workspace(source)
    metadata = {
        "source_workspace_id": "ws-2",
        "delegation_chain": ["ws-3"],
        "n": 3,
        "nested": {"list": [1, None, True, "x", 1.5]},
    }
    async with serving(workspace):
        await ready(workspace)
        answer = await ask(
            workspace,
            "",
            part={
                "kind": "file",
                "file": {"uri": "workspace:/a.txt", "name": "a.txt", "mimeType": "text/plain", "size": 3},
            },
            metadata=metadata,
            contextId="context-1",
            messageId="message-1",
        )
        assert json.loads(text_of(answer)) == [
            metadata,
            "ws-2",
            [["workspace:/a.txt", "a.txt", "text/plain"]],
            "context-1",
            "message-1",
            ["ws-3", "ws-2"],
        ]
        forged = await ask(workspace, "x", metadata={"source_workspace_id": "Not/An Id"})
        assert json.loads(text_of(forged))[1] is None
        inline = await ask(workspace, "", part={"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain"}})
        assert json.loads(text_of(inline))[2] == [["data:text/plain;base64,aGk=", "", "text/plain"]]


async def test_a_method_of_1_0_without_its_version_is_refused_with_what_to_send(make_workspace: Make) -> None:
    workspace = make_workspace()
    message = {"messageId": str(uuid.uuid4()), "role": "ROLE_USER", "parts": [{"text": "hello"}]}
    async with serving(workspace):
        await ready(workspace)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                workspace.url, json={"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
            )
        # No version means 0.3, which has no such method (A2A 1.0, 3.6.2).
        error = answer.json()["error"]
        assert error["code"] == -32601
        assert "send A2A-Version: 1.0" in error["message"]


async def test_a_request_that_is_too_large_not_json_or_not_declared_as_json_is_refused(make_workspace: Make) -> None:
    workspace = make_workspace()
    kind = {"content-type": "application/json"}

    async def endless() -> AsyncGenerator[bytes, None]:
        for _ in range(20):
            yield b" " * 100_000

    async with serving(workspace):
        await ready(workspace)
        async with httpx.AsyncClient(trust_env=False) as client:
            declared = await client.post(workspace.url, content=b" " * (1024 * 1024 + 1), headers=kind)
            streamed = await client.post(workspace.url, content=endless(), headers=kind)
            assert declared.status_code == streamed.status_code == 413
            typed = await client.post(workspace.url, content=b"{}", headers={"content-type": "text/plain"})
            assert typed.status_code == 415
            for body in (b"{", b"\xff", b"[" * 100_000):
                broken = await client.post(workspace.url, content=body, headers=kind)
                assert broken.json()["error"]["code"] == -32700
            odd_bodies: tuple[Any, ...] = (
                [],
                1,
                None,
                "x",
                {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": 3},
            )
            for odd in odd_bodies:
                answer = await client.post(workspace.url, json=odd)
                assert "error" in answer.json(), odd
            unknown = await client.post(workspace.url, json={"jsonrpc": "2.0", "id": 1, "method": "message/unsend"})
            assert unknown.json()["error"]["code"] == -32601
        assert text_of(await ask(workspace, "still here")) == "You said: still here"


async def test_a_running_task_is_really_cancelled(make_workspace: Make, platform: FakePlatform) -> None:
    source = (
        TASK_MODE.replace(
            'if context.get_user_input() == "boom":',
            """import anyio, httpx, os
            url = os.environ.get("TEST_PLATFORM") or self.url
            try:
                async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                    await client.get(url + "/gate/turn")
            except BaseException as exc:
                self.ended.append(type(exc).__name__)
                raise
            if context.get_user_input() == "boom":""",
        )
        .replace(
            "return Executor()",
            "Executor.url = config.platform.target.platform_url; Executor.ended = Adapter.ended; return Executor()",
        )
        .replace("class Adapter(BaseAdapter):", "class Adapter(BaseAdapter):\n        ended = []\n")
    )
    workspace = make_workspace(source)
    waiting, _ = platform.gate("turn")
    answers: list[dict[str, Any]] = []
    async with serving(workspace):
        await ready(workspace)
        async with anyio.create_task_group() as tasks, httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:

            async def rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                return dict((await client.post(workspace.url, json=body)).json())

            message = {
                "role": "user",
                "messageId": "m",
                "parts": [{"kind": "text", "text": "x"}],
            }
            started = await rpc("message/send", {"message": message, "configuration": {"blocking": False}})
            with anyio.fail_after(DEADLINE):
                await waiting.wait()
            answers.append(await rpc("tasks/cancel", {"id": started["result"]["id"]}))
            tasks.cancel_scope.cancel()
    assert answers[0]["result"]["status"]["state"] == "canceled"
    import sys

    assert sys.modules[workspace.adapter].Adapter.ended == ["CancelledError"]


async def test_the_transcript_needs_the_workspaces_own_token(make_workspace: Make, platform: FakePlatform) -> None:
    source = (
        ECHO
        + """
        async def transcript_lines(self, since=0, limit=100):
            if since == 13:
                raise RuntimeError("no such file: token=abcdefgh12345678")
            return {"runtime": "echo", "supported": True, "lines": ["x"], "cursor": since + limit, "more": False}
    """
    )
    workspace = make_workspace(source)
    async with serving(workspace), httpx.AsyncClient(base_url=workspace.url, trust_env=False) as client:
        await ready(workspace)
        good = {"authorization": f"Bearer {platform.token}"}
        for headers in (
            {},
            {"authorization": ""},
            {"authorization": "Bearer"},
            {"authorization": f"Basic {platform.token}"},
            {"authorization": f"Bearer {platform.token}x"},
            {b"authorization": b"Bearer \xff\xfe\xe9"},
        ):
            assert (await client.get("/transcript", headers=headers)).status_code == 401, headers
        assert (await client.get("/transcript", headers=good)).json()["cursor"] == 100
        answer = await client.get("/transcript?since=5&limit=7", headers={"authorization": f"bearer {platform.token}"})
        assert answer.json()["cursor"] == 12
        assert (await client.get("/transcript?since=x", headers=good)).status_code == 400
        broken = await client.get("/transcript?since=13", headers=good)
        assert broken.status_code == 503
        assert set(broken.json()) == {"error", "detail"}


async def test_a_transcript_is_refused_while_the_workspace_has_no_token(make_workspace: Make) -> None:
    workspace = make_workspace()
    workspace.platform_url = "http://127.0.0.1:9"
    async with serving(workspace):
        await ask_until_up(workspace)
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{workspace.url}/transcript", headers={"authorization": "Bearer"})
            assert answer.status_code == 401


async def ask_until_up(workspace: Workspace) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with anyio.fail_after(DEADLINE):
            while True:
                try:
                    await client.get(f"{workspace.url}/health")
                except httpx.TransportError:
                    await anyio.sleep(0.01)
                else:
                    return
