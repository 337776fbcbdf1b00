"""`molecule-local chat` on a terminal: a conversation, line by line."""

from __future__ import annotations

import os
import pty
import re
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest

from .shell import COMMAND, SECONDS, environment
from .support import FakeAgent, World, http_answer, said

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import Process

    from .support import Received

pytestmark = pytest.mark.anyio

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A terminal with a program on it."""

    def __init__(self, process: Process, descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._unread = ""
        os.set_blocking(descriptor, False)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def until(self, text: str) -> str:
        """Return what is shown up to a text, and with it."""
        with anyio.move_on_after(SECONDS) as scope:
            while text not in self._unread:
                await anyio.wait_readable(self._descriptor)
                self._unread += CONTROL.sub("", os.read(self._descriptor, 65536).decode())
        assert not scope.cancelled_caught, self._unread
        shown, _, self._unread = self._unread.partition(text)
        return shown + text

    async def end(self) -> int:
        with anyio.fail_after(SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def terminal(world: World, *arguments: str) -> AsyncGenerator[Terminal]:
    ours, theirs = pty.openpty()
    process = await anyio.open_process(
        [*COMMAND, *arguments, "--url", world.platform.url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(world.platform.settings.data, TERM="xterm"),
        start_new_session=True,
    )
    os.close(theirs)
    async with process:
        try:
            yield Terminal(process, ours)
        finally:
            if process.returncode is None:
                process.kill()
            os.close(ours)


async def test_a_conversation_goes_on_until_ctrl_d(world: World, agent: FakeAgent) -> None:
    member = await world.create("alice")
    await world.register(member, agent)
    async with terminal(world, "chat", "alice") as screen:
        assert "alice is online" in await screen.until("you> ")
        screen.type("hi there\n")
        assert "alice: hello" in await screen.until("you> ")
        screen.type("/help\n")
        assert "/attach FILE" in await screen.until("you> ")
        screen.type("\n")
        await screen.until("you> ")
        screen.type("/attach /nowhere\n")
        assert "cannot be read" in await screen.until("you> ")
        screen.type("bye\n")
        await screen.until("alice: hello")
        await screen.until("you> ")
        screen.type("\x04")
        assert await screen.end() == 0
    assert agent.texts == ["hi there", "bye"]


async def test_what_the_agent_says_unasked_appears_above_what_is_being_typed(world: World) -> None:
    member = await world.create("alice", delivery_mode="poll")
    async with terminal(world, "chat", "alice") as screen:
        await screen.until("you> ")
        screen.type("half a sen")
        await screen.until("half a sen")
        await world.http.post(f"/workspaces/{member.id}/notify", json={"message": "psst"}, headers=member.auth)
        body = {"kind": "task", "recipient_type": "user", "title": "Water the plants"}
        assert "alice: psst" in await screen.until("you> half a sen")
        await world.http.post(f"/workspaces/{member.id}/requests", json=body, headers=member.auth)
        assert "alice asks you: Water the plants" in await screen.until("you> half a sen")
        screen.type("tence\n")
        await screen.until("reads its inbox")
        (_, row) = sorted(await world.activity(member), key=lambda row: row["seq"])
        assert row["request_body"]["params"]["message"]["parts"][0]["text"] == "half a sentence"
        await world.http.post(f"/workspaces/{member.id}/notify", json={"message": "I see"}, headers=member.auth)
        assert "alice: I see" in await screen.until("you> ")


async def test_ctrl_c_stops_waiting_and_the_answer_may_still_come(world: World, agent: FakeAgent) -> None:
    member = await world.create("alice")
    await world.register(member, agent)
    asked, left = anyio.Event(), anyio.Event()

    async def answer(request: Received) -> bytes:
        asked.set()
        await left.wait()
        return http_answer(said("here I am"))

    agent.answer = answer
    async with terminal(world, "chat", "alice") as screen:
        await screen.until("you> ")
        screen.type("think hard\n")
        with anyio.fail_after(SECONDS):
            await asked.wait()
        screen.process.send_signal(signal.SIGINT)
        assert "stopped waiting; alice may still answer" in await screen.until("you> ")
        left.set()
        assert "alice (late): here I am" in await screen.until("you> ")
        screen.process.send_signal(signal.SIGINT)
        await screen.until("you> ")
        screen.type("/quit\n")
        assert await screen.end() == 0


async def test_an_error_does_not_end_the_conversation(world: World, agent: FakeAgent) -> None:
    member = await world.create("alice")
    await world.register(member, agent)

    async def fail(request: Received) -> bytes:
        return http_answer({"error": "out of memory"}, 500)

    agent.answer = fail
    async with terminal(world, "chat", "alice", "--attach", __file__) as screen:
        await screen.until("you> ")
        screen.type("/new\n")
        assert "a new session begins" in await screen.until("you> ")
        screen.type("one\n")
        assert "molecule-local: " in await screen.until("you> ")
        agent.answer = None
        screen.type("two\n")
        assert "alice: hello" in await screen.until("you> ")


async def test_json_needs_a_message(world: World) -> None:
    await world.create("alice")
    async with terminal(world, "chat", "alice", "--json") as screen:
        await screen.until("--json needs a MESSAGE")
        assert await screen.end() == 2
