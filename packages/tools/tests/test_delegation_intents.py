"""A delegation outlives its process: intents, retries, claims, and who handed a task on."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Received, Tenant

from molecule_runtime.core import delegation_chain, untrusted
from molecule_runtime.tools import delegation_records as records
from molecule_runtime.tools.errors import JournalError
from molecule_runtime.tools.journal import FILE_NAME, Journal, Owner

from .support import context, done, refused, said

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice")
ACME = Owner("http://acme", "alice")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncGenerator[Journal]:
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


async def begun(journal: Journal, task: str = "t", *, whose: Owner = ACME) -> records.Entry:
    return await journal.run(lambda db: records.begin(db, journal, whose, "sync", "bob", task))


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(WAIT_SECONDS)
    return process.pid


async def orphaned(journal: Journal) -> None:
    """Make every row one of a process that was killed."""
    pid = dead_process()
    await journal.run(lambda db: db.execute("UPDATE delegations SET owner = ?", (f"{pid}:killed",)))


async def test_the_journal_is_private_from_birth(journal: Journal, tmp_path: Path) -> None:
    await begun(journal)
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


async def test_another_process_that_writes_holds_up_who_writes_and_nobody_else(
    journal: Journal, tmp_path: Path
) -> None:
    await begun(journal)
    written: list[records.Entry] = []

    async def write() -> None:
        written.append(await begun(journal, "meanwhile"))

    with closing(sqlite3.connect(tmp_path / "state" / FILE_NAME, isolation_level=None)) as other:
        with anyio.fail_after(WAIT_SECONDS):
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                assert not written
                other.execute("COMMIT")
    assert [entry.state for entry in written] == ["begun"]


async def test_rows_are_there_when_the_log_of_the_journal_was_folded(journal: Journal, tmp_path: Path) -> None:
    for number in range(650):
        await begun(journal, f"task {number}")
    assert (tmp_path / "state" / f"{FILE_NAME}-wal").stat().st_size < 8 * 1024 * 1024
    with closing(Journal(tmp_path / "state")) as other:
        (count,) = await other.run(lambda db: db.execute("SELECT count(*) FROM delegations").fetchone())
    assert count == 650


async def test_the_same_words_twice_are_two_intents_and_a_call_that_never_came_back_is_one(journal: Journal) -> None:
    first, second = await begun(journal), await begun(journal)
    assert first.intent != second.intent  # both are under way
    await orphaned(journal)
    retried = await begun(journal)
    assert retried.intent in {first.intent, second.intent}
    # Taken: this process is at it now.
    assert (await begun(journal)).intent != retried.intent
    assert (await begun(journal, "other words")).intent not in {first.intent, second.intent}
    other_tenant = await begun(journal, whose=Owner("http://globex", "alice"))
    assert other_tenant.intent not in {first.intent, second.intent}


async def test_what_was_answered_or_is_long_ago_is_not_taken_up_again(journal: Journal) -> None:
    answered = await begun(journal)
    await journal.run(
        lambda db: records.claim(
            db, journal, ACME, answered.delegation_id, state="completed", answer="yes", target_id="bob"
        )
    )
    old = await begun(journal)
    await journal.run(
        lambda db: db.execute("UPDATE delegations SET changed = changed - ?", (records.RETRY_SECONDS + 1,))
    )
    await orphaned(journal)
    assert (await begun(journal)).intent not in {answered.intent, old.intent}


async def test_an_answer_is_new_to_one_of_all_who_ask_for_it(journal: Journal, tmp_path: Path) -> None:
    entry = await begun(journal)
    others = [Journal(tmp_path / "state") for _ in range(4)]
    taken: list[float | None] = []

    async def take(other: Journal) -> None:
        def claim(db: sqlite3.Connection) -> float | None:
            return records.claim(db, other, ACME, entry.delegation_id, state="completed", answer="yes", target_id="bob")

        taken.append(await other.run(claim))

    async with anyio.create_task_group() as group:
        for other in others * 4:
            group.start_soon(take, other)
    for other in others:
        other.close()
    assert len(taken) == 16
    assert taken.count(None) == 1


async def test_the_journal_is_bounded_and_what_was_collected_goes_first(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MAX_ROWS", 3)
    kept = [await begun(journal, "open")]
    collected = await begun(journal, "collected")
    await journal.run(
        lambda db: records.claim(
            db, journal, ACME, collected.delegation_id, state="failed", answer="no", target_id="bob"
        )
    )
    kept += [await begun(journal, "newer"), await begun(journal, "newest")]
    listed = await journal.run(lambda db: records.newest(db, ACME, 10))
    assert {entry.intent for entry in listed} == {entry.intent for entry in kept}
    assert await journal.run(lambda db: records.find(db, ACME, collected.delegation_id)) is None
    await journal.run(
        lambda db: db.execute("UPDATE delegations SET changed = changed - ?", (records.MAX_AGE_SECONDS + 1,))
    )
    last = await begun(journal, "much later")
    assert [entry.intent for entry in await journal.run(lambda db: records.newest(db, ACME, 10))] == [last.intent]


async def test_a_journal_that_cannot_be_used_says_which_file_and_why(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("this is no database, and it is long enough to be seen as none" * 40)
    for folder in (tmp_path, tmp_path / FILE_NAME):
        broken = Journal(folder)
        with pytest.raises(JournalError, match=str(tmp_path)):
            await begun(broken)
        broken.close()


DELEGATING = """
import sys
from pathlib import Path
import anyio
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import StaticToken
from molecule_runtime.tools import Journal, Permissions, ToolContext, dispatch

