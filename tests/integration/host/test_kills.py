"""A host that is killed or stopped at any step of its boot, and in a turn: the next start on the same disk finds everything in order."""

from __future__ import annotations

import re
import signal
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest
from a2a.client import ClientConfig, create_client
from a2a.helpers import new_text_message
from a2a.types import (
    GetTaskRequest,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)

from ..processes import DEADLINE, ended
from .members import Member, member, platform, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ADAPTER = """
    import json
    import logging
    import time
    from pathlib import Path

    import anyio
    from molecule_runtime.a2a.executor import ReplyExecutor
    from molecule_runtime.core.adapter import BaseAdapter

    FOLDER = Path(__file__).parent
    STOP = FOLDER / "stop-at"
    GO = FOLDER / "go"

    def asked(point):
        if not STOP.exists() or STOP.read_text() != point:
            return False
        (FOLDER / "reached").touch()
        return True

    def stay(point):
        while asked(point) and not GO.exists():
            time.sleep(0.005)

    class BetweenSteps(logging.Handler):
        '''Stands still after the step that the test chose: the line is written as it ends, on the thread of the boot.'''

        def emit(self, record):
            step, end, _ = record.getMessage().partition(" took ")
            if end and step.startswith("boot: "):
                stay("after " + step.removeprefix("boot: "))

    logging.getLogger().addHandler(BetweenSteps())
    stay("in the import")

    class Adapter(BaseAdapter):
        name = staticmethod(lambda: "gated")
        display_name = staticmethod(lambda: "Gated")
        description = staticmethod(lambda: "Stays where it is told to.")

        async def setup(self, config):
            while asked("in setup"):
                await anyio.sleep(0.005)

        async def create_executor(self, config):
            while asked("in create_executor"):
                await anyio.sleep(0.005)
            return ReplyExecutor(self.answer)

        async def answer(self, turn):
            with (FOLDER / "runs.txt").open("a") as runs:
                runs.write(json.dumps(turn.text) + chr(10))
            while "hold" in turn.text and not GO.exists():
                await anyio.sleep(0.005)
            return "done: " + turn.text
"""

INSIDE = ("in the import", "in setup", "in create_executor")
"""Where the adapter itself can stand still within a step."""

