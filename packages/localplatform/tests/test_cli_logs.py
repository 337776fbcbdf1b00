"""`molecule-local logs`: what happened is told once, in order, and across restarts of the platform."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import anyio
import pytest

from .shell import COMMAND, SECONDS, Shell, environment, ran, started
from .support import FakeAgent, World, fake_agent, http_answer, message, said

if TYPE_CHECKING:
    from pathlib import Path

    from .support import Member, Received

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)


async def team(world: World, agent: FakeAgent) -> tuple[Member, Member]:
    lead = await world.create("lead")
    calc = await world.create("calc", parent_id=lead.id)
    await world.register(calc, agent)
    return lead, calc


def told(text: str) -> list[str]:
    """The lines without their times."""
    return [line.split("  ", 1)[1] for line in text.splitlines()]


def pairs(text: str) -> list[tuple[str, str]]:
    """Who, and what, of each line."""
    lines = [line.partition("  ") for line in told(text)]
    return [(who.strip(), what.strip()) for who, _, what in lines]


async def test_messages_and_answers_are_told_with_names_and_directions(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    lead, calc = await team(world, agent)
    await world.send(lead, calc, "What is\n17 * 23?\x1b[2J")
    await world.http.post(f"/workspaces/{lead.id}/notify", json={"message": "it is 391"}, headers=lead.auth)
    await world.http.post(
        f"/workspaces/{calc.id}/activity",
        json={"activity_type": "task_update", "summary": "adding up"},
        headers=calc.auth,
    )
    lines = pairs((await shell.run("logs")).said)
    messages = [(who, what.partition("  (")[0]) for who, what in lines if "→" in who or "←" in who]
    assert messages == [
        ("lead → calc", "What is 17 * 23?\ufffd[2J"),
        ("lead ← calc", "hello"),
        ("lead → you", "it is 391"),
    ]
    assert ("calc", "task_update: adding up") in lines
    assert ("calc", "is online") in lines


async def test_long_texts_are_cut_to_the_terminal_and_whole_in_json(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    lead, calc = await team(world, agent)
    await world.send(lead, calc, "x" * 500)
    cut = (await shell.run("logs", COLUMNS="70")).said.splitlines()
    assert max(len(line) for line in cut) == 70
    records = [json.loads(line) for line in (await shell.run("logs", "--json")).said.splitlines()]
    row = next(record for record in records if record["kind"] == "activity")
    assert (row["workspace"], row["summary"]) == ("calc", "x" * 500)
    assert {record["event"] for record in records if record["kind"] == "event"} >= {"WORKSPACE_ONLINE"}


async def test_a_message_stands_before_those_that_its_answer_took(world: World, shell: Shell, agent: FakeAgent) -> None:
    lead, calc = await team(world, agent)
    helper = await world.create("helper", parent_id=calc.id)
    async with fake_agent() as second:
        await world.register(helper, second)

        async def ask(request: Received) -> bytes:
            await world.send(calc, helper, "inner")
            world.clock.now += 60
            return http_answer(said("done"))

        agent.answer = ask
        await world.http.post(f"/workspaces/{calc.id}/a2a", json=message("outer"), headers=lead.auth)
    texts = [
        what.partition("  (")[0] for who, what in pairs((await shell.run("logs")).said) if "→" in who or "←" in who
    ]
    assert texts.index("inner") < texts.index("done")
    records = [json.loads(line) for line in (await shell.run("logs", "--json")).said.splitlines()]
    assert [record["summary"] for record in records if record["kind"] == "activity"] == ["inner", "outer"]


async def test_only_the_latest_lines_are_shown(world: World, shell: Shell, agent: FakeAgent) -> None:
    lead, calc = await team(world, agent)
    for number in range(3):
        world.clock.now += 10
        await world.send(lead, calc, f"message {number}")
    first, _ = pairs((await shell.run("logs", "-n", "2")).said)
    assert first == ("lead → calc", "message 2")
    assert (await shell.run("logs", "-n", "0")).said == ""
    assert len((await shell.run("logs", "-n", "1", "--json")).said.splitlines()) == 1


async def test_the_log_of_one_workspace_has_what_it_sent_and_what_it_got(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    lead, calc = await team(world, agent)
    other = await world.create("other", parent_id=lead.id, delivery_mode="poll")
    await world.send(lead, calc, "one")
    await world.send(calc, other, "two")
    await world.send(lead, other, "three")
    texts = [what for who, what in pairs((await shell.run("logs", "calc")).said) if "→" in who]
    assert texts == ["one", "two"]


async def test_a_failed_turn_says_why(world: World, shell: Shell, agent: FakeAgent) -> None:
    lead, calc = await team(world, agent)

    async def fail(request: Received) -> bytes:
        return http_answer({"error": "out of memory"}, 500)

    agent.answer = fail
    await world.send(lead, calc, "one")
    assert ("lead ← calc", "failed: out of memory") in [
        (who, what.partition("  (")[0]) for who, what in pairs((await shell.run("logs")).said)
    ]


async def test_following_tells_each_thing_once_as_it_happens(world: World, shell: Shell, agent: FakeAgent) -> None:
    lead, calc = await team(world, agent)
    poller = await world.create("poller", parent_id=lead.id, delivery_mode="poll")
    world.clock.now += 10
    await world.send(lead, calc, "before")
    async with shell.start("logs", "-f") as running:
        await running.out_with("before")
        await running.out_with("lead ← calc")
        for number in range(3):
            await world.send(lead, calc, f"push {number}")
            await world.send(lead, poller, f"poll {number}")
        await world.beat(calc, current_task="the last one")
        await world.send(lead, calc, "the end")
        lines = ""
        while "the end" not in lines or lines.count("lead ← calc") < 4:
            lines += await running.out_line()
        running.process.terminate()
    exchanges = [(who, what) for who, what in pairs(lines) if "→" in who or "←" in who]
    assert sorted(what for who, what in exchanges if who == "lead → calc") == ["push 0", "push 1", "push 2", "the end"]
    assert sorted(what for who, what in exchanges if who == "lead → poller") == ["poll 0", "poll 1", "poll 2"]
    assert len([who for who, _ in exchanges if who == "lead ← calc"]) == 4
    assert ("calc", "works on: the last one") in pairs(lines)


async def test_a_message_is_told_when_it_is_sent_not_only_when_it_is_answered(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    lead, calc = await team(world, agent)
    seen = anyio.Event()

    async def wait(request: Received) -> bytes:
        await seen.wait()
        return http_answer(said("at last"))

    agent.answer = wait
    async with shell.start("logs", "-f", "-n", "1") as running, anyio.create_task_group() as group:
        await running.out_line()
        group.start_soon(world.send, lead, calc, "a long one")
        assert "a long one" in await running.out_with("lead → calc")
        seen.set()
        assert "at last" in await running.out_line()


async def test_ctrl_c_ends_following_with_exit_code_0(world: World, shell: Shell) -> None:
    await world.create("alice")
    async with shell.start("logs", "-f") as running:
        await running.out_with("alice")
        running.process.send_signal(signal.SIGINT)
        done = await running.finish()
    assert (done.code, done.err) == (0, "")


async def test_a_reader_that_leaves_ends_following_quietly(world: World, shell: Shell) -> None:
    await world.create("alice")
    script = 'set -o pipefail; "$@" | head -n 1; echo "${PIPESTATUS[0]}"'
    command = ["bash", "-c", script, "bash", *COMMAND, "logs", "-f", "--url", world.platform.url]
    ended: list[tuple[bytes, bytes]] = []
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:

            async def go_on() -> None:
                while True:
                    await world.create("bob")

            group.start_soon(go_on)
            done = await anyio.run_process(command, env=environment(shell.folder))
            ended.append((done.stdout.splitlines()[-1], done.stderr))
            group.cancel_scope.cancel()
    assert ended == [(b"1", b"")]


async def test_following_goes_on_when_the_platform_is_back(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with started(data, "up", "--port", "0", "--json") as platform:
        await platform.out_line()
        await ran(data, "workspace", "create", "first")
        async with started(data, "logs", "-f") as watcher:
            await watcher.out_with("first")
            platform.process.kill()
            assert "the platform is gone" in await watcher.err_line()
            async with started(data, "up", "--port", "0", "--json") as again:
                await again.out_line()
                assert await watcher.err_line() == "the platform is back\n"
                await ran(data, "workspace", "create", "second")
                assert "second" in await watcher.out_line()
