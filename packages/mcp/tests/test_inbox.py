"""The inbox of a process: pollers bring messages in, tools take them out."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant, target

from molecule_runtime.core.errors import PlatformError, UnexpectedResponseError
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import MAX_RESPONSE_BYTES, PlatformClient
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken
from molecule_runtime.mcp.changes import ResourceChanges, inbox_uri
from molecule_runtime.mcp.inbox import PolledInbox, mailbox_of
from molecule_runtime.mcp.poller import PAGE, InboxPoller
from molecule_runtime.mcp.store import InboxStore, Mailbox
from molecule_runtime.tools import InboxMessage, Permissions, ToolContext, ToolResult, dispatch

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice")


class Desk:
    """The inbox of a process that serves workspaces at URLs."""

    def __init__(self, pools: ConnectionPools, store: InboxStore, *served: tuple[str, Member]) -> None:
        self.store = store
        targets = [target(url, member) for url, member in served]
        self.clients: dict[str, PlatformClient] = {item.id: PlatformClient(item, pools) for item in targets}
        self.boxes: dict[str, Mailbox] = {item.id: mailbox_of(item) for item in targets}
        self.inbox = PolledInbox(store, self.boxes)
        self.context = ToolContext(clients=self.clients, permissions=Permissions(("operator",)), inbox=self.inbox)

    def poller(self, member: Member = ALICE) -> InboxPoller:
        client = self.clients[member.id]
        return InboxPoller(client, self.store, self.inbox, tag_arrival=len(self.clients) > 1)

    def cursor(self, member: Member = ALICE) -> str | None:
        return self.store.cursor(self.boxes[member.id])

    def waiting(self) -> list[str]:
        return [message.activity_id for message in self.store.peek(list(self.boxes.values()), 10_000)]

    async def call(self, tool: str, **arguments: Any) -> ToolResult:
        with anyio.fail_after(WAIT_SECONDS):
            return await dispatch(tool, arguments, self.context)

    async def json(self, tool: str, **arguments: Any) -> Any:
        result = await self.call(tool, **arguments)
        assert not result.is_error, result.text
        return json.loads(result.text)


def row(name: str, *, at: int = 0, seq: int | None = None, text: str = "hi", **fields: Any) -> dict[str, Any]:
    body = {"params": {"message": {"parts": [{"kind": "text", "text": text}]}}}
    made = f"2026-01-01T{at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}Z"
    data = {
        "id": name,
        "activity_type": "a2a_receive",
        "method": "message/send",
        "source_id": "bob",
        "created_at": made,
    }
    return {**data, "request_body": body, **({} if seq is None else {"seq": seq}), **fields}


def query_of(request: Received) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}


@pytest.fixture
def desk(pools: ConnectionPools, store: InboxStore, scripted: Http) -> Desk:
    return Desk(pools, store, (scripted.url, ALICE))


# --- polling ------------------------------------------------------------------------------------------------------------------


async def test_messages_on_a_platform_arrive_in_order_and_once(
    acme: Tenant, pools: ConnectionPools, store: InboxStore
) -> None:
    lead, ours = await acme.family()
    await acme.register(ours)
    desk = Desk(pools, store, (acme.url, ours))
    poller = desk.poller(ours)
    await acme.message(lead, ours, "one")
    await acme.message(lead, ours, "two")
    await poller.poll()
    await acme.message(lead, ours, "three")
    for _ in range(3):
        await poller.poll()
    messages = await desk.json("inbox_peek")
    assert [message["text"] for message in messages] == ["one", "two", "three"]
    assert {message["peer_id"] for message in messages} == {lead.id}
    assert messages[0]["peer_name"] == "team-lead"
    assert desk.cursor(ours) == messages[2]["activity_id"]


async def test_our_own_message_to_the_user_is_no_message_and_moves_the_cursor(
    acme: Tenant, pools: ConnectionPools, store: InboxStore
) -> None:
    _, ours = await acme.family()
    await acme.register(ours)
    desk = Desk(pools, store, (acme.url, ours))
    await desk.call("send_message_to_user", message="hello")
    await desk.poller(ours).poll()
    assert desk.waiting() == []
    assert desk.cursor(ours) is not None


async def test_a_cursor_that_the_platform_no_longer_knows_is_forgotten_and_nothing_comes_twice(
    acme: Tenant, pools: ConnectionPools, store: InboxStore
) -> None:
    lead, ours = await acme.family()
    await acme.register(ours)
    desk = Desk(pools, store, (acme.url, ours))
    poller = desk.poller(ours)
    await acme.message(lead, ours, "popped")
    await acme.message(lead, ours, "waiting")
    await poller.poll()
    (popped, waiting) = desk.waiting()
    await desk.json("inbox_pop", activity_id=popped)
    store.add(desk.boxes[ours.id], [], cursor="00000000-0000-4000-8000-000000000000")
    await acme.message(lead, ours, "new")
    assert await poller.poll() is True
    assert desk.cursor(ours) is None
    await poller.poll()
    assert [message["text"] for message in await desk.json("inbox_peek")] == ["waiting", "new"]
    assert desk.waiting()[0] == waiting


async def test_a_platform_that_answers_410_without_a_cursor_is_a_failure_and_not_a_loop(
    desk: Desk, scripted: Http
) -> None:
    scripted.says((410, {"error": "gone"}))
    with pytest.raises(PlatformError):
        await desk.poller().poll()
    assert len(scripted.received) == 1


async def test_the_first_look_goes_back_ten_minutes_and_then_the_cursor_leads(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row("b", at=2), row("a", at=1)]), (200, []))
    poller = desk.poller()
    await poller.poll()
    await poller.poll()
    first, second = (query_of(request) for request in scripted.received)
    assert first == {"type": "a2a_receive", "since_secs": "600", "include": "peer_info", "limit": str(PAGE)}
    assert second == {"type": "a2a_receive", "since_id": "b", "include": "peer_info", "limit": str(PAGE)}
    assert desk.waiting() == ["a", "b"]


async def test_a_failed_poll_moves_nothing(desk: Desk, scripted: Http) -> None:
    poller = desk.poller()
    scripted.says((200, [row("a")]))
    await poller.poll()
    answers: list[tuple[int, object] | None] = [
        (500, {"error": "x"}),
        (401, {"error": "x"}),
        (200, b"<html>"),
        (200, {"rows": []}),
        None,
    ]
    for answer in answers:
        scripted.says(answer)
        with pytest.raises(PlatformError):
            await poller.poll()
    assert (desk.cursor(), desk.waiting()) == ("a", ["a"])


async def test_rows_without_a_message_are_passed_by_for_good(desk: Desk, scripted: Http) -> None:
    rows = [row("n", method="notify", source_id=None), row("e", at=1, source_id="alice"), row("m", at=2)]
    scripted.says((200, rows))
    await desk.poller().poll()
    assert (desk.cursor(), desk.waiting()) == ("m", ["m"])


async def test_an_april_platform_that_ignores_the_cursor_brings_nothing_twice(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row("b", at=2), row("a", at=1)]), (200, [row("c", at=3), row("b", at=2), row("a", at=1)]))
    poller = desk.poller()
    for _ in range(3):
        await poller.poll()
    assert (desk.cursor(), desk.waiting()) == ("c", ["a", "b", "c"])


class Log:
    """A platform's activity log, as the June platform answers it; it stops at rows of too many bytes."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    async def answer(self, request: Received) -> tuple[int, Any]:
        query = query_of(request)
        rows = list(self.rows)
        if since := query.get("since_id"):
            found = rows[[item["id"] for item in rows].index(since) + 1 :]
        else:
            before = query.get("before_ts", "9")
            found = [item for item in rows if item["created_at"] < before][::-1]
        return 200, found[: int(query["limit"])]


