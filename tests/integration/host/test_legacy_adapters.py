"""Adapters that know only the predecessor's names, on real hosts against a real `molecule-local`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from ..processes import DEADLINE
from .members import Member, member, platform

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

MESSAGES = """
    import warnings

    from a2a.server.agent_execution import AgentExecutor
    from molecule_runtime.adapters.base import AdapterConfig, BaseAdapter
    from molecule_runtime.adapters.shared_runtime import build_task_text, extract_history
    from molecule_runtime.executor_helpers import (
        auto_push_hook, brief_summary, collect_outbound_files, commit_memory, extract_attached_files, extract_message_text,
        new_response_message, read_delegation_results, recall_memories, sanitize_agent_error, set_current_task,
    )

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "template")
        display_name = staticmethod(lambda: "Template")
        description = staticmethod(lambda: "Is written for the predecessor.")

        async def setup(self, config: AdapterConfig):
            await set_current_task(config.heartbeat, "outside of a turn")

        async def create_executor(self, config):
            return Executor(config.heartbeat)

    class Executor(AgentExecutor):
        def __init__(self, heartbeat):
            self.heartbeat = heartbeat

        async def execute(self, context, event_queue):
            text = extract_message_text(context.message)
            files = []
            try:
                await set_current_task(self.heartbeat, brief_summary("# **Works on** " + text))
                answer = await self.answer(text, context)
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    explicit = ["/workspace/report.txt"] if text == "attach" else []
                    files = collect_outbound_files(answer, explicit)
                answer += "".join("; " + one.category.__name__ for one in seen)
            except Exception as exc:
                answer = sanitize_agent_error(exc=exc, stderr="HTTP 429 with sk-live-secret-value")
            finally:
                await set_current_task(self.heartbeat, "")
                await auto_push_hook()
            await event_queue.enqueue_event(new_response_message(context, answer, files))

        async def answer(self, text, context):
            word, _, rest = text.partition(" ")
            if word == "remember":
                await commit_memory("Conversation: " + rest)
                return await recall_memories()
            if word == "read":
                return " ".join(open(file["path"]).read() + "=" + file["name"] for file in extract_attached_files(context.message))
            if word == "history":
                return build_task_text(rest, extract_history(context)) + read_delegation_results()
            if word == "fail":
                raise RuntimeError("/configs/.auth_token has sk-live-secret-value")
            return "See /workspace/report.txt and /workspace/.env"

        async def cancel(self, context, event_queue):
            raise NotImplementedError
"""

SECRET = "sk-" + "a1B2c3D4" * 5

ENGINE = f"""
    import asyncio
    import pathlib

    from molecule_runtime.adapter_base import BaseAdapter
    from molecule_runtime.subprocess_executor import SubprocessA2AExecutor

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "engine")
        display_name = staticmethod(lambda: "Engine")
        description = staticmethod(lambda: "Runs an engine for each message.")

        async def setup(self, config):
            self.config = config

        async def create_executor(self, config):
            return Engine(workspace_id=config.workspace_id, heartbeat=config.heartbeat)

    class Engine(SubprocessA2AExecutor):
        runtime_label = "engine"

        async def run_agent(self, task_text, session_id, context):
            if task_text == "fail":
                raise RuntimeError("{SECRET}")
            if task_text == "hold":
                folder = pathlib.Path(__file__).parent
                (folder / "held").touch()
                try:
                    await asyncio.Event().wait()
                finally:
                    (folder / "cancelled").touch()
            return session_id + ": " + task_text
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def call(at: Member, method: str, **params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": "1", "method": method, "params": params}
    answer = (await at.admin.post(f"/workspaces/{at.id}/a2a", json=body)).json()
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


async def there(path: Path) -> None:
    with anyio.fail_after(DEADLINE):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - nothing announces it, and looking takes no time
            await anyio.sleep(0.02)


def said(text: str, *parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"kind": "text", "text": text}, *parts], "messageId": f"m-{text}", **fields}


async def test_an_executor_of_the_predecessor_answers_with_messages_reads_files_remembers_and_publishes_no_path(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "platform") as admin:
        at = await member(admin, tmp_path / "agent", adapter=MESSAGES, delivery="push")

        async def ask(text: str, *parts: dict[str, Any], **fields: Any) -> tuple[str, list[dict[str, Any]]]:
            result = await call(at, "message/send", message=said(text, *parts, **fields))
            assert result["kind"] == "message", result
            return result["parts"][0]["text"], result["parts"][1:]

        async with at.at_work():
            await at.ready()
            sent = await admin.post(f"/workspaces/{at.id}/chat/uploads", files=[("files", ("notes.txt", b"hello"))])
            uri = sent.raise_for_status().json()["files"][0]["uri"]
            given = [
                {"kind": "file", "file": {"uri": one, "name": "notes.txt"}}
                for one in (uri, "workspace:/configs/.auth_token", "file:///etc/passwd", "https://example.com/x")
            ]
            assert await ask("read", *given) == ("hello=notes.txt", [])

            # What a text names is not published; what the executor names is.
            workspace = at.state / "workspace"
            (workspace / "report.txt").write_text("done")
            (workspace / ".env").write_text("KEY=value")
            mention = "See /workspace/report.txt and /workspace/.env; DeprecationWarning"
            assert await ask("mention") == (mention, [])
            text, files = await ask("attach")
            assert text == mention
            assert [file["file"]["uri"] for file in files] == ["workspace:/workspace/report.txt"]

            first, _ = await ask("remember the first, with ghp_" + "a1B2" * 10)
            assert "the first" in first
            assert "ghp_a1B2" not in first
            assert "Conversation: the second" in (await ask("remember the second"))[0]

            before = [
                {"role": "user", "parts": [{"kind": "text", "text": "one"}]},
                "no",
                {"role": "agent", "parts": [{"text": "two"}]},
            ]
            told, _ = await ask("history three", metadata={"history": before})
            assert told == "Conversation so far:\nUser: one\nAgent: two\n\nCurrent request: three"

            failed, _ = await ask("fail")
            assert failed.startswith("Agent error (rate_limited): ")
            assert "secret" not in failed


async def test_an_engine_of_the_predecessors_base_answers_with_tasks_fails_them_and_is_cancelled(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "platform") as admin:
        at = await member(admin, tmp_path / "agent", adapter=ENGINE, delivery="push")
        async with at.at_work():
            await at.ready()
            done = await call(at, "message/send", message=said("hello"))
            assert done["status"]["state"] == "completed"
            assert done["artifacts"][0]["parts"][0]["text"] == f"workspace:{at.id}: hello"

            failed = await call(at, "message/send", message=said("fail"))
            assert failed["status"]["state"] == "failed"
            assert (
                failed["status"]["message"]["parts"][0]["text"] == "Agent error (RuntimeError): see the workspace log"
            )

            held = await call(at, "message/send", message=said("hold"), configuration={"blocking": False})
            await there(at.root / "held")
            ended = await call(at, "tasks/cancel", id=held["id"])
            assert ended["status"]["state"] == "canceled"
            await there(at.root / "cancelled")
        assert "RuntimeError" in at.log()
        assert SECRET not in at.log()