SQLITE = {"a2a-state.sqlite3-wal", "a2a-state.sqlite3-shm"}
"""Come and go with the database that they belong to."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def steps_of(log: str) -> list[str]:
    """Return the steps of a boot in order, as its log tells them."""
    return list(dict.fromkeys(re.findall(r"boot: (.+?) took ", log)))


async def say(agent: Member, text: str, *, message_id: str, wait: bool = True) -> StreamResponse:
    """Send a message with the official client; the first that comes back."""
    message = new_text_message(text, role=Role.ROLE_USER)
    message.message_id = message_id
    request = SendMessageRequest(message=message, configuration=SendMessageConfiguration(return_immediately=not wait))
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
        client = await create_client(agent.url, ClientConfig(streaming=False, httpx_client=http))
        async for event in client.send_message(request):
            return event
    pytest.fail("no answer")


async def task_of(agent: Member, task_id: str) -> Task:
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as http:
        client = await create_client(agent.url, ClientConfig(streaming=False, httpx_client=http))
        return await client.get_task(GetTaskRequest(id=task_id))


def check_disk(agent: Member, usual: set[str]) -> None:
    """What a host leaves behind, whenever it ended: a sound state file, the token as it was, nothing half written."""
    left = {entry.name for entry in agent.state.iterdir()} if agent.state.exists() else set[str]()
    assert left <= usual | SQLITE, f"unknown files: {sorted(left - usual - SQLITE)}"
    token = agent.state / ".auth_token"
    if token.exists():
        assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == (agent.token, 0o600)
    if (agent.state / "a2a-state.sqlite3").exists():
        with closing(sqlite3.connect(agent.state / "a2a-state.sqlite3", timeout=5)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def platforms_view(agent: Member) -> tuple[list[str], int, str]:
    """Return the ids of all workspaces, how many tokens this one has, and its state."""
    everyone = (await agent.admin.get("/workspaces")).raise_for_status().json()
    tokens = (await agent.admin.get(f"/workspaces/{agent.id}/tokens")).raise_for_status().json()
    (own,) = [entry for entry in everyone if entry["id"] == agent.id]
    return sorted(entry["id"] for entry in everyone), len(tokens["tokens"]), own["status"]


async def check_running(agent: Member, view: tuple[list[str], int, str], usual: set[str]) -> None:
    """A host that is up, after whatever happened before: the platform knows it once, and it remembers what it answered."""

    async def is_known() -> bool:
        return await platforms_view(agent) == view

    await agent.ready()
    await until(is_known, "the platform sees what it saw before", agent)
    answer = await say(agent, "hello", message_id="m-1")
    assert answer.message.parts[0].text == "done: hello"
    assert agent.runs() == ["hello"]
    check_disk(agent, usual)


async def stopped_at(agent: Member, point: str, number: signal.Signals) -> None:
    """Start the host, let it come to a point of its boot, and send it a signal there."""
    for name in ("reached", "go"):
        (agent.root / name).unlink(missing_ok=True)
    (agent.root / "stop-at").write_text(point)
    async with agent.at_work() as process:
        await until(
            lambda: (agent.root / "reached").exists() or process.poll() is not None, f"the host is {point}", agent
        )
        assert process.poll() is None, agent.log()
        process.send_signal(number)
        if number is signal.SIGTERM and point.startswith("after "):
            # The boot's own thread stands still there, and hears of the signal when it goes on.
            (agent.root / "go").touch()
        assert await ended(process) == (0 if number is signal.SIGTERM else -signal.SIGKILL), agent.log()
    (agent.root / "stop-at").unlink()


async def test_killed_or_stopped_at_every_step_of_its_boot_the_next_start_finds_everything_in_order(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "data") as admin:
        agent = await member(admin, tmp_path / "agent", adapter=ADAPTER, delivery="push")
        async with agent.at_work() as process:
            await agent.ready()

            async def is_online() -> bool:
                return (await platforms_view(agent))[2] == "online"

            await until(is_online, "the first start is online", agent)
            await say(agent, "hello", message_id="m-1")
            view = await platforms_view(agent)
            process.terminate()
            assert await ended(process) == 0
        assert view[1] == 1
        usual = {entry.name for entry in agent.state.iterdir()}
        steps = steps_of(agent.log())
        assert len(steps) >= 8, agent.log()
        for point in (*INSIDE, *(f"after {step}" for step in steps)):
            # Each of these starts finds what the one before it left, and the last one comes up.
            for number in (signal.SIGKILL, signal.SIGTERM):
                await stopped_at(agent, point, number)
                check_disk(agent, usual)
                assert (await platforms_view(agent))[:2] == view[:2], point
        async with agent.at_work():
            await check_running(agent, view, usual)
        assert "Traceback" not in agent.log(), agent.log()


async def test_a_turn_that_a_kill_interrupts_has_failed_and_one_that_a_stop_interrupts_is_answered(
    tmp_path: Path,
) -> None:
    async with platform(tmp_path / "data") as admin:
        agent = await member(admin, tmp_path / "agent", adapter=ADAPTER, delivery="push")
        await stopped_at(agent, "in setup", signal.SIGKILL)
        async with agent.at_work() as process:
            await agent.ready()
            turn = await say(agent, "hold", message_id="m-1", wait=False)
            assert turn.task.status.state == TaskState.TASK_STATE_WORKING
            await until(lambda: agent.runs() == ["hold"], "the turn begins", agent)
            process.kill()
            await ended(process)
        (agent.root / "go").touch()
        async with agent.at_work() as process:
            await agent.ready()
            interrupted = await task_of(agent, turn.task.id)
            assert interrupted.status.state == TaskState.TASK_STATE_FAILED
            # Its sender is asked to send it again: it runs then, and not a third time.
            for _ in range(2):
                again = await say(agent, "hold", message_id="m-1")
                assert again.message.parts[0].text == "done: hold", again
            assert agent.runs() == ["hold", "hold"]

            # A stop lets a turn end, and who waits for it has the answer.
            (agent.root / "go").unlink()
            answers: list[StreamResponse] = []

            async def ask() -> None:
                answers.append(await say(agent, "hold on", message_id="m-2"))

            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await until(lambda: agent.runs()[2:] == ["hold on"], "the next turn begins", agent)
                process.terminate()
                await until(lambda: "stopping (SIGTERM)" in agent.log(), "the host stops", agent)
                (agent.root / "go").touch()
            assert await ended(process) == 0
        assert answers[0].message.parts[0].text == "done: hold on"
        async with agent.at_work():
            await agent.ready()
            again = await say(agent, "hold on", message_id="m-2")
            assert again.message.parts[0].text == "done: hold on"
        assert agent.runs() == ["hold", "hold", "hold on"]
        check_disk(agent, {entry.name for entry in agent.state.iterdir() if not entry.name.endswith(".tmp")})