async def test_more_recent_messages_than_fit_one_page_all_arrive_at_the_first_look(desk: Desk, scripted: Http) -> None:
    rows = [row(str(number), at=number, seq=number) for number in range(3 * PAGE - 20)]
    scripted.answer = Log(rows).answer
    poller = desk.poller()
    while await poller.poll():
        pass
    assert desk.waiting() == [item["id"] for item in rows]
    assert desk.cursor() == rows[-1]["id"]


async def test_more_new_messages_than_fit_one_page_all_arrive(desk: Desk, scripted: Http) -> None:
    log = Log([row("0", seq=0)])
    scripted.answer = log.answer
    poller = desk.poller()
    await poller.poll()
    log.rows += [row(str(number), at=number, seq=number) for number in range(1, 2 * PAGE + 10)]
    pages = 1
    while await poller.poll():
        pages += 1
    assert pages == 3
    assert desk.waiting() == [item["id"] for item in log.rows]


async def test_messages_too_large_for_one_answer_come_in_smaller_pages(desk: Desk, scripted: Http) -> None:
    huge = "x" * (MAX_RESPONSE_BYTES // 12)
    log = Log([row("0", seq=0)])
    scripted.answer = log.answer
    poller = desk.poller()
    await poller.poll()
    log.rows += [row(str(number), at=number, seq=number, text=huge) for number in range(1, 30)]
    failures = 0
    with anyio.fail_after(3 * WAIT_SECONDS):
        while desk.cursor() != "29":
            try:
                await poller.poll()
            except UnexpectedResponseError:
                failures += 1
    assert desk.waiting() == [str(number) for number in range(30)]
    assert failures < 10
    # What the agent is shown of such a message is still a line that it can read.
    shown = await desk.call("wait_for_message")
    while shown.structured["activity_id"] == "0":
        shown = await desk.call("wait_for_message")
    assert "[cut: " in shown.text
    assert len(json.dumps([shown.text, shown.structured]).encode()) < 60 * 1024


async def test_a_text_that_utf8_cannot_carry_is_delivered_all_the_same(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row("a", text="half a pair: \ud800")]))
    await desk.poller().poll()
    message = await desk.json("wait_for_message", timeout_secs=0)
    assert message["text"] == "half a pair: \ufffd"


