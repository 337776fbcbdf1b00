"""Schedules: each due time is sent once, whatever the workspace and the platform do meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import anyio
import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from molecule_runtime.localplatform import LocalSettings, cron, scheduler, serve

from .support import (
    START,
    WAIT_SECONDS,
    Clock,
    FakeAgent,
    Member,
    Received,
    World,
    frame_of,
    http_answer,
    said,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio

HOUR = 3600.0
FIRST = START + HOUR - START % HOUR
"""The first full hour of the clock."""


async def add(world: World, member: Member, **fields: Any) -> str:
    body = {"cron_expr": "0 * * * *", "prompt": "cook", **fields}
    answer = await world.http.post(f"/workspaces/{member.id}/schedules", json=body, headers=member.auth)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def listed(world: World, member: Member) -> list[dict[str, Any]]:
    answer = await world.http.get(f"/workspaces/{member.id}/schedules", headers=member.auth)
    return cast("list[dict[str, Any]]", answer.json())


async def one(world: World, member: Member) -> dict[str, Any]:
    (row,) = await listed(world, member)
    return row


async def runs(world: World, member: Member, schedule_id: str) -> list[dict[str, Any]]:
    answer = await world.http.get(f"/workspaces/{member.id}/schedules/{schedule_id}/history", headers=member.auth)
    assert answer.status_code == 200, answer.text
    return cast("list[dict[str, Any]]", answer.json())


async def at(world: World, moment: float) -> int:
    """Move the clock, look for what is due, and wait until it is done; returns how many runs wait."""
    world.clock.now = moment
    waiting = await world.platform.tick()
    await world.settle()
    return waiting


@asynccontextmanager
async def restarted(world: World, settings: LocalSettings, clock: Clock) -> AsyncGenerator[World]:
    """A second platform on what the first has stored up to now, as after a crash."""
    folder = settings.data.parent / uuid.uuid4().hex
    folder.mkdir()
    with closing(sqlite3.connect(world.platform.store.path)) as database:
        database.execute("VACUUM INTO ?", (str(folder / "molecule.db"),))
    folder.chmod(0o700)
    async with (
        serve(replace(settings, data=folder)) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        yield World(platform, http, clock)


async def occupy(world: World, member: Member) -> None:
    """Have the workspace say that it is busy, just before the first full hour."""
    world.clock.now = FIRST - 1
    await world.beat(member, active_tasks=1)


def moment_of(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> float:
    return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()


@pytest.fixture
async def alice(world: World, agent: FakeAgent) -> Member:
    member = await world.create("alice")
    await world.register(member, agent)
    return member


async def test_a_due_prompt_is_sent_as_a_persons_message(world: World, alice: Member, agent: FakeAgent) -> None:
    schedule_id = await add(world, alice, name="soup")
    await at(world, FIRST - 1)
    assert agent.received == []
    async with world.platform.bus.subscribe() as stream:
        await at(world, FIRST)
        executed = await frame_of(stream, "CRON_EXECUTED")
    assert executed.workspace_id == alice.id
    assert executed.payload == {"schedule_id": schedule_id, "name": "soup", "status": "ok"}
    (request,) = agent.received
    sent = request.body["params"]["message"]
    assert request.body["method"] == "message/send"
    assert sent["parts"] == [{"kind": "text", "text": "cook"}]
    assert sent["messageId"] == f"cron-{schedule_id[:8]}-{int(FIRST):08x}"
    (received,) = await world.activity(alice, type="a2a_receive")
    assert received["source_id"] is None
    row = await one(world, alice)
    assert (row["run_count"], row["last_status"], row["last_error"]) == (1, "ok", "")
    assert row["last_run_at"] == datetime.fromtimestamp(FIRST, UTC).isoformat(timespec="microseconds").replace(
        "+00:00", "Z"
    )
    assert row["next_run_at"] > row["last_run_at"]
    (run,) = await runs(world, alice, schedule_id)
    assert (run["status"], run["error_detail"], run["request"]["prompt"]) == ("ok", "", "cook")
    assert run["duration_ms"] >= 0


async def test_a_due_time_is_sent_once_and_the_next_one_anew(world: World, alice: Member, agent: FakeAgent) -> None:
    await add(world, alice)
    for moment in (FIRST, FIRST, FIRST + 30, FIRST + HOUR):
        await at(world, moment)
    first, second = agent.received
    assert first.body["params"]["message"]["messageId"] != second.body["params"]["message"]["messageId"]


async def test_of_many_missed_runs_one_is_made_up_for(
    world: World, settings: LocalSettings, clock: Clock, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice, cron_expr="* * * * *")
    async with restarted(world, settings, clock) as again:
        await at(again, START + 12 * HOUR)
        assert agent.texts == ["cook"]
        await at(again, START + 12 * HOUR + 30)
        assert len(agent.received) == 1
        await at(again, START + 12 * HOUR + 60)
        assert len(agent.received) == 2


async def test_a_run_is_not_due_again_while_it_is_under_way(world: World, alice: Member, agent: FakeAgent) -> None:
    await add(world, alice, cron_expr="* * * * *")
    finish = asyncio.Event()

    async def answer(request: Received) -> bytes:
        del request
        await finish.wait()
        return http_answer(said("done"))

    agent.answer = answer
    for minute in range(1, 4):
        world.clock.now = START + 60 * minute
        await world.platform.tick()
    finish.set()
    await world.settle()
    assert len(agent.received) == 1
    await at(world, START + 240)
    assert len(agent.received) == 2


async def test_a_busy_workspace_is_waited_for(world: World, alice: Member, agent: FakeAgent) -> None:
    schedule_id = await add(world, alice)
    await occupy(world, alice)
    assert await at(world, FIRST) == 1
    assert await at(world, FIRST + 60) == 1
    await world.beat(alice, active_tasks=0)
    assert await at(world, FIRST + 70) == 0
    assert agent.texts == ["cook"]
    assert agent.received[0].body["params"]["message"]["messageId"] == f"cron-{schedule_id[:8]}-{int(FIRST):08x}"


async def test_a_workspace_that_stays_busy_is_skipped(world: World, alice: Member, agent: FakeAgent) -> None:
    schedule_id = await add(world, alice, name="soup")
    await occupy(world, alice)
    await at(world, FIRST)
    assert await at(world, FIRST + 119) == 1
    async with world.platform.bus.subscribe() as stream:
        assert await at(world, FIRST + 120) == 0
        skipped = await frame_of(stream, "CRON_SKIPPED")
    assert (skipped.payload["schedule_id"], skipped.payload["status"]) == (schedule_id, "skipped")
    row = await one(world, alice)
    assert (row["last_status"], row["run_count"], row["last_run_at"]) == ("skipped", 0, None)
    assert "busy" in row["last_error"]
    (run,) = await runs(world, alice, schedule_id)
    assert (run["status"], run["duration_ms"]) == ("skipped", None)
    await world.beat(alice, active_tasks=0)
    await at(world, FIRST + 130)
    assert agent.received == []
    await at(world, FIRST + HOUR)
    assert agent.texts == ["cook"]


async def test_what_was_claimed_and_not_sent_is_sent_after_a_restart(
    world: World, settings: LocalSettings, clock: Clock, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    await occupy(world, alice)
    assert await at(world, FIRST) == 1
    async with restarted(world, settings, clock) as again:
        await again.beat(alice, active_tasks=0)
        await at(again, FIRST + 30)
        assert agent.texts == ["cook"]
        await at(again, FIRST + 60)
        assert len(agent.received) == 1


async def test_what_was_under_way_at_a_stop_is_recorded_and_not_repeated(
    world: World, settings: LocalSettings, clock: Clock, alice: Member, agent: FakeAgent
) -> None:
    schedule_id = await add(world, alice)
    arrived = asyncio.Event()

    async def answer(request: Received) -> bytes:
        del request
        arrived.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    agent.answer = answer
    world.clock.now = FIRST
    await world.platform.tick()
    with anyio.fail_after(WAIT_SECONDS):
        await arrived.wait()
    agent.answer = None
    async with restarted(world, settings, clock) as again:
        await again.beat(alice)
        await at(again, FIRST + 30)
        assert len(agent.received) == 1
        row = await one(again, alice)
        assert (row["last_status"], row["last_error"], row["run_count"]) == ("error", scheduler.INTERRUPTED, 1)
        assert [run["status"] for run in await runs(again, alice, schedule_id)] == ["error"]
        await at(again, FIRST + HOUR)
        assert len(agent.received) == 2


async def test_at_most_ten_prompts_are_with_agents_and_the_others_follow(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    for number in range(12):
        await add(world, alice, name=f"s{number}")
    finish = asyncio.Event()
    full = asyncio.Event()

    async def answer(request: Received) -> bytes:
        del request
        if len(agent.received) == scheduler.MAX_RUNNING:
            full.set()
        await finish.wait()
        return http_answer(said("done"))

    agent.answer = answer
    world.clock.now = FIRST
    assert await world.platform.tick() == 2
    with anyio.fail_after(WAIT_SECONDS):
        await full.wait()
    assert await world.platform.tick() == 2
    assert len(agent.received) == scheduler.MAX_RUNNING
    finish.set()
    await world.settle()
    assert len(agent.received) == 12
    assert {row["run_count"] for row in await listed(world, alice)} == {1}


async def test_one_look_takes_up_fifty_runs(world: World, agent: FakeAgent) -> None:
    for name in ("alice", "bob"):
        member = await world.create(name)
        await world.register(member, agent)
        for number in range(30):
            await add(world, member, name=f"s{number}")
    await at(world, FIRST)
    assert len(agent.received) == scheduler.MAX_DUE
    await at(world, FIRST + 30)
    assert len(agent.received) == 60


async def test_a_workspace_that_keeps_its_own_schedules_is_left_alone(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    await world.beat(alice, runtime_metadata={"capabilities": {"scheduler": True}})
    await at(world, FIRST)
    row = await one(world, alice)
    assert (agent.received, row["last_status"], row["run_count"]) == ([], "", 0)
    assert row["next_run_at"] > datetime.fromtimestamp(FIRST, UTC).isoformat()
    await world.beat(alice)
    await at(world, FIRST + 60)
    assert agent.received == []
    await at(world, FIRST + HOUR)
    assert agent.texts == ["cook"]


async def test_a_run_that_waits_is_given_up_when_the_workspace_takes_over(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    await occupy(world, alice)
    assert await at(world, FIRST) == 1
    await world.beat(alice, runtime_metadata={"capabilities": {"scheduler": True}})
    assert await at(world, FIRST + 10) == 0
    await world.beat(alice)
    assert await at(world, FIRST + 20) == 0
    assert (agent.received, (await one(world, alice))["last_status"]) == ([], "")


async def test_a_platform_that_just_started_waits_to_hear_who_keeps_their_own_schedules(
    world: World, settings: LocalSettings, clock: Clock, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    clock.now = FIRST + 1
    async with restarted(world, settings, clock) as again:
        await at(again, FIRST + 31)
        assert agent.received == []
        await again.beat(alice, runtime_metadata={"capabilities": {"scheduler": True}})
        await at(again, FIRST + 61)
        assert agent.received == []


async def test_a_workspace_that_is_not_heard_of_after_a_start_is_sent_its_prompt_a_little_later(
    world: World, settings: LocalSettings, clock: Clock, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    clock.now = FIRST
    async with restarted(world, settings, clock) as again:
        await at(again, FIRST + settings.stale_after - 1)
        assert agent.received == []
        await at(again, FIRST + settings.stale_after)
        assert agent.texts == ["cook"]


async def test_a_polling_workspace_finds_the_prompt_in_its_inbox_once(world: World) -> None:
    alice = await world.create("alice")
    await world.register(alice)
    schedule_id = await add(world, alice)
    await at(world, FIRST)
    await at(world, FIRST + 30)
    (row,) = await world.activity(alice, type="a2a_receive")
    assert row["request_body"]["params"]["message"]["messageId"] == f"cron-{schedule_id[:8]}-{int(FIRST):08x}"
    assert (await one(world, alice))["last_status"] == "ok"


async def test_empty_answers_are_counted_until_one_is_not(world: World, alice: Member, agent: FakeAgent) -> None:
    texts = iter(["", " \n", "soup", ""])

    async def answer(request: Received) -> bytes:
        del request
        return http_answer(said(next(texts)))

    agent.answer = answer
    await add(world, alice)
    counted: list[int] = []
    for hour in range(4):
        await at(world, FIRST + hour * HOUR)
        counted.append((await one(world, alice))["consecutive_empty_runs"])
    assert counted == [1, 2, 0, 1]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (http_answer({"error": "no pots"}, 500), "no pots"),
        (http_answer({"jsonrpc": "2.0", "id": "1", "error": {"code": -1, "message": "no stove"}}), "no stove"),
    ],
)
async def test_a_run_that_fails_says_why_and_the_next_one_is_due(
    world: World, alice: Member, agent: FakeAgent, reply: bytes, error: str
) -> None:
    async def answer(request: Received) -> bytes:
        del request
        return reply

    agent.answer = answer
    schedule_id = await add(world, alice)
    await at(world, FIRST)
    row = await one(world, alice)
    assert (row["last_status"], row["last_error"], row["run_count"]) == ("error", error, 1)
    assert [(run["status"], run["error_detail"]) for run in await runs(world, alice, schedule_id)] == [("error", error)]
    await at(world, FIRST + HOUR)
    assert (await one(world, alice))["run_count"] == 2


async def test_a_credential_in_an_error_is_not_shown(world: World, alice: Member, agent: FakeAgent) -> None:
    key = "sk-" + "a1B2" * 12

    async def answer(request: Received) -> bytes:
        del request
        return http_answer({"error": f"refused {key}"}, 500)

    agent.answer = answer
    await add(world, alice)
    await at(world, FIRST)
    assert key not in str(await one(world, alice))


async def test_a_run_waits_for_its_answer_for_a_limited_time(
    world: World, alice: Member, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RUN_SECONDS", 0.01)
    finish = asyncio.Event()

    async def answer(request: Received) -> bytes:
        del request
        await finish.wait()
        return http_answer(said("late soup"))

    agent.answer = answer
    await add(world, alice)
    world.clock.now = FIRST
    async with world.platform.bus.subscribe() as stream:
        await world.platform.tick()
        executed = await frame_of(stream, "CRON_EXECUTED")
    assert executed.payload["status"] == "timeout"
    assert (await one(world, alice))["last_status"] == "timeout"
    finish.set()
    await world.settle()
    (received,) = await world.activity(alice, type="a2a_receive")
    assert received["response_body"]["result"]["parts"][0]["text"] == "late soup"


async def test_a_workspace_out_of_budget_gets_no_prompt(world: World, agent: FakeAgent) -> None:
    alice = await world.create("alice", budget_limit=10)
    await world.register(alice, agent)
    await world.beat(alice, monthly_spend=10)
    await add(world, alice)
    await at(world, FIRST)
    row = await one(world, alice)
    assert (agent.received, row["last_status"], row["last_error"]) == ([], "error", "workspace budget limit exceeded")


async def test_a_paused_workspace_is_sent_its_prompt_once_it_is_resumed(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    assert (await world.http.post(f"/workspaces/{alice.id}/pause", headers=world.admin)).status_code == 200
    for hour in range(3):
        await at(world, FIRST + hour * HOUR)
    assert agent.received == []
    await world.register(alice, agent)
    await at(world, FIRST + 2 * HOUR + 60)
    assert agent.texts == ["cook"]


async def test_a_hibernated_workspace_finds_its_prompt_when_it_wakes(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    answer = await world.http.post(f"/workspaces/{alice.id}/hibernate", headers=world.admin)
    assert answer.status_code == 200, answer.text
    await at(world, FIRST)
    assert (agent.received, (await one(world, alice))["last_status"]) == ([], "queued")
    await world.register(alice, agent)
    await world.beat(alice)
    await world.settle()
    assert agent.texts == ["cook"]


async def test_a_removed_workspace_is_sent_nothing(world: World, alice: Member, agent: FakeAgent) -> None:
    await add(world, alice)
    await world.http.delete(f"/workspaces/{alice.id}", headers=world.admin)
    await at(world, FIRST)
    assert agent.received == []


async def test_a_schedule_that_is_switched_off_or_deleted_while_it_waits_is_not_sent(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    off = await add(world, alice, name="off")
    gone = await add(world, alice, name="gone")
    await occupy(world, alice)
    assert await at(world, FIRST) == 2
    path = f"/workspaces/{alice.id}/schedules"
    assert (await world.http.patch(f"{path}/{off}", json={"enabled": False}, headers=alice.auth)).status_code == 200
    assert (await world.http.delete(f"{path}/{gone}", headers=alice.auth)).status_code == 200
    await world.beat(alice, active_tasks=0)
    assert await at(world, FIRST + 30) == 0
    row = await one(world, alice)
    assert (agent.received, row["next_run_at"], row["last_status"]) == ([], None, "")
    await world.http.patch(f"{path}/{off}", json={"enabled": True}, headers=alice.auth)
    await at(world, FIRST + HOUR)
    assert agent.texts == ["cook"]


async def test_a_schedule_deleted_during_its_run_leaves_nothing_behind(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    schedule_id = await add(world, alice)

    async def answer(request: Received) -> bytes:
        del request
        await world.http.delete(f"/workspaces/{alice.id}/schedules/{schedule_id}", headers=alice.auth)
        return http_answer(said("done"))

    agent.answer = answer
    await at(world, FIRST)
    assert await listed(world, alice) == []
    assert await world.activity(alice, type="cron_run") == []


async def test_a_new_prompt_is_the_one_that_is_sent(world: World, alice: Member, agent: FakeAgent) -> None:
    schedule_id = await add(world, alice)
    await occupy(world, alice)
    await at(world, FIRST)
    path = f"/workspaces/{alice.id}/schedules/{schedule_id}"
    await world.http.patch(path, json={"prompt": "bake"}, headers=alice.auth)
    await world.beat(alice, active_tasks=0)
    await at(world, FIRST + 30)
    assert agent.texts == ["bake"]


async def test_a_change_of_time_counts_from_now(world: World, alice: Member) -> None:
    schedule_id = await add(world, alice)
    path = f"/workspaces/{alice.id}/schedules/{schedule_id}"
    before = (await one(world, alice))["next_run_at"]
    await world.http.patch(path, json={"prompt": "bake"}, headers=alice.auth)
    assert (await one(world, alice))["next_run_at"] == before
    await world.http.patch(path, json={"cron_expr": "30 * * * *"}, headers=alice.auth)
    assert (await one(world, alice))["next_run_at"].endswith(":30:00.000000Z")


async def test_a_schedule_whose_time_zone_is_no_longer_known_stops_alone(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice, name="lost", timezone="Europe/Berlin")
    await add(world, alice, name="fine")
    await world.platform.store.write(
        lambda connection: connection.execute("UPDATE schedules SET timezone = 'Atlantis' WHERE name = 'lost'")
    )
    await at(world, FIRST)
    lost, fine = await listed(world, alice)
    assert (lost["last_status"], lost["next_run_at"]) == ("error", None)
    assert "Atlantis" in lost["last_error"]
    assert (fine["last_status"], agent.texts) == ("ok", ["cook"])


async def test_a_workspace_that_claims_to_be_busy_and_is_silent_becomes_free(
    world: World, alice: Member, agent: FakeAgent
) -> None:
    await add(world, alice)
    await world.beat(alice, active_tasks=1, current_task="soup")
    await at(world, START + 600)
    assert await busy(world, alice) == 1
    async with world.platform.bus.subscribe() as stream:
        await at(world, START + 601)
        updated = await frame_of(stream, "TASK_UPDATED")
    assert updated.payload == {"current_task": "soup", "active_tasks": 0}
    assert await busy(world, alice) == 0


async def test_a_busy_workspace_that_still_reports_stays_busy(world: World, alice: Member) -> None:
    await world.beat(alice, active_tasks=1)
    world.clock.now = START + 590
    path = f"/workspaces/{alice.id}/activity"
    await world.http.post(path, json={"activity_type": "agent_log", "summary": "stirring"}, headers=alice.auth)
    await at(world, START + 900)
    assert await busy(world, alice) == 1
    await at(world, START + 1200)
    assert await busy(world, alice) == 0


async def test_an_engine_that_meets_an_error_goes_on(
    settings: LocalSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []
    again = asyncio.Event()

    async def tick(self: scheduler.Scheduler) -> int:
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError("boom")
        again.set()
        return 0

    monkeypatch.setattr(scheduler.Scheduler, "tick", tick)
    every = LocalSettings(data=settings.data, port=0, clock=clock, sweep_interval=3600, schedule_tick=0.01)
    async with serve(every):
        with anyio.fail_after(WAIT_SECONDS):
            await again.wait()
    assert "the look for schedules that are due failed" in caplog.text


async def busy(world: World, member: Member) -> int:
    return int((await world.http.get(f"/workspaces/{member.id}")).json()["active_tasks"])


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # 29 March 2026, 2:00 becomes 3:00: a run at a skipped time takes place right after the gap ...
        ("30 2 * * *", (2026, 3, 28, 12), (2026, 3, 29, 1)),
        ("30 2 * * *", (2026, 3, 29, 1), (2026, 3, 30, 0, 30)),
        # ... and one every ten minutes keeps its rhythm in real time.
        ("*/10 * * * *", (2026, 3, 29, 0, 50), (2026, 3, 29, 1)),
        # 25 October 2026, 3:00 becomes 2:00: a run in the hour that comes twice takes place the first time only ...
        ("30 2 * * *", (2026, 10, 24, 12), (2026, 10, 25, 0, 30)),
        ("30 2 * * *", (2026, 10, 25, 0, 30), (2026, 10, 26, 1, 30)),
        # ... also when it is asked for in the second pass, where its moment lies behind.
        ("45 2 * * *", (2026, 10, 25, 1, 30), (2026, 10, 26, 1, 45)),
        ("*/10 * * * *", (2026, 10, 25, 0, 50), (2026, 10, 25, 1)),
        ("*/10 * * * *", (2026, 10, 25, 1, 50), (2026, 10, 25, 2)),
    ],
)
def test_summer_time_in_berlin(expression: str, after: tuple[int, ...], expected: tuple[int, ...]) -> None:
    moment = int(moment_of(*after)) * 1_000_000
    assert cron.next_after(expression, "Europe/Berlin", moment) == int(moment_of(*expected)) * 1_000_000


@pytest.mark.parametrize(("spring", "hour"), [(True, 1), (False, 0)])
async def test_a_nightly_run_takes_place_once_in_the_nights_when_the_clock_changes(
    world: World, alice: Member, agent: FakeAgent, spring: bool, hour: int
) -> None:
    year, month, day = (2027, 3, 28) if spring else (2027, 10, 31)
    world.clock.now = moment_of(year, month, day - 1, 12)
    await add(world, alice, cron_expr="30 2 * * *", timezone="Europe/Berlin")
    fired: list[float] = []
    for minute in range(0, 14 * 60, 10):
        moment = moment_of(year, month, day - 1, 20) + 60 * minute
        await world.beat(alice)
        await at(world, moment)
        if len(agent.received) > len(fired):
            fired.append(moment)
    assert fired == [moment_of(year, month, day, hour, 0 if spring else 30)]


FIELD = st.one_of(
    st.sampled_from(
        ["*", "*/2", "*/7", "L", "LW", "5L", "MON", "MON-FRI", "SUN#2", "1,15", "0/5", "59", "23", "31", "*/", "-", "٣"]
    ),
    st.integers(-1, 61).map(str),
    st.text(alphabet="0123456789*/-,#LW", max_size=6),
)


@given(
    fields=st.lists(FIELD, min_size=4, max_size=6),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"]),
    moment=st.integers(0, 4_000_000_000_000_000),
)
@example(fields=["*", "*", "*/20", "*", "1L"], zone="Europe/Berlin", moment=0)
def test_whatever_is_written_is_refused_or_lies_ahead(fields: list[str], zone: str, moment: int) -> None:
    try:
        following = cron.next_after(" ".join(fields), zone, moment)
    except cron.CronError:
        return
    assert following is None or following > moment


@pytest.mark.parametrize(
    "zone", ["", "Berlin", "Europe", "../../etc/passwd", "/etc/localtime", "x" * 100, "a\0b", "zone.tab"]
)
def test_a_time_zone_is_an_iana_name(zone: str) -> None:
    with pytest.raises(cron.CronError, match="invalid timezone"):
        cron.next_after("* * * * *", zone, 0)
