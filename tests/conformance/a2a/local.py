"""The agents that the suite starts when it is pointed at no other: the command `molecule-runtime` with an adapter of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import textwrap
import time
from typing import TYPE_CHECKING

import httpx
from tests.support.warm import WarmProcess, start

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 30.0

ADAPTER = '''
    """An agent that does what it is told, one word and its argument; see README.md."""

    import anyio
    from a2a.helpers import new_task_from_user_message, new_text_message, new_text_part
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.tasks import TaskUpdater
    from molecule_runtime.core.adapter import BaseAdapter


    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "obedient")
        display_name = staticmethod(lambda: "Obedient")
        description = staticmethod(lambda: "Does what it is told.")

        async def setup(self, config):
            pass

        async def create_executor(self, config):
            return Obedient()


    class Obedient(AgentExecutor):
        async def execute(self, context, event_queue):
            word, _, argument = context.get_user_input().partition(" ")
            if word == "say":
                await event_queue.enqueue_event(new_text_message(argument, context_id=context.context_id))
                return
            if context.current_task is None:
                await event_queue.enqueue_event(new_task_from_user_message(context.message))
            updater = TaskUpdater(event_queue, context.task_id, context.context_id)
            await updater.start_work()
            if word == "count":
                for number in range(int(argument)):
                    await updater.add_artifact(
                        [new_text_part(f"piece {number}")], artifact_id="pieces", name="pieces",
                        append=number > 0, last_chunk=number == int(argument) - 1,
                    )
                await updater.complete(updater.new_agent_message([new_text_part("done")]))
            elif word == "ask":
                await updater.requires_input(updater.new_agent_message([new_text_part("which?")]))
            elif word == "hold":
                await anyio.sleep(60)
                await updater.complete()
            elif word == "fail":
                await updater.failed(updater.new_agent_message([new_text_part("cannot")]))
            elif word == "reject":
                await updater.reject(updater.new_agent_message([new_text_part("will not")]))
            else:
                await updater.complete(updater.new_agent_message([new_text_part(f"answered {word}")]))

        async def cancel(self, context, event_queue):
            await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()
'''

TOKEN = "conformance-token-0123456789"  # noqa: S105 - of a test

OPEN = """
    a2a:
      port: {port}
      push_targets: [127.0.0.1]
"""

GUARDED = """
    a2a:
      port: {port}
      streaming: false
      push_notifications: false
      inbound_auth: bearer
"""
"""An agent that can do little, and that not for everybody."""


@contextlib.contextmanager
def molecule_runtime(folder: Path, config: str) -> Generator[str]:
    """Run a host, without a platform, while the context lasts, and return its URL.

    Raises:
        AssertionError: it did not start, or something in it went wrong unhandled.
    """
    port = _free_port()
    (folder / "configs").mkdir()
    (folder / "configs" / "config.yaml").write_text(textwrap.dedent(config).format(port=port), encoding="utf-8")
    (folder / "conformance_adapter.py").write_text(textwrap.dedent(ADAPTER), encoding="utf-8")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(folder),
        "WORKSPACE_ID": "conformance",
        "WORKSPACE_CONFIG_PATH": str(folder / "configs"),
        "CONFIGS_DIR": str(folder / "state"),
        # Nobody listens there: what is tested is what the host says to those who call it.
        "PLATFORM_URL": "http://127.0.0.1:9",
        "MOLECULE_BIND_HOST": "127.0.0.1",
        "MOLECULE_A2A_TOKEN": TOKEN,
        "ADAPTER_MODULE": "conformance_adapter",
    }
    log = folder / "stderr.txt"
    process = start("molecule-runtime", environ=environment, folder=folder, log=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    text = log.read_text(encoding="utf-8", errors="replace")
    assert "Traceback" not in text, text


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_until_ready(process: WarmProcess, url: str, log: Path) -> None:
    """Wait until it answers; it is `/ready` only once a platform knows it, and here is none."""
    asked = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks"}
    headers = {"A2A-Version": "1.0", "Authorization": f"Bearer {TOKEN}"}
    deadline = time.monotonic() + START_SECONDS
    with httpx.Client(timeout=5, trust_env=False) as http:
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if http.post(url, json=asked, headers=headers).status_code == 200:
                    return
            time.sleep(0.05)
    raise AssertionError(f"molecule-runtime did not start: {log.read_text(encoding='utf-8', errors='replace')}")