async def test_a_full_inbox_stops_polling_without_moving_the_cursor(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.poller.MAX_WAITING", 2)
    scripted.says((200, [row("a"), row("b", at=1)]), (200, [row("c", at=2)]))
    poller = desk.poller()
    await poller.poll()
    asked = len(scripted.received)
    for _ in range(3):
        assert await poller.poll() is False
    assert (len(scripted.received), desk.cursor()) == (asked, "b")
    assert len([record for record in caplog.records if "polling goes on when some are popped" in record.message]) == 1
    await desk.json("inbox_pop", activity_id="a")
    await poller.poll()
    assert (desk.waiting(), desk.cursor()) == (["b", "c"], "c")


async def test_a_poller_survives_a_platform_that_fails(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.poller.MAX_BACKOFF", 0.01)
    scripted.says((503, {"error": "x"}), None, (200, b"junk"), (429, {"error": "x"}), (200, [row("a")]))
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(desk.inbox.run)
            group.start_soon(desk.poller().run)
            assert (await desk.json("wait_for_message", timeout_secs=9))["activity_id"] == "a"
            group.cancel_scope.cancel()


# --- waiting ------------------------------------------------------------------------------------------------------------------


async def test_somebody_who_waits_is_woken_by_a_new_message(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row("a")]))
    got: list[Any] = []

    async def wait() -> None:
        got.append(await desk.json("wait_for_message", timeout_secs=60))

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await desk.poller().poll()
    assert got[0]["activity_id"] == "a"


async def test_of_several_who_wait_each_gets_a_message_of_their_own(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row(name, at=at) for at, name in enumerate("abc")]))
    got: list[str] = []

    async def wait() -> None:
        got.append((await desk.json("wait_for_message", timeout_secs=60))["activity_id"])

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await desk.poller().poll()
    assert sorted(got) == ["a", "b", "c"]


async def test_nothing_within_the_time_is_said_and_is_no_error(desk: Desk) -> None:
    assert await desk.json("wait_for_message", timeout_secs=0) == {"timeout": True, "timeout_secs": 0}
    assert await desk.json("wait_for_message", timeout_secs=0.05) == {"timeout": True, "timeout_secs": 0.05}