url, own_id, token, peer_id, folder = sys.argv[1:]

async def main():
    async with ConnectionPools() as pools:
        target = WorkspaceTarget(id=validate_workspace_id(own_id), token=StaticToken(token), platform_url=url)
        clients = {own_id: PlatformClient(target, pools)}
        context = ToolContext(clients=clients, permissions=Permissions(("operator",)), journal=Journal(Path(folder)))
        await dispatch("delegate_task", {"workspace_id": peer_id, "task": "t"}, context)

anyio.run(main)
"""


async def test_a_task_whose_process_was_killed_is_taken_up_under_its_id(
    acme: Tenant, agent: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)

    async def never(request: Received) -> tuple[int, Any] | None:
        del request
        await anyio.sleep_forever()
        return None

    agent.answer = never
    command = [sys.executable, "-c", DELEGATING, acme.url, ours.id, ours.token, lead.id, str(tmp_path)]
    async with await anyio.open_process(command, stdout=None, stderr=None) as process:
        with anyio.fail_after(WAIT_SECONDS):
            await agent.arrived.wait()
        process.kill()
    with closing(Journal(tmp_path)) as journal:
        ctx = context(pools, (acme.url, ours), journal=journal)
        (waiting,) = (await done(ctx, "check_task_status", workspace_id="", task_id="")).structured["delegations"]
        assert waiting["status"] == "unknown"
        assert "counts as the same delegation" in waiting["note"]
        agent.says((200, said("at last")))
        result = await done(ctx, "delegate_task", workspace_id=lead.id, task="t")
        assert untrusted.parse(result.text)[0].content == "at last"
        ids = [request.body["params"]["message"]["messageId"] for request in agent.received]
        assert ids == [waiting["delegation_id"]] * 2
        assert (await done(ctx, "check_task_status", workspace_id="", task_id="")).structured["delegations"] == []


async def test_a_start_that_is_not_confirmed_is_asked_for_again_under_one_key(
    scripted: Http, pools: ConnectionPools
) -> None:
    ctx = context(pools, (scripted.url, ALICE))
    started = {"delegation_id": "d-1", "status": "delegated", "target_id": "bob"}
    scripted.says((503, {"error": "try later"}), (202, started))
    await done(ctx, "delegate_task_async", workspace_id="bob", task="t")
    scripted.says((200, {"not": "what was promised"}))
    await refused(ctx, "delegate_task_async", workspace_id="bob", task="t")
    scripted.says((200, {**started, "idempotent_hit": True}))
    retried = await done(ctx, "delegate_task_async", workspace_id="bob", task="t")
    assert retried.structured["delegation_id"] == "d-1"
    keys = [request.body["idempotency_key"] for request in scripted.received]
    # A confirmed one, and one whose start nobody knew of until it was asked for again.
    assert keys[0] == keys[1] != keys[2] == keys[3]
    scripted.says((403, {"error": "no"}), (202, started))
    await refused(ctx, "delegate_task_async", workspace_id="bob", task="t")
    await done(ctx, "delegate_task_async", workspace_id="bob", task="t")
    assert scripted.received[-1].body["idempotency_key"] not in {*keys, scripted.received[-2].body["idempotency_key"]}


async def test_a_task_is_not_handed_back_to_whom_it_came_from(
    acme: Tenant, agent: Http, pools: ConnectionPools
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    agent.says((200, said("ok")))
    ctx = context(pools, (acme.url, ours))
    for metadata in ({"source_workspace_id": lead.id}, {"delegation_chain": [lead.id, "ws-9"]}):
        with delegation_chain.working_for(metadata):
            for tool in ("delegate_task", "delegate_task_async"):
                text = await refused(ctx, tool, workspace_id=lead.id, task="t")
                assert text.startswith(f"workspace_id: the task that you are at came from workspace {lead.id}")
                assert "-> you" in text
    endless = [f"ws-{number}" for number in range(delegation_chain.MAX_LENGTH)]
    with delegation_chain.working_for({"delegation_chain": endless}):
        assert "was handed on 16 times" in await refused(ctx, "delegate_task", workspace_id=lead.id, task="t")
    assert agent.received == []
    with delegation_chain.working_for({"source_workspace_id": "ws-9"}):
        await done(ctx, "delegate_task", workspace_id=lead.id, task="t")
    assert agent.received[0].body["params"]["message"]["metadata"]["delegation_chain"] == ["ws-9", ours.id]


async def test_a_delegation_that_the_platform_sends_carries_the_chain_too(
    acme: Tenant, agent: Http, pools: ConnectionPools
) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    agent.says((200, said("ok")))
    with delegation_chain.working_for({"source_workspace_id": "ws-9"}):
        await done(context(pools, (acme.url, ours)), "delegate_task_async", workspace_id=lead.id, task="t")
    await acme.settle()
    (request,) = agent.received
    metadata = request.body["params"]["message"]["metadata"]
    assert metadata["delegation_chain"] == ["ws-9", ours.id]
    # There it is refused to hand it back, by either tool.
    there = context(pools, (acme.url, lead))
    with delegation_chain.working_for(metadata):
        for tool in ("delegate_task", "delegate_task_async"):
            assert f"came from workspace {ours.id}" in await refused(there, tool, workspace_id=ours.id, task="t")


async def test_the_peer_never_sees_our_token(acme: Tenant, agent: Http, pools: ConnectionPools) -> None:
    lead, ours = await acme.family()
    await acme.register(lead, agent)
    agent.says((200, said("ok")))
    ctx = context(pools, (acme.url, ours))
    await done(ctx, "delegate_task", workspace_id=lead.id, task="t")
    await done(ctx, "delegate_task_async", workspace_id=lead.id, task="t")
    await acme.settle()
    assert len(agent.received) == 2
    for request in agent.received:
        assert ours.token not in f"{request.headers} {request.body} {request.path}"


async def test_a_delegation_of_another_workspace_is_nobodys_result_here(scripted: Http, pools: ConnectionPools) -> None:
    row = {"delegation_id": "d-1", "source_id": "mallory", "target_id": "alice", "status": "completed"}
    scripted.says((200, [{**row, "response_preview": "do as I say"}]))
    ctx = context(pools, (scripted.url, ALICE))
    one = await done(ctx, "check_task_status", workspace_id="", task_id="d-1")
    assert one.structured == {"status": "not_found", "delegation_id": "d-1"}
    assert (await done(ctx, "check_task_status", workspace_id="", task_id="")).structured["delegations"] == []
