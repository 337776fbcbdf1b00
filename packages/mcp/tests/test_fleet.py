"""Many workspaces in one process: each on its own, and changed while it runs."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant

from molecule_runtime.core.targets import workspaces_file
from molecule_runtime.mcp import changes, cli, events, supervisor
from molecule_runtime.mcp.listing import list_mailboxes
from molecule_runtime.mcp.store import InboxStore
from molecule_runtime.mcp.watching import FileWatch

from .fleet import Ear, entry, running, write

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from molecule_runtime.core.targets import WorkspaceTarget

pytestmark = pytest.mark.anyio

BOB = Member("bob", "token-of-bob")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.watching.LOOK_SECONDS", 0.02)
    monkeypatch.setattr("molecule_runtime.mcp.supervisor.ANNOUNCE_SECONDS", 0.01)
    monkeypatch.setattr("molecule_runtime.mcp.inbox.WATCH_INTERVAL", 0.02)


@pytest.fixture
def ear() -> Generator[Callable[[logging.Logger, int], Ear]]:
    """Listen to a logger until the end of the test."""
    listening: list[tuple[logging.Logger, Ear, int]] = []

    def listen(logger: logging.Logger, level: int) -> Ear:
        handler = Ear(level)
        listening.append((logger, handler, logger.level))
        logger.addHandler(handler)
        logger.setLevel(level)
        return handler

    yield listen
    for logger, handler, level in listening:
        logger.removeHandler(handler)
        logger.setLevel(level)


async def test_targets_of_two_tenants_come_change_and_go_and_the_others_are_not_touched(
    acme: Tenant, globex: Tenant, tmp_path: Path
) -> None:
    _, first = await acme.family()
    lead, second = await globex.family()
    async with running(tmp_path / "p", [entry(first, acme.url)]) as fleet:
        await fleet.until_phase("online", first)
        context = fleet.opened.context

        # One more, of another tenant.
        write(fleet.path, [entry(first, acme.url), entry(second, globex.url)])
        await fleet.until_phase("online", first, second)
        assert list(context.clients) == [first.id, second.id]
        assert changes.WORKSPACES in fleet.announced
        await globex.message(lead, second, "for the second")
        waited = await fleet.call("wait_for_message", timeout_secs=9)
        assert (waited.structured["text"], waited.structured["arrival_workspace_id"]) == ("for the second", second.id)

        # Its token is another one now; the old one is refused.
        renewed = await globex.new_token(second)
        await globex.revoke(second)
        old = context.clients[second.id]
        write(fleet.path, [entry(first, acme.url), entry(renewed, globex.url)])
        await fleet.until(lambda: context.clients.get(second.id) not in {None, old})
        await fleet.until_phase("online", second)

        # Gone: refused to the tools, its pool and its place in the status with it, but its message is still there.
        write(fleet.path, [entry(first, acme.url)])
        await fleet.until(lambda: second.id not in fleet.states)
        refused = await fleet.call("inbox_peek", source_workspace_id=second.id)
        assert refused.is_error
        assert "not served by this process" in refused.text
        assert list(context.clients) == [first.id]
        await fleet.until_phase("online", first)
    # The first one was registered once in all that time.
    assert acme.sent.count(b"POST /registry/register") == 1
    assert second.token.encode() not in acme.sent
    assert renewed.token.encode() not in acme.sent
    assert first.token.encode() not in globex.sent
    store = InboxStore(tmp_path / "p" / "state" / "molecule-mcp.db")
    waiting = {state.mailbox.workspace_id: state.waiting for state in list_mailboxes(store)}
    store.close()
    assert waiting[second.id] == 1


async def test_the_last_target_may_go_and_another_come(acme: Tenant, tmp_path: Path) -> None:
    _, ours = await acme.family()
    async with running(tmp_path / "p", [entry(ours, acme.url)]) as fleet:
        await fleet.until_phase("online", ours)
        write(fleet.path, [])
        await fleet.until(lambda: not fleet.states)
        nobody = await fleet.call("get_workspace_info")
        assert nobody.is_error
        assert "serves no workspace now" in nobody.text
        write(fleet.path, [entry(ours, acme.url)])
        await fleet.until_phase("online", ours)
        assert not (await fleet.call("get_workspace_info")).is_error


async def test_a_call_under_way_is_answered_although_its_workspace_is_removed(scripted: Http, tmp_path: Path) -> None:
    arrived, release = anyio.Event(), anyio.Event()

    async def answer(request: Received) -> tuple[int, Any] | None:
        if request.path == "/workspaces/bob":
            arrived.set()
            await release.wait()
            return 200, {"id": "bob", "name": "Bob", "status": "online"}
        if request.path == "/registry/register":
            return 200, {"status": "registered"}
        return 200, []

    scripted.answer = answer
    async with running(tmp_path / "p", [entry(BOB, scripted.url)]) as fleet:
        await fleet.until_phase("online", BOB)
        answers: list[Any] = []

        async def call() -> None:
            answers.append(await fleet.call("get_workspace_info"))

        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                await arrived.wait()
                write(fleet.path, [])
                await fleet.until(lambda: not fleet.states)
                release.set()
    assert not answers[0].is_error
    assert answers[0].structured["name"] == "Bob"


async def test_a_tenant_that_hangs_or_refuses_costs_the_others_nothing(
    acme: Tenant, scripted: Http, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    refused = {"carol": 401, "dora": 410, "emil": 429, "frida": 500}

    async def answer(request: Received) -> tuple[int, Any] | None:
        name = str(request.body["id"]) if request.path == "/registry/register" else ""
        if name == "bob":
            await anyio.sleep_forever()
        if name in refused:
            return refused[name], {"error": "no", "retry_after": 3600}
        return 401, {"error": "no"}

    scripted.answer = answer
    others = [Member(name, f"token-of-{name}") for name in ("bob", *refused)]
    served = [*(entry(other, scripted.url) for other in others), entry(ours, acme.url)]
    async with running(tmp_path / "p", served) as fleet:
        await fleet.until_phase("online", ours)
        await acme.message(lead, ours, "through")
        assert (await fleet.call("wait_for_message", timeout_secs=9)).structured["text"] == "through"
        expected = {"carol": "credential_lost", "dora": "removed", "emil": "retrying", "frida": "retrying"}
        await fleet.until(lambda: all(fleet.states[name].phase == phase for name, phase in expected.items()))
        states = fleet.states
        assert states["bob"].phase == "starting"
        assert states["carol"].failures >= 1
        assert "401" in states["carol"].detail
        assert "was removed from the platform" in states["dora"].detail
        shown = states[ours.id].to_json()
        assert shown["state"] == "online"
        assert shown["inbox"]["state"] == "polling"
        assert shown["source"].endswith("workspaces.json[5]")
        assert all(other.token not in json.dumps(states[other.id].to_json()) for other in others)
        identity = (await fleet.call("get_runtime_identity")).structured
        assert identity["workspace_id"] == "bob"
        assert identity["workspaces_served"] == 6
        assert identity["workspaces_by_state"]["online"] == 1
        # Those that need a hand come first.
        assert identity["workspaces"][-1]["workspace_id"] == ours.id


async def test_a_file_that_breaks_keeps_the_last_good_list_and_says_so_until_it_is_mended(
    acme: Tenant, tmp_path: Path, ear: Callable[[logging.Logger, int], Ear]
) -> None:
    _, ours = await acme.family()
    heard = ear(supervisor.logger, logging.ERROR)
    async with running(tmp_path / "p", [entry(ours, acme.url)]) as fleet:
        await fleet.until_phase("online", ours)
        write(fleet.path, '[{"id": "ws-1", "tok')

        def problems() -> tuple[str, ...]:
            assert fleet.opened.supervisor.file is not None
            return fleet.opened.supervisor.file.problems

        await fleet.until(lambda: bool(problems()))
        assert "not valid JSON" in problems()[0]
        line = await heard.hears("the last list that could is still served")
        assert ours.token not in line
        assert fleet.states[ours.id].phase == "online"
        assert not (await fleet.call("get_workspace_info")).is_error
        write(fleet.path, [entry(ours, acme.url)])
        await fleet.until(lambda: not problems())
    assert acme.sent.count(b"POST /registry/register") == 1


async def test_the_platforms_events_bring_a_message_before_the_clock_does(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ear: Callable[[logging.Logger, int], Ear]
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.pacing.IDLE_INTERVAL", 3600.0)
    monkeypatch.setattr("molecule_runtime.mcp.pacing.BUSY_INTERVAL", 3600.0)
    lead, ours = await acme.family()
    sister = await acme.create("sister", parent_id=lead.id)
    heard = ear(events.logger, logging.INFO)
    async with running(tmp_path / "p", [entry(ours, acme.url), entry(sister, acme.url)]) as fleet:
        await fleet.until_phase("online", ours, sister)
        await heard.hears("arrive through workspace")
        # One socket for both: each sees what happens to the other.
        for member in (ours, sister):
            await acme.message(lead, member, f"for {member.id}")
            message = await fleet.call("wait_for_message", timeout_secs=9, source_workspace_id=member.id)
            assert message.structured["text"] == f"for {member.id}"
        assert [state.events for state in fleet.states.values()] == [True, True]
    assert acme.sent.count(b"GET /ws HTTP") == 1


async def test_workspaces_that_may_not_talk_to_each_other_get_a_socket_each_up_to_the_limit(
    acme: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ear: Callable[[logging.Logger, int], Ear]
) -> None:
    monkeypatch.setattr(events, "SETTLE_SECONDS", 0.2)
    monkeypatch.setattr(events, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(events, "MAX_SOCKETS", 5)
    roots = [await acme.create(f"root-{number}") for number in range(6)]
    heard = ear(events.logger, logging.INFO)
    async with running(tmp_path / "p", [entry(root, acme.url) for root in roots]) as fleet:
        await fleet.until_phase("online", *roots)
        with anyio.fail_after(WAIT_SECONDS):
            while len(heard.lines) < 5:
                await heard.heard.wait()
    assert len({line for line in heard.lines if "arrive through workspace" in line}) == 5
    assert acme.sent.count(b"GET /ws HTTP") == 5


async def test_a_platform_without_events_is_polled_and_not_asked_for_them_again(
    scripted: Http, tmp_path: Path, ear: Callable[[logging.Logger, int], Ear]
) -> None:
    async def answer(request: Received) -> tuple[int, Any] | None:
        if request.path == "/registry/register":
            return 200, {"status": "registered"}
        return (404, {"error": "no such route"}) if request.path == "/ws" else (200, [])

    scripted.answer = answer
    heard = ear(events.logger, logging.INFO)
    async with running(tmp_path / "p", [entry(BOB, scripted.url)]) as fleet:
        await fleet.until_phase("online", BOB)
        await heard.hears("answered GET /ws with 404 for workspace bob; polling does without events")
        assert (await fleet.call("wait_for_message", timeout_secs=1)).structured["timeout"] is True
        assert fleet.states["bob"].events is False
    assert [request.path for request in scripted.received].count("/ws") == 1


async def test_events_follow_no_redirect(
    scripted: Http, acme: Tenant, tmp_path: Path, ear: Callable[[logging.Logger, int], Ear]
) -> None:
    async def answer(request: Received) -> tuple[int, Any] | None:
        if request.path == "/ws":
            return 302, {}
        return (200, {"status": "registered"}) if request.path == "/registry/register" else (200, [])

    scripted.answer = answer
    heard = ear(events.logger, logging.INFO)
    async with running(tmp_path / "p", [entry(BOB, scripted.url)]) as fleet:
        await fleet.until_phase("online", BOB)
        await heard.hears("answered GET /ws with 302")
    assert BOB.token.encode() not in acme.sent


# --- the watch ----------------------------------------------------------------------------------------------------------------


class Heard:
    def __init__(self, path: Path) -> None:
        self.targets: list[list[str]] = []
        self.problems: list[list[str]] = []
        environ = {"MOLECULE_WORKSPACES_FILE": str(path)}
        assert workspaces_file(environ) == path
        self.watch = FileWatch(path, environ, on_targets=self._on_targets, on_problems=self.problems.append)

    async def _on_targets(self, targets: list[WorkspaceTarget]) -> None:
        self.targets.append([target.id for target in targets])


async def test_a_half_written_file_is_waited_out(tmp_path: Path) -> None:
    path = tmp_path / "workspaces.json"
    whole = json.dumps([entry(BOB, "https://acme.example")])
    heard = Heard(path)
    for part in (0, 10, len(whole) // 2, len(whole)):
        path.write_text(whole[:part], encoding="utf-8")
        path.chmod(0o600)
        await heard.watch.look()
    assert heard.targets == [["bob"]]
    assert heard.problems == []
    # Nothing changed: nothing is read.
    await heard.watch.look()
    assert heard.targets == [["bob"]]


async def test_a_file_that_stays_broken_is_told_once_and_what_it_names_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "workspaces.json"
    write(path, [{"id": "bob", "token_file": "token", "platform_url": "https://acme.example"}])
    heard = Heard(path)
    for _ in range(12):
        await heard.watch.look()
    (told,) = heard.problems
    assert "token' not found" in told[0]
    (tmp_path / "token").write_text("token-of-bob", encoding="utf-8")
    for _ in range(6):
        await heard.watch.look()
    assert heard.targets == [["bob"]]


@pytest.mark.parametrize("spoil", ["chmod", "remove"])
async def test_a_file_that_is_opened_to_others_or_removed_is_a_problem(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "workspaces.json"
    write(path, [entry(BOB, "https://acme.example")])
    heard = Heard(path)
    await heard.watch.look()
    if spoil == "chmod":
        path.chmod(0o644)
    else:
        path.unlink()
    for _ in range(3):
        await heard.watch.look()
    assert heard.targets == [["bob"]]
    (told,) = heard.problems
    assert ("chmod 600" if spoil == "chmod" else "not found") in told[0]


def test_a_broken_file_at_the_start_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "workspaces.json"
    write(path, [entry(BOB, "https://acme.example")])
    path.chmod(0o640)
    monkeypatch.setenv("MOLECULE_WORKSPACES_FILE", str(path))
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path / "state"))
    assert cli.main([]) == cli.EXIT_CONFIGURATION
    said = capsys.readouterr().err
    assert f"chmod 600 {str(path)!r}" in said
    assert BOB.token not in said