async def test_a_message_that_is_not_popped_is_handed_out_again_when_its_lease_ends(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.store.LEASE_SECONDS", 0.2)
    scripted.says((200, [row("a")]))
    await desk.poller().poll()
    first = await desk.json("wait_for_message", timeout_secs=0)
    again = await desk.json("wait_for_message", timeout_secs=9)
    assert {**first, "redelivered": True, "delivery_count": 2} == again
    assert await desk.json("inbox_pop", activity_id="a") == {"removed": True, "activity_id": "a"}
    assert await desk.json("inbox_pop", activity_id="a") == {"removed": False, "activity_id": "a"}
    assert "timeout" in await desk.json("wait_for_message", timeout_secs=0.3)


class Gated(InboxStore):
    """A store whose lease takes as long as the test wants."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entered = threading.Event()
        self.gate = threading.Event()

    def lease(self, mailboxes: Any) -> InboxMessage | None:
        self.entered.set()
        assert self.gate.wait(WAIT_SECONDS)
        return super().lease(mailboxes)


async def test_a_call_that_is_cancelled_while_it_gets_a_message_gives_it_back(
    tmp_path: Path, pools: ConnectionPools, scripted: Http
) -> None:
    store = Gated(tmp_path / "inbox.db")
    try:
        desk = Desk(pools, store, (scripted.url, ALICE))
        scripted.says((200, [row("a")]))
        await desk.poller().poll()
        with anyio.fail_after(WAIT_SECONDS):
            async with anyio.create_task_group() as group:
                group.start_soon(desk.inbox.wait, 60.0)
                await anyio.to_thread.run_sync(store.entered.wait)
                group.cancel_scope.cancel()
                store.gate.set()
        assert (await desk.json("wait_for_message", timeout_secs=0))["activity_id"] == "a"
    finally:
        store.gate.set()
        store.close()


async def test_somebody_who_begins_to_wait_makes_every_poller_look_at_once(
    pools: ConnectionPools, store: InboxStore, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.pacing.IDLE_INTERVAL", 3600.0)
    monkeypatch.setattr("molecule_runtime.mcp.pacing.BUSY_INTERVAL", 0.01)
    desk = Desk(pools, store, (scripted.url, ALICE), (scripted.url, Member("bob", "token-of-bob")))
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            for box in desk.boxes.values():
                pace = desk.inbox.pacing.of(box)
                async with pace.poll():
                    pass
                group.start_soon(pace.pause)
            await anyio.wait_all_tasks_blocked()
            await desk.inbox.wait(0)


async def test_a_tool_may_ask_for_the_messages_of_one_workspace(
    pools: ConnectionPools, store: InboxStore, scripted: Http
) -> None:
    bob = Member("bob", "token-of-bob")
    desk = Desk(pools, store, (scripted.url, ALICE), (scripted.url, bob))
    scripted.says((200, [row("to-alice", source_id="carol")]), (200, [row("to-bob", source_id="carol")]))
    await desk.poller(ALICE).poll()
    await desk.poller(bob).poll()
    message = await desk.json("wait_for_message", timeout_secs=0, source_workspace_id="bob")
    assert (message["activity_id"], message["arrival_workspace_id"]) == ("to-bob", "bob")
    assert [item["activity_id"] for item in await desk.json("inbox_peek")] == ["to-alice", "to-bob"]
    assert [item["activity_id"] for item in await desk.json("inbox_peek", source_workspace_id="alice")] == ["to-alice"]
    popped = await desk.json("inbox_pop", activity_id="to-bob", source_workspace_id="alice")
    assert popped["removed"] is False
    result = await desk.call("inbox_pop", activity_id="to-bob", source_workspace_id="mallory")
    assert result.is_error


async def test_two_tenants_with_one_workspace_id_share_no_messages(
    pools: ConnectionPools, store: InboxStore, scripted: Http, acme: Tenant
) -> None:
    _, ours = await acme.family()
    await acme.register(ours)
    here = Desk(pools, store, (scripted.url, ours))
    there = Desk(pools, store, (acme.url, ours))
    scripted.says((200, [row("a")]))
    await here.poller(ours).poll()
    await there.poller(ours).poll()
    assert (here.waiting(), there.waiting()) == (["a"], [])
    assert (here.cursor(ours), there.cursor(ours)) == ("a", None)


async def test_peek_shows_the_oldest_first_and_no_more_than_asked(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row(str(number), at=number) for number in range(15)]))
    await desk.poller().poll()
    assert [item["activity_id"] for item in await desk.json("inbox_peek")] == [str(number) for number in range(10)]
    assert len(await desk.json("inbox_peek", limit=3)) == 3
    assert (await desk.call("inbox_peek", limit=0)).is_error


async def test_a_process_without_polling_says_so(pools: ConnectionPools, desk: Desk) -> None:
    context = ToolContext(clients=desk.context.clients, permissions=desk.context.permissions)
    for tool, arguments in (("wait_for_message", {}), ("inbox_peek", {}), ("inbox_pop", {"activity_id": "a"})):
        result = await dispatch(tool, arguments, context)
        assert result.is_error
        assert result.text.startswith("inbox polling is not enabled in this process")


def test_the_mailbox_of_a_target_is_its_origin_and_its_whole_id() -> None:
    def at(url: str) -> WorkspaceTarget:
        return WorkspaceTarget(id=validate_workspace_id("ws-1"), token=StaticToken("t"), platform_url=url)

    assert mailbox_of(at("https://Acme.example:443/api")) == mailbox_of(at("https://acme.example"))
    assert mailbox_of(at("https://acme.example:8443")) != mailbox_of(at("https://acme.example"))


# --- what the agent is told ---------------------------------------------------------------------------------------------------


async def test_a_full_inbox_is_told_in_every_answer_until_there_is_room(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.poller.MAX_WAITING", 2)
    scripted.says((200, [row("a"), row("b", at=1)]), (200, []))
    poller = desk.poller()
    await poller.poll()
    assert "backpressure" not in (await desk.json("inbox_peek"))[0]
    await poller.poll()
    for said in (
        (await desk.json("inbox_peek"))[0],
        await desk.json("wait_for_message", timeout_secs=0),
        await desk.json("wait_for_message", timeout_secs=0),
        await desk.json("wait_for_message", timeout_secs=0),
    ):
        assert "inbox_pop" in said["backpressure"]
    await desk.json("inbox_pop", activity_id="a")
    await poller.poll()
    assert "backpressure" not in (await desk.json("inbox_peek"))[0]


async def test_what_somebody_is_handling_is_listed_as_such(desk: Desk, scripted: Http) -> None:
    scripted.says((200, [row("a"), row("b", at=1)]))
    await desk.poller().poll()
    await desk.json("wait_for_message", timeout_secs=0)
    first, second = await desk.json("inbox_peek")
    assert (first["activity_id"], first["leased"]) == ("a", True)
    assert "leased" not in second


async def test_a_message_is_kept_for_an_agent_that_is_at_work_but_not_for_ever(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.says((200, [row("a")]), (200, []))
    await desk.poller().poll()
    monkeypatch.setattr("molecule_runtime.mcp.store.LEASE_SECONDS", 0.4)
    monkeypatch.setattr("molecule_runtime.mcp.inbox.WATCH_INTERVAL", 0.05)
    await desk.json("wait_for_message", timeout_secs=0)
    until = desk.store.next_free([desk.boxes[ALICE.id]])
    assert until is not None
    async with anyio.create_task_group() as group:
        with desk.inbox.working():
            group.start_soon(desk.inbox.run)
            with anyio.fail_after(WAIT_SECONDS):
                while (later := desk.store.next_free([desk.boxes[ALICE.id]])) is not None and later <= until:  # noqa: ASYNC110 - a lease that is prolonged tells nobody
                    await anyio.sleep(0.02)
            assert later is not None
            # At work or not: after the longest time it is handed out again.
            monkeypatch.setattr("molecule_runtime.mcp.store.MAX_LEASE_SECONDS", 0.0)
            assert (await desk.json("wait_for_message", timeout_secs=9))["redelivered"] is True
        group.cancel_scope.cancel()


async def test_those_who_look_at_an_inbox_hear_when_messages_come_and_go_here_and_elsewhere(
    pools: ConnectionPools, store: InboxStore, scripted: Http, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.mcp.inbox.WATCH_INTERVAL", 0.02)
    desk = Desk(pools, store, (scripted.url, ALICE))
    changes = ResourceChanges()
    heard: list[str] = []
    changes.listen(heard.append)
    desk.inbox = PolledInbox(store, desk.boxes, changes)
    scripted.says((200, [row("a")]))
    await desk.poller().poll()
    assert heard == [inbox_uri(ALICE.id)]
    assert await desk.inbox.pop("a")
    assert heard == [inbox_uri(ALICE.id)] * 2
    told = anyio.Event()
    changes.listen(lambda uri: told.set())
    elsewhere = InboxStore(tmp_path / "state" / "molecule-mcp.db")
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(desk.inbox.run)
            elsewhere.add(desk.boxes[ALICE.id], [wake_up()], cursor="b")
            with anyio.fail_after(WAIT_SECONDS):
                await told.wait()
            taken = await desk.inbox.wait(WAIT_SECONDS)
            assert taken is not None
            assert taken.activity_id == "b"
            assert heard == [inbox_uri(ALICE.id)] * 3
            group.cancel_scope.cancel()
    finally:
        elsewhere.close()


def wake_up() -> InboxMessage:
    return InboxMessage(
        activity_id="b",
        text="written by another process",
        kind="canvas_user",
        peer_id="",
        method="message/send",
        created_at="",
        arrival_workspace_id="",
    )
