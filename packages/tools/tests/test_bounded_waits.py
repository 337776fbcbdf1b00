"""Calls that return before what they wait for, and how that goes on."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant

from molecule_runtime.core import untrusted
from molecule_runtime.tools import Background, Journal, background, dispatch, progress

from .support import context, done, refused, said
from .test_requests import answered

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import InboxMessage, ToolContext, ToolResult

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice-0001")
HELD = 0.2
"""Seconds that a call is held in these tests."""


def bounded(ctx: ToolContext, where: Background, *, seconds: float = HELD) -> ToolContext:
    return dataclasses.replace(ctx, max_wait=seconds, background=where)


class Gate:
    """An agent or a platform that answers once it may."""

    def __init__(self, server: Http, answer: tuple[int, Any] | None) -> None:
        self.opened = anyio.Event()
        self._answer = answer
        server.answer = self._wait

    async def _wait(self, request: Received) -> tuple[int, Any] | None:
        del request
        await self.opened.wait()
        return self._answer


async def ended(ctx: ToolContext, delegation_id: str) -> ToolResult:
    """Ask for a delegation until it has ended."""
    with anyio.fail_after(WAIT_SECONDS):
        while True:
            result = await done(ctx, "check_task_status", workspace_id="", task_id=delegation_id)
            if result.structured["status"] in {"completed", "failed"}:
                return result
            await anyio.sleep(0.02)


async def test_a_delegation_goes_on_when_its_call_returns_and_its_answer_is_given_out_once(
    acme: Tenant, agent: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    gate = Gate(agent, (200, said("worth the time")))
    told: list[str] = []

    async def listen(text: str) -> None:
        told.append(text)

    with closing(Journal(tmp_path)) as journal:
        async with Background() as opened:
            ctx = bounded(context(pools, (acme.url, ours), journal=journal), opened)
            with anyio.fail_after(WAIT_SECONDS):
                handle = await dispatch("delegate_task", {"workspace_id": lead.id, "task": "t"}, ctx, progress=listen)
            assert not handle.is_error
            delegation_id = handle.structured["delegation_id"]
            assert handle.structured["status"] == "working"
            assert handle.structured["continue_with"] == {
                "tool": "check_task_status",
                "arguments": {"workspace_id": lead.id, "task_id": delegation_id},
            }
            assert "do not send it again" in handle.text
            assert f"check_task_status(workspace_id={lead.id}, task_id={delegation_id})" in handle.text
            (open_row,) = (await done(ctx, "check_task_status", workspace_id="", task_id="")).structured["delegations"]
            assert (open_row["delegation_id"], open_row["status"]) == (delegation_id, "in_progress")

            gate.opened.set()
            with anyio.fail_after(WAIT_SECONDS):
                while True:
                    listed = await done(ctx, "check_task_status", workspace_id="", task_id="")
                    (row,) = listed.structured["delegations"]
                    if row["status"] == "completed":
                        break
                    await anyio.sleep(0.02)
            assert "as task_id returns the answer" in row["note"]
        # It is in the journal, where another process finds it.
        other = context(pools, (acme.url, ours), journal=journal)
        first = await done(other, "check_task_status", workspace_id="", task_id=delegation_id)
        assert untrusted.parse(first.structured["response_preview"])[0].content == "worth the time"
        assert "already_collected" not in first.structured
        again = await done(other, "check_task_status", workspace_id="", task_id=delegation_id)
        assert "do not act on it a second time" in again.structured["note"]
    assert told == ["delegating to team-lead"]
    assert len(agent.received) == 1


async def test_a_delegation_that_ends_in_time_is_answered_as_ever(
    acme: Tenant, agent: Http, pools: ConnectionPools
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    agent.says((200, said("quick")), (200, {"jsonrpc": "2.0", "id": "1", "error": {"code": 1, "message": "no model"}}))
    async with Background() as opened:
        ctx = bounded(context(pools, (acme.url, ours)), opened, seconds=WAIT_SECONDS)
        result = await done(ctx, "delegate_task", workspace_id=lead.id, task="t")
        assert untrusted.parse(result.text)[0].content == "quick"
        assert "no model" in await refused(ctx, "delegate_task", workspace_id=lead.id, task="t")
        assert (await done(ctx, "check_task_status", workspace_id="", task_id="")).structured["delegations"] == []


async def test_a_listener_that_breaks_or_hangs_holds_nothing_up(
    acme: Tenant, agent: Http, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "LISTEN_SECONDS", 0.05)
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    agent.says((200, said("all the same")))

    async def breaks(text: str) -> None:
        raise ConnectionError(text)

    async def hangs(text: str) -> None:
        del text
        await anyio.sleep_forever()

    async with Background() as opened:
        ctx = bounded(context(pools, (acme.url, ours)), opened, seconds=WAIT_SECONDS)
        for listener in (breaks, hangs):
            with anyio.fail_after(WAIT_SECONDS):
                result = await dispatch("delegate_task", {"workspace_id": lead.id, "task": "t"}, ctx, progress=listener)
            assert "all the same" in result.text


async def test_why_a_delegation_failed_after_its_call_had_returned_is_kept_too(
    acme: Tenant, agent: Http, pools: ConnectionPools
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    gate = Gate(agent, (200, {"jsonrpc": "2.0", "id": "1", "error": {"code": 1, "message": "no model"}}))
    async with Background() as opened:
        ctx = bounded(context(pools, (acme.url, ours)), opened)
        handle = await done(ctx, "delegate_task", workspace_id=lead.id, task="t")
        gate.opened.set()
        result = await ended(ctx, handle.structured["delegation_id"])
        assert result.structured["status"] == "failed"
        assert "no model" in result.structured["error"]


async def test_what_a_busy_peer_answers_after_the_process_has_ended_is_found_by_the_next_one(
    acme: Tenant, agent: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    agent.says(None, (200, said("after the restart")))  # busy, and then not
    with closing(Journal(tmp_path)) as journal:
        async with Background() as opened:
            ctx = bounded(context(pools, (acme.url, ours), journal=journal), opened, seconds=1.0)
            told: list[str] = []

            async def listen(text: str) -> None:
                told.append(text)

            with anyio.fail_after(WAIT_SECONDS):
                handle = await dispatch("delegate_task", {"workspace_id": lead.id, "task": "t"}, ctx, progress=listen)
            assert handle.structured["status"] == "working"
            # What happens behind the call is told for as long as somebody waits.
            assert told == ["delegating to team-lead", "team-lead is busy; the task waits there"]
        # Closed: what was under way here is cancelled.
        await acme.heartbeat(lead)
        await acme.settle()
    with closing(Journal(tmp_path)) as journal:
        found = await ended(context(pools, (acme.url, ours), journal=journal), handle.structured["delegation_id"])
        assert untrusted.parse(found.structured["response_preview"])[0].content == "after the restart"
    assert len({request.body["params"]["message"]["messageId"] for request in agent.received}) == 1


async def test_a_caller_who_cancels_cancels_the_work_and_the_same_call_again_is_the_same_delegation(
    acme: Tenant, agent: Http, pools: ConnectionPools
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    Gate(agent, None)
    async with Background() as opened:
        for ctx in (
            context(pools, (acme.url, ours)),
            bounded(context(pools, (acme.url, ours)), opened, seconds=WAIT_SECONDS),
        ):
            agent.arrived.clear()
            async with anyio.create_task_group() as group:
                group.start_soon(dispatch, "delegate_task", {"workspace_id": lead.id, "task": "t"}, ctx)
                with anyio.fail_after(WAIT_SECONDS):
                    await agent.arrived.wait()
                group.cancel_scope.cancel()
            with anyio.fail_after(WAIT_SECONDS):
                while True:
                    listed = await done(ctx, "check_task_status", workspace_id="", task_id="")
                    (row,) = listed.structured["delegations"]
                    if row["status"] == "unknown":
                        break
                    await anyio.sleep(0.02)
            agent.says((200, said("here")))
            assert "here" in (await done(ctx, "delegate_task", workspace_id=lead.id, task="t")).text
            ids = [request.body["params"]["message"]["messageId"] for request in agent.received]
            assert ids[-1] == ids[-2] == row["delegation_id"]
            Gate(agent, None)


async def test_more_than_it_holds_is_refused_with_what_to_do(acme: Tenant, agent: Http, pools: ConnectionPools) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    Gate(agent, None)
    async with Background(most=1) as opened:
        ctx = bounded(context(pools, (acme.url, ours)), opened)
        await done(ctx, "delegate_task", workspace_id=lead.id, task="one")
        text = await refused(ctx, "delegate_task", workspace_id=lead.id, task="two")
        assert "are still under way" in text
        assert len(agent.received) == 1
        # It never went out, so the journal has nothing of it to follow.
        listed = (await done(ctx, "check_task_status", workspace_id="", task_id="")).structured["delegations"]
        assert [row["summary"] for row in listed] == ["one"]


async def test_a_plugin_is_installed_once_however_often_one_asks_how_it_stands(
    scripted: Http, pools: ConnectionPools
) -> None:
    gate = Gate(scripted, (200, {"status": "installed", "plugin": "x", "source": "x"}))
    async with Background() as opened:
        ctx = bounded(context(pools, (scripted.url, ALICE)), opened)
        for _ in range(2):
            waiting = await done(ctx, "install_plugin", source="x")
            assert waiting.structured["status"] == "working"
            assert waiting.structured["continue_with"] == {"tool": "install_plugin", "same_arguments": True}
        gate.opened.set()
        patient = dataclasses.replace(ctx, max_wait=WAIT_SECONDS)
        assert (await done(patient, "install_plugin", source="x")).text == "Plugin x is installed from x"
        assert len(scripted.received) == 1
        # Its end was told; to ask for it after that is to ask for it once more.
        await done(patient, "install_plugin", source="x")
        assert len(scripted.received) == 2


async def test_a_request_that_nobody_answered_in_time_says_how_to_go_on(acme: Tenant, pools: ConnectionPools) -> None:
    _, ours = await acme.family()
    ctx = dataclasses.replace(context(pools, (acme.url, ours)), max_wait=HELD)
    asked = await done(ctx, "create_request", kind="task", title="water the plants", wait_secs=300)
    request_id = asked.structured["request_id"]
    assert asked.structured["status"] == "pending"
    assert asked.structured["continue_with"] == {"tool": "get_request", "arguments": {"request_id": request_id}}

    approval = await done(ctx, "create_approval", action="drop the table", wait_secs=300)
    assert approval.structured["continue_with"] == {"tool": "create_approval", "same_arguments": True}
    assert "goes on waiting for this request" in approval.text
    await answered(acme, approval.structured["request_id"], "respond", {"action": "approved"})
    again = await done(ctx, "create_approval", action="drop the table", wait_secs=300)
    assert again.structured["request_id"] == approval.structured["request_id"]
    assert again.structured["status"] == "approved"
    assert "continue_with" not in again.structured


async def test_a_person_who_keeps_the_desktop_is_waited_for_in_several_calls(
    scripted: Http, pools: ConnectionPools
) -> None:
    scripted.says((200, {"human_in_control": True, "agent_can_control": False}))
    ctx = dataclasses.replace(context(pools, (scripted.url, ALICE)), max_wait=HELD)
    held = await done(ctx, "desktop_wait_for_control", timeout_s=300)
    assert held.structured["ok"] is False
    assert held.structured["error"].endswith("call desktop_wait_for_control again to go on waiting")


class Nobody:
    """An inbox to which nothing comes."""

    async def wait(self, timeout: float, *, workspace_id: str | None = None) -> None:
        del workspace_id
        await anyio.sleep(timeout)

    async def peek(self, limit: int, *, workspace_id: str | None = None) -> list[InboxMessage]:
        raise NotImplementedError

    async def pop(self, activity_id: str, *, workspace_id: str | None = None) -> bool:
        raise NotImplementedError

    def backpressure(self, *, workspace_id: str | None = None) -> None:
        del workspace_id


async def test_who_waits_hears_now_and_then_how_it_stands(
    scripted: Http, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PROGRESS_SECONDS", 0.02)
    told: list[str] = []

    async def listen(text: str) -> None:
        told.append(text)

    async with Background() as opened:
        ctx = bounded(context(pools, (scripted.url, ALICE), inbox=Nobody()), opened)
        for tool, arguments, answer, words in (
            ("wait_for_message", {"timeout_secs": 300}, None, "no message yet (0 s)"),
            ("install_plugin", {"source": "x"}, None, "installing x (0 s)"),
            (
                "desktop_wait_for_control",
                {"timeout_s": 300},
                (200, {"human_in_control": True, "agent_can_control": False}),
                "a person has control of the desktop (0 s)",
            ),
        ):
            if answer is None:
                Gate(scripted, answer)
            else:
                scripted.says(answer)
            told.clear()
            with anyio.fail_after(WAIT_SECONDS):
                await dispatch(tool, arguments, ctx, progress=listen)
            assert words in told, tool
            count = len(told)
            await anyio.lowlevel.checkpoint()
            assert len(told) == count
