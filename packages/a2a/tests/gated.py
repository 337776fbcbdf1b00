"""An adapter that does what its messages say and writes down that it did, and the calls with which tests drive it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from .support import DEADLINE

if TYPE_CHECKING:
    from .support import Workspace

GATED = """
    import os
    import subprocess
    import sys
    from pathlib import Path

    import anyio
    import httpx
    from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.tasks import TaskUpdater
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    RUNS = Path(__file__).with_name("runs.txt")
    ENDS = Path(__file__).with_name("ends.txt")

    def note(path, text):
        with path.open("a") as handle:
            handle.write(text.replace(chr(10), "|") + chr(10))

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "gated")
        display_name = staticmethod(lambda: "Gated")
        description = staticmethod(lambda: "Does what it is told.")

        async def setup(self, config):
            self.platform = config.platform.target.platform_url
            self.mode = config.runtime_config.get("mode", "reply")

        async def create_executor(self, config):
            return Tasks(self) if self.mode == "task" else ReplyExecutor(lambda turn: self.answer(turn.text))

        async def answer(self, text):
            note(RUNS, text)
            try:
                for line in text.splitlines():
                    await self.obey(*line.split(" ", 1))
            except BaseException as exc:
                note(ENDS, type(exc).__name__)
                raise
            return "done: " + text

        async def obey(self, word, what=""):
            if word == "wait":
                async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
                    await client.get(self.platform + "/gate/" + what)
            elif word == "fail":
                raise ValueError(what)
            elif word == "deaf":
                # Keeps every cancellation to itself.
                while not RUNS.with_name("over").exists():
                    try:
                        await anyio.sleep(0.02)
                    except BaseException:
                        pass
            elif word == "sleep":
                script = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
                inner = "import time; time.sleep(%s)" % what
                process = await anyio.open_process(
                    [sys.executable, "-c", script, inner], start_new_session=True, stdin=subprocess.DEVNULL
                )
                note(RUNS.with_name("groups.txt"), str(process.pid))
                try:
                    await process.wait()
                finally:
                    try:
                        os.killpg(process.pid, 9)
                    except ProcessLookupError:
                        pass
                    with anyio.CancelScope(shield=True):
                        await process.aclose()

    class Tasks(AgentExecutor):
        def __init__(self, adapter):
            self.adapter = adapter

        async def execute(self, context, event_queue):
            if context.current_task is None:
                await event_queue.enqueue_event(new_task_from_user_message(context.message))
            updater = TaskUpdater(event_queue, context.task_id, context.context_id)
            await updater.start_work()
            text = context.get_user_input()
            await updater.add_artifact([new_text_part("begun")], artifact_id="a")
            if text == "ask":
                note(RUNS, text)
                await updater.requires_input(new_text_message("which one?"))
                return
            if text == "leave":
                return
            answer = await self.adapter.answer(text)
            await updater.add_artifact([new_text_part(" " + answer)], artifact_id="a", append=True)
            await updater.complete()

        async def cancel(self, context, event_queue):
            if context.current_task is not None and "rude" in str(context.current_task.history):
                raise RuntimeError("no")
"""


def runs(workspace: Workspace) -> list[str]:
    """Return what the adapter was told, in order."""
    path = workspace.root / "runs.txt"
    return path.read_text().splitlines() if path.exists() else []


def ends(workspace: Workspace) -> list[str]:
    """Return how those turns ended that did not end well."""
    path = workspace.root / "ends.txt"
    return path.read_text().splitlines() if path.exists() else []


def said(text: str, **fields: Any) -> dict[str, Any]:
    """Return a 0.3 message."""
    return {"role": "user", "messageId": str(uuid.uuid4()), "parts": [{"kind": "text", "text": text}], **fields}


async def call(workspace: Workspace, method: str, **params: Any) -> dict[str, Any]:
    """Make a JSON-RPC call and return the whole answer."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        answer: dict[str, Any] = (await client.post(workspace.url, json=body)).json()
    return answer


async def send(
    workspace: Workspace, message: dict[str, Any], *, blocking: bool | None = True, **params: Any
) -> dict[str, Any]:
    """Send a 0.3 message and return its result."""
    if blocking is not None:
        params["configuration"] = {"blocking": blocking}
    answer = await call(workspace, "message/send", message=message, **params)
    assert "result" in answer, answer
    result: dict[str, Any] = answer["result"]
    return result


def text_in(result: dict[str, Any]) -> str:
    """Return what a Message says, or the artifacts of a Task."""
    if result["kind"] == "message":
        return "".join(part["text"] for part in result["parts"])
    return "".join(part["text"] for artifact in result.get("artifacts", []) for part in artifact["parts"])


def state_of(result: dict[str, Any]) -> str:
    """Return the state of a Task."""
    assert result["kind"] == "task", result
    state: str = result["status"]["state"]
    return state


async def task_when(workspace: Workspace, task_id: str, *states: str, seconds: float = DEADLINE) -> dict[str, Any]:
    """Ask for a task until it is in one of the states."""
    with anyio.fail_after(seconds):
        while True:
            result: dict[str, Any] = (await call(workspace, "tasks/get", id=task_id))["result"]
            if state_of(result) in states:
                return result
            await anyio.sleep(0.02)
