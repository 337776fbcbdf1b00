"""`molecule-local chat`: an agent answers at once, late, from its inbox or not at all, and the person sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from molecule_runtime.localplatform import LocalSettings

from .shell import Shell
from .support import FakeAgent, Received, World, http_answer, said

if TYPE_CHECKING:
    from pathlib import Path

    from .support import Clock, Member

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)


@pytest.fixture
def human_wait() -> float:
    return 30.0


@pytest.fixture
def settings(tmp_path: Path, clock: Clock, human_wait: float) -> LocalSettings:
    return LocalSettings(data=tmp_path / "data", port=0, clock=clock, sweep_interval=3600, human_wait=human_wait)


soon_told = pytest.mark.parametrize("human_wait", [0.2])
"""The platform does not wait for the end of a turn."""


async def online(world: World, agent: FakeAgent, name: str = "alice") -> Member:
    member = await world.create(name)
    await world.register(member, agent)
    return member


async def notify(world: World, member: Member, text: str, **fields: Any) -> None:
    answer = await world.http.post(
        f"/workspaces/{member.id}/notify", json={"message": text, **fields}, headers=member.auth
    )
    assert answer.status_code == 200, answer.text


async def test_the_answer_is_all_that_stands_on_stdout(world: World, shell: Shell, agent: FakeAgent) -> None:
    await online(world, agent)
    done = await shell.run("chat", "alice", "what is up?")
    assert (done.code, done.out, done.err) == (0, "hello\n", "")
    assert agent.texts == ["what is up?"]


async def test_a_message_is_read_from_standard_input(world: World, shell: Shell, agent: FakeAgent) -> None:
    await online(world, agent)
    assert (await shell.run("chat", "alice", stdin="a diff\nof two lines - é".encode())).said == "hello\n"
    assert (await shell.run("chat", "alice", "-", stdin=b"with a dash")).said == "hello\n"
    assert agent.texts == ["a diff\nof two lines - é", "with a dash"]


async def test_the_reply_is_an_object_for_programs(world: World, shell: Shell, agent: FakeAgent) -> None:
    member = await online(world, agent)

    async def answer(request: Received) -> bytes:
        parts: list[dict[str, Any]] = [
            {"kind": "text", "text": "here it is"},
            {"kind": "file", "file": {"uri": "workspace:/workspace/a.pdf", "name": "a.pdf", "size": 12345}},
        ]
        return http_answer({"jsonrpc": "2.0", "id": request.body["id"], "result": {"kind": "message", "parts": parts}})

    agent.answer = answer
    reply = (await shell.run("chat", "alice", "the file, please", "--json")).data
    assert (reply["workspace_id"], reply["name"], reply["text"]) == (member.id, "alice", "here it is")
    assert reply["files"] == [{"uri": "workspace:/workspace/a.pdf", "name": "a.pdf", "mime_type": "", "size": 12345}]
    assert (reply["messages"], reply["requests"]) == ([], [])
    text = (await shell.run("chat", "alice", "once more")).said
    assert "[file] a.pdf (12.3 kB) workspace:/workspace/a.pdf" in text


async def test_an_agents_error_is_one_line_and_exit_code_1(world: World, shell: Shell, agent: FakeAgent) -> None:
    await online(world, agent)

    async def answer(request: Received) -> bytes:
        return http_answer({"jsonrpc": "2.0", "id": "1", "error": {"code": -32000, "message": "no\nmodel\x1b[2J key"}})

    agent.answer = answer
    done = await shell.run("chat", "alice", "hi")
    assert (done.code, done.out) == (1, "")
    assert done.err == "molecule-local: alice failed: no model\ufffd[2J key\n"


async def test_an_agent_that_is_gone_is_said(world: World, shell: Shell) -> None:
    member = await world.create("alice")
    dead = FakeAgent(url="http://127.0.0.1:9/")
    await world.register(member, dead)
    done = await shell.run("chat", "alice", "hi")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "failed to reach workspace agent" in done.err


@soon_told
async def test_a_turn_longer_than_the_platform_waits_is_answered_all_the_same(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    await online(world, agent)
    told = anyio.Event()

    async def answer(request: Received) -> bytes:
        await told.wait()
        return http_answer(said("that took a while"))

    agent.answer = answer
    async with shell.start("chat", "alice", "think hard") as running:
        assert "still at work" in await running.err_line()
        told.set()
        done = await running.finish()
    assert (done.code, done.out, done.err) == (0, "that took a while\n", "")


@soon_told
async def test_a_long_turn_that_fails_is_said(world: World, shell: Shell, agent: FakeAgent) -> None:
    await online(world, agent)
    told = anyio.Event()

    async def answer(request: Received) -> bytes:
        await told.wait()
        return http_answer({"error": "out of memory"}, 500)

    agent.answer = answer
    async with shell.start("chat", "alice", "think hard") as running:
        assert "still at work" in await running.err_line()
        told.set()
        done = await running.finish()
    assert (done.code, done.out, done.err) == (1, "", "molecule-local: alice failed: out of memory\n")


async def test_the_answer_of_a_busy_agent_comes_out_of_the_queue(world: World, shell: Shell, agent: FakeAgent) -> None:
    member = await online(world, agent)

    async def hang_up(request: Received) -> None:
        return None

    agent.answer = hang_up
    async with shell.start("chat", "alice", "hi") as running:
        assert "waits in its queue" in await running.err_line()
        agent.answer = None
        await world.beat(member, active_tasks=0)
        done = await running.finish()
    assert (done.code, done.out) == (0, "hello\n")


async def test_a_queued_message_that_is_given_up_is_said(world: World, shell: Shell, agent: FakeAgent) -> None:
    member = await online(world, agent)

    async def hang_up(request: Received) -> None:
        return None

    agent.answer = hang_up
    async with shell.start("chat", "alice", "hi") as running:
        assert "waits in its queue" in await running.err_line()
        for _ in range(5):
            await world.beat(member, active_tasks=0)
            await world.settle()
        done = await running.finish()
    assert (done.code, done.out) == (1, "")
    assert "alice failed: " in done.err


async def test_an_agent_that_polls_answers_by_writing_to_the_person(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    await world.register(member)
    async with shell.start("chat", "alice", "are you there?") as running:
        assert "reads its inbox" in await running.err_line()
        (row,) = await world.activity(member)
        assert row["request_body"]["params"]["message"]["parts"] == [{"kind": "text", "text": "are you there?"}]
        file = {"uri": "workspace:/workspace/b.txt", "name": "b.txt"}
        await notify(world, member, "yes", attachments=[file])
        done = await running.finish()
    assert (done.code, done.out, done.err) == (0, "yes\n[file] b.txt workspace:/workspace/b.txt\n", "")


async def test_what_an_agent_writes_or_asks_during_its_turn_is_shown_beside_the_answer(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    member = await online(world, agent)
    asked: list[str] = []

    async def answer(request: Received) -> bytes:
        await notify(world, member, "on it")
        path = f"/workspaces/{member.id}/approvals"
        made = await world.http.post(path, json={"action": "delete the\ndisk"}, headers=member.auth)
        asked.append(made.json()["approval_id"])
        return http_answer(said("done"))

    agent.answer = answer
    done = await shell.run("chat", "alice", "clean up")
    assert (done.code, done.out) == (0, "done\n")
    assert done.err == (
        f"alice: on it\nalice needs your approval: delete the disk (molecule-local requests show {asked[0][:8]})\n"
    )
    reply = (await shell.run("chat", "alice", "clean up", "--json")).data
    assert [row["id"] for row in reply["requests"]] == asked
    assert [row["text"] for row in reply["messages"]] == ["on it"]


async def test_an_agent_that_does_not_answer_in_time_is_exit_code_1(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    done = await shell.run("chat", "alice", "hi", "--timeout", "0.3")
    assert (done.code, done.out) == (1, "")
    assert f"did not answer within 0.3 s; what it answers later is in: molecule-local logs {member.id}" in done.err


@soon_told
async def test_a_very_large_answer_comes_whole_although_it_comes_late(
    world: World, shell: Shell, agent: FakeAgent
) -> None:
    await online(world, agent)
    told = anyio.Event()

    async def answer(request: Received) -> bytes:
        await told.wait()
        return http_answer({**said("x" * 3_000_000), "id": request.body["id"]})

    agent.answer = answer
    async with shell.start("chat", "alice", "everything") as running:
        await running.err_line()
        told.set()
        done = await running.finish()
    assert (done.code, len(done.out), done.err) == (0, 3_000_001, "")


async def test_files_are_sent_along(world: World, shell: Shell, tmp_path: Path) -> None:
    member = await world.create("alice", delivery_mode="poll")
    first, second = tmp_path / "a report.txt", tmp_path / "b.bin"
    first.write_text("all is well")
    second.write_bytes(b"\x00\xff")
    async with shell.start("chat", "alice", "see these", "--attach", str(first), "--attach", str(second)) as running:
        await running.err_line()
        row = next(row for row in await world.activity(member) if row["method"] == "message/send")
        text, *files = row["request_body"]["params"]["message"]["parts"]
        assert text == {"kind": "text", "text": "see these"}
        assert [(part["kind"], part["file"]["name"], part["file"]["size"]) for part in files] == [
            ("file", "a_report.txt", 11),
            ("file", "b.bin", 2),
        ]
        workspace_id, file_id = files[0]["file"]["uri"].removeprefix("platform-pending:").split("/")
        path = f"/workspaces/{workspace_id}/pending-uploads/{file_id}/content"
        assert (await world.http.get(path, headers=member.auth)).content == b"all is well"
        await notify(world, member, "thanks")
        assert (await running.finish()).out == "thanks\n"


async def test_a_file_that_is_too_large_is_said_before_it_is_sent(world: World, shell: Shell, tmp_path: Path) -> None:
    member = await world.create("alice", delivery_mode="poll")
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(26 * 1024 * 1024)
    done = await shell.run("chat", "alice", "see this", "--attach", str(large))
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "large.bin' has 27.3 MB; the platform takes files up to 26.2 MB" in done.err
    assert await world.activity(member) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["alice", ""], "nothing to say"),
        (["alice", "hi", "--attach", "/nowhere/at all"], "/nowhere/at all"),
        (["alice", "hi", "--timeout", "0"], "--timeout"),
        (["alice", "hi", "--timeout", "nan"], "--timeout"),
    ],
)
async def test_wrong_usage_is_exit_code_2(shell: Shell, arguments: list[str], said: str) -> None:
    done = await shell.run("chat", *arguments)
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert said in done.err


async def test_nobody_of_that_name_is_said_with_what_is_near(world: World, shell: Shell) -> None:
    await world.create("alice")
    await world.create("bob")
    second = await world.create("bob")
    done = await shell.run("chat", "alise", "hi")
    assert (done.code, done.err) == (1, "molecule-local: there is no workspace 'alise'; did you mean 'alice'?\n")
    done = await shell.run("chat", "bob", "hi")
    assert done.code == 1
    assert "means 2 workspaces" in done.err
    assert second.id in done.err
