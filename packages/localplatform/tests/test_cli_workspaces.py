"""`status`, `workspace` and `token` for people: names instead of ids, a tree, and what is ambiguous is said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core.envelope import message_send

from .shell import Shell

if TYPE_CHECKING:
    from .support import FakeAgent, Member, Received, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)


async def create(world: World, name: str, **fields: object) -> Member:
    """Create one after the other, as time passes."""
    world.clock.now += 1
    return await world.create(name, **fields)


async def test_status_shows_the_team_as_a_tree(world: World, shell: Shell, agent: FakeAgent) -> None:
    lead = await create(world, "lead", delivery_mode="poll")
    left = await create(world, "left", parent_id=lead.id)
    await create(world, "below", parent_id=left.id)
    await create(world, "right", parent_id=lead.id)
    await create(world, "alone", max_concurrent_tasks=3)
    await world.register(left, agent)
    await world.beat(left, active_tasks=1, current_task="counting\nsheep \x1b[31m" + "z" * 300)
    first, head, *lines = (await shell.run("status", COLUMNS="120")).said.splitlines()
    assert first == f"molecule-local answers at {world.platform.url}: 5 workspaces, 1 online"
    assert head.split() == ["NAME", "STATUS", "SEEN", "DELIVERY", "RUNTIME", "BUSY", "QUEUE", "ID", "TASK"]
    assert [re.split(r"  +", line)[0] for line in lines] == ["lead", "├ left", "│ └ below", "└ right", "alone"]
    assert lines[1].split()[2] == "online"
    assert left.id[:8] in lines[1]
    assert "1/1" in lines[1]
    assert "0/3" in lines[4]
    assert "counting sheep \ufffd[31mzz" in lines[1]
    assert len(lines[1]) == 120
    assert lines[1].endswith("…")


async def test_status_says_how_many_messages_wait(world: World, shell: Shell, agent: FakeAgent) -> None:
    member = await world.create("alice")
    await world.register(member, agent)

    async def hang_up(request: Received) -> None:
        return None

    agent.answer = hang_up
    for number in range(2):
        body = message_send(f"message {number}")
        sent = await world.http.post(f"/workspaces/{member.id}/a2a", json=body, headers=world.admin)
        assert sent.json()["queued"] is True, sent.text
    (row,) = (await shell.run("status", "--json")).data["workspaces"]
    assert row["queue_depth"] == 2
    _, _, line = (await shell.run("status")).said.splitlines()
    assert re.search(r"0/1 +2 ", line)


async def test_a_terminal_without_such_signs_shows_the_tree_all_the_same(world: World, shell: Shell) -> None:
    lead = await world.create("lead")
    await world.create("ré 子", parent_id=lead.id)
    out = (await shell.run("status", PYTHONIOENCODING="ascii")).said
    assert "` r? ?" in out


async def test_workspaces_are_named_instead_of_numbered(world: World, shell: Shell) -> None:
    made = (await shell.run("workspace", "create", "The Team", "--json")).data
    child = (await shell.run("workspace", "create", "alice", "--parent", "the team", "--json")).data
    row = (await world.http.get(f"/workspaces/{child['id']}")).json()
    assert row["parent_id"] == made["id"]
    line = next(line for line in (await shell.run("workspace", "list")).said.splitlines() if child["id"] in line)
    assert re.split(r"  +", line)[:4] == [child["id"], "alice", "provisioning", "The Team"]
    token = (await shell.run("token", "create", "alice")).said.strip()
    assert token[:8] in (await shell.run("token", "list", child["id"][:8])).said
    # Behind `--`: the beginning of a token may be a hyphen.
    assert (await shell.run("token", "revoke", "alice", "--", token[:8])).code == 0
    assert (await shell.run("token", "list", "alice")).said == "no live tokens\n"
    refused = await shell.run("workspace", "rm", "The Team")
    assert (refused.code, len(refused.err.splitlines())) == (1, 1)
    assert "--recursive" in refused.err
    assert (await shell.run("workspace", "rm", "The Team", "--recursive")).said == "removed The Team and 1 below it\n"
    assert (await shell.run("workspace", "list")).said == "no workspaces\n"


async def test_a_name_that_two_have_is_not_guessed(world: World, shell: Shell) -> None:
    first, second = await world.create("twin"), await world.create("twin")
    done = await shell.run("workspace", "rm", "twin")
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert first.id in done.err
    assert second.id in done.err
    assert (await shell.run("workspace", "rm", first.id)).said == "removed twin\n"


async def test_an_agent_cannot_take_the_place_of_another_by_its_name(world: World, shell: Shell) -> None:
    victim = await world.create("victim")
    await world.create(victim.id[:8])
    done = await shell.run("workspace", "rm", victim.id[:8])
    assert done.code == 1
    assert "means 2 workspaces" in done.err
    await world.create(victim.id)
    assert (await shell.run("workspace", "rm", victim.id)).said == "removed victim\n"


async def test_an_empty_name_means_nobody(world: World, shell: Shell) -> None:
    await world.create("alice")
    for text in ("", " ", "a"):
        done = await shell.run("workspace", "rm", text)
        assert (done.code, done.out) == (1, "")
        assert "there is no workspace" in done.err


async def test_an_argument_that_is_no_utf_8_is_no_traceback(world: World, shell: Shell) -> None:
    done = await shell.run("workspace", "create", "caf\udce9")
    assert "Traceback" not in done.err
    assert done.code in {0, 1}
