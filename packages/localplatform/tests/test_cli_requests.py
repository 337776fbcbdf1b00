"""`molecule-local requests`: the person sees what agents ask, and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from .shell import Shell

if TYPE_CHECKING:
    from .support import Member, World

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)


async def ask(world: World, member: Member, title: str, kind: str = "approval", **fields: Any) -> str:
    body = {"kind": kind, "recipient_type": "user", "title": title, **fields}
    answer = await world.http.post(f"/workspaces/{member.id}/requests", json=body, headers=member.auth)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["request_id"])


async def detail(world: World, member: Member, request_id: str) -> dict[str, Any]:
    answer = await world.http.get(f"/workspaces/{member.id}/requests/{request_id}", headers=member.auth)
    return cast("dict[str, Any]", answer.json())


async def test_the_list_names_who_asks_for_what(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    assert (await shell.run("requests", "list")).said == "no open requests\n"
    first = await ask(world, member, "Deploy?\x1b]0;owned\x07\nnow")
    second = await ask(world, member, "Buy milk", "task")
    lines = (await shell.run("requests", "list")).said.splitlines()
    assert lines[0].split() == ["ID", "KIND", "FROM", "ASKED", "STATUS", "TITLE"]
    assert [line.split()[:3] for line in lines[1:]] == [[second[:8], "task", "alice"], [first[:8], "approval", "alice"]]
    assert lines[2].endswith("Deploy?\ufffd]0;owned\ufffd now")
    assert [row["id"] for row in (await shell.run("requests", "list", "--kind", "task", "--json")).data] == [second]


async def test_an_approval_is_given_with_a_note_and_the_agent_learns_of_it(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    request_id = await ask(world, member, "Deploy?", detail="to production\ntonight", priority=3)
    shown = (await shell.run("requests", "show", request_id[:8])).said
    for piece in (
        request_id,
        "pending",
        f"alice ({member.id})",
        "Deploy?",
        "priority  3",
        "  to production\n  tonight",
    ):
        assert piece in shown
    assert f"molecule-local requests approve {request_id[:8]}" in shown
    done = await shell.run("requests", "approve", request_id[:8], "--note", "but not on Friday")
    assert done.said == f"approved: {request_id}\n"
    seen = await detail(world, member, request_id)
    assert (seen["request"]["status"], seen["request"]["responder_type"]) == ("approved", "user")
    assert [(message["author_type"], message["body"]) for message in seen["messages"]] == [
        ("user", "but not on Friday")
    ]
    shown = (await shell.run("requests", "show", request_id)).said
    assert "approved" in shown
    assert "you, " in shown
    assert "but not on Friday" in shown
    assert "decide with" not in shown
    assert (await shell.run("requests", "list")).said == "no open requests\n"
    assert request_id[:8] in (await shell.run("requests", "list", "--all")).said


async def test_a_question_makes_the_request_wait_for_the_agent(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    request_id = await ask(world, member, "Deploy?")
    assert (await shell.run("requests", "answer", request_id[:8], "Where to?")).said.startswith("sent; ")
    assert "waits for the agent" in (await shell.run("requests", "list")).said
    assert (await detail(world, member, request_id))["messages"][0]["body"] == "Where to?"
    assert (await shell.run("requests", "reject", request_id, "--json")).data == {
        "status": "rejected",
        "request_id": request_id,
    }


async def test_a_task_is_done_and_cannot_be_done_twice(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    request_id = await ask(world, member, "Buy milk", "task")
    refused = await shell.run("requests", "approve", request_id[:8])
    assert (refused.code, refused.out) == (1, "")
    assert "done, rejected" in refused.err
    assert (await shell.run("requests", "done", request_id[:8])).said == f"done: {request_id}\n"
    again = await shell.run("requests", "done", request_id[:8])
    assert (again.code, len(again.err.splitlines())) == (1, 1)
    assert "already resolved" in again.err


async def test_approvals_of_the_older_route_are_decided_too(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    path = f"/workspaces/{member.id}/approvals"
    made = (await world.http.post(path, json={"action": "rm -rf"}, headers=member.auth)).json()
    assert (await shell.run("requests", "reject", made["approval_id"][:8])).code == 0
    (row,) = (await world.http.get(path, headers=member.auth)).json()
    assert row["status"] == "denied"


async def test_an_unknown_id_is_refused_and_a_title_is_never_taken_for_one(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    first = await ask(world, member, "harmless")
    await ask(world, member, first[:8])
    done = await shell.run("requests", "show", first[:8])
    assert "harmless" in done.said
    for wrong in ("nope", "harmless", "00000000-0000-0000-0000-000000000000"):
        done = await shell.run("requests", "approve", wrong)
        assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)


async def test_a_list_that_is_wider_than_the_terminal_is_cut(world: World, shell: Shell) -> None:
    member = await world.create("alice", delivery_mode="poll")
    await ask(world, member, "x" * 300)
    lines = (await shell.run("requests", "list", COLUMNS="60")).said.splitlines()
    assert [len(line) for line in lines[1:]] == [60]
    assert lines[1].endswith("…")
