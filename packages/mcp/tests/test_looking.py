"""`molecule-mcp status` and `molecule-mcp inbox`: what a person sees of a process that serves, and can do about a message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import Member, Tenant

from molecule_runtime.mcp import cli, status_command

from .processes import SECONDS, one, online, session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .processes import Place

pytestmark = pytest.mark.anyio


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    # How long a person waits for a platform depends on no test's machine.
    monkeypatch.setattr(status_command, "ANSWER_SECONDS", SECONDS)

    async def run(where: Place, *arguments: str) -> tuple[int, str, str]:
        for name, value in where.environ.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(where.home)
        with anyio.fail_after(SECONDS):
            code = await anyio.to_thread.run_sync(cli.main, list(arguments))
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


async def test_a_person_sees_who_serves_and_what_waits(
    acme: Tenant, tmp_path: Path, command: Callable[..., Any]
) -> None:
    lead, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours)
    async with session(where) as mcp:
        await online(acme, ours)
        await acme.message(lead, ours, "first")
        await mcp.message()

        code, out, _ = await command(where, "status", "--json")
        (row,) = json.loads(out)["workspaces"]
        assert (code, row["status"], row["name"], row["problem"]) == (0, "online", "team-member", None)
        (box,) = row["inbox"]
        assert (box["waiting"], box["leased"], box["polled_by"]) == (1, 1, mcp.pid)
        code, out, _ = await command(where, "status")
        head, line = out.splitlines()
        assert head.split() == ["WORKSPACE", "NAME", "PLATFORM", "STATUS", "SERVED", "BY", "INBOX", "OLDEST"]
        assert f"online  process {mcp.pid}" in line


async def test_a_person_reads_a_message_and_has_it_handed_out_anew_when_it_was_popped(
    acme: Tenant, tmp_path: Path, command: Callable[..., Any]
) -> None:
    lead, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours)
    async with session(where) as mcp:
        await online(acme, ours)
        await acme.message(lead, ours, "first \x1b[31mred")
        got = await mcp.message()
        identifier = got["activity_id"]

        code, out, _ = await command(where, "inbox", "list")
        assert code == 0
        assert "1 message waiting, 1 being handled" in out
        assert f"leased by process {mcp.pid}" in out
        code, out, _ = await command(where, "inbox", "show", identifier)
        assert "first \ufffd[31mred" in out
        assert "\x1b" not in out

        await mcp.text("inbox_pop", activity_id=identifier)
        assert json.loads((await command(where, "inbox", "list", "--json"))[1])["messages"] == []
        (popped,) = json.loads((await command(where, "inbox", "list", "--popped", "--json"))[1])["messages"]
        assert (popped["activity_id"], popped["state"]) == (identifier, "popped")
        code, out, _ = await command(where, "inbox", "requeue", identifier)
        assert (code, "handed out anew" in out) == (0, True)
        again = await mcp.message()
        assert (again["activity_id"], again["text"]) == (identifier, got["text"])

    code, _, err = await command(where, "inbox", "show", "no-such-message")
    assert (code, err.startswith("molecule-mcp: there is no message 'no-such-message' here")) == (1, True)
    code, out, _ = await command(where, "inbox", "list", "--workspace", "another", "--json")
    assert (code, json.loads(out)) == (0, {"mailboxes": [], "messages": []})


async def test_a_workspace_that_is_not_online_and_one_that_does_not_answer_are_exit_1(
    acme: Tenant, tmp_path: Path, command: Callable[..., Any]
) -> None:
    _, ours = await acme.family()
    code, out, _ = await command(one(tmp_path / "a", acme.url, ours), "status", "--json")
    (row,) = json.loads(out)["workspaces"]
    assert (code, row["status"], row["inbox"]) == (1, "awaiting_agent", [])
    code, out, err = await command(one(tmp_path / "b", "http://127.0.0.1:9", Member("alice", "t")), "status")
    assert (code, "no answer" in out, err.startswith("alice: ")) == (1, True, True)


async def test_without_any_workspace_status_says_so_and_the_inbox_is_empty(
    tmp_path: Path, command: Callable[..., Any]
) -> None:
    where = one(tmp_path / "p", "http://127.0.0.1:9", Member("alice", "t"))
    code, out, _ = await command(where, "inbox", "list")
    assert (code, out.startswith("no inbox yet: ")) == (0, True)
    nothing = type(where)(where.home, dict.fromkeys(where.variables, ""))
    code, out, err = await command(nothing, "status")
    assert (code, out) == (2, "")
    assert "molecule-mcp doctor" in err
