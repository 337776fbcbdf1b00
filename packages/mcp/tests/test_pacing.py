"""When each inbox is polled."""

from __future__ import annotations

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS

from molecule_runtime.mcp import pacing
from molecule_runtime.mcp.pacing import Pace, Pacing
from molecule_runtime.mcp.store import Mailbox

pytestmark = pytest.mark.anyio

ALICE, BOB = (Mailbox("https://acme.example", name) for name in ("alice", "bob"))
ELSEWHERE = Mailbox("https://globex.example", "alice")


@pytest.fixture(autouse=True)
def never_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_INTERVAL", "BUSY_INTERVAL", "HINTED_INTERVAL"):
        monkeypatch.setattr(pacing, name, 3600.0)


class Pausing:
    """What pauses between two polls."""

    def __init__(self) -> None:
        self.group = anyio.create_task_group()
        self.done: dict[Pace, anyio.Event] = {}

    async def begin(self, *paces: Pace) -> None:
        for pace in paces:
            async with pace.poll():
                pass
            self.done[pace] = anyio.Event()
            self.group.start_soon(self._pause, pace)
        await anyio.wait_all_tasks_blocked()

    async def _pause(self, pace: Pace) -> None:
        await pace.pause()
        self.done[pace].set()

    async def ends(self, pace: Pace) -> None:
        with anyio.fail_after(WAIT_SECONDS):
            await self.done[pace].wait()

    def goes_on(self, pace: Pace) -> bool:
        return not self.done[pace].is_set()


async def test_a_hint_makes_the_poll_of_its_own_mailbox_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "HINT_GAP", 0.0)
    paces = Pacing()
    alice, bob = paces.of(ALICE), paces.of(BOB)
    pausing = Pausing()
    async with pausing.group:
        await pausing.begin(alice, bob)
        alice.hint()
        await pausing.ends(alice)
        await anyio.wait_all_tasks_blocked()
        assert pausing.goes_on(bob)
        pausing.group.cancel_scope.cancel()


async def test_a_hint_that_comes_during_a_poll_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "HINT_GAP", 0.0)
    pace = Pacing().of(ALICE)
    with anyio.fail_after(WAIT_SECONDS):
        async with pace.poll():
            pace.hint()
        await pace.pause()


async def test_who_waits_for_one_mailbox_hurries_its_polls_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "BUSY_INTERVAL", 0.0)
    paces = Pacing()
    alice, bob = paces.of(ALICE), paces.of(BOB)
    pausing = Pausing()
    async with pausing.group:
        await pausing.begin(alice, bob)
        with paces.waiting([ALICE]):
            await pausing.ends(alice)
            await anyio.wait_all_tasks_blocked()
            assert pausing.goes_on(bob)
        pausing.group.cancel_scope.cancel()


async def test_who_waits_hurries_nothing_where_events_arrive_until_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "BUSY_INTERVAL", 0.0)
    paces = Pacing()
    alice = paces.of(ALICE)
    alice.prove()
    assert alice.is_hinted
    pausing = Pausing()
    async with pausing.group:
        await pausing.begin(alice)
        with paces.waiting([ALICE]):
            await anyio.wait_all_tasks_blocked()
            assert pausing.goes_on(alice)
            alice.doubt()
            assert not alice.is_hinted
            await pausing.ends(alice)
        pausing.group.cancel_scope.cancel()


async def test_the_targets_of_one_platform_share_what_the_clock_may_ask_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "IDLE_INTERVAL", 0.0)
    monkeypatch.setattr(pacing, "MAX_POLLS_PER_SECOND", 2 / 3600)
    paces = Pacing()
    alice, bob, elsewhere = paces.of(ALICE), paces.of(BOB), paces.of(ELSEWHERE)
    paces.forget(ELSEWHERE)
    # Each of the two once an hour; what is another platform's, or nobody's, is not held back by that.
    pausing = Pausing()
    async with pausing.group:
        await pausing.begin(alice, bob, elsewhere)
        assert pausing.goes_on(alice)
        assert pausing.goes_on(bob)
        await pausing.ends(elsewhere)
        pausing.group.cancel_scope.cancel()


async def test_of_one_platform_only_some_polls_go_at_once_and_another_is_not_held_back() -> None:
    paces = Pacing()
    boxes = [Mailbox("https://acme.example", f"ws-{number}") for number in range(pacing.MAX_POLLS_AT_ONCE + 1)]
    begun: list[Mailbox] = []
    release = anyio.Event()

    async def poll(mailbox: Mailbox) -> None:
        async with paces.of(mailbox).poll():
            begun.append(mailbox)
            await release.wait()

    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            for mailbox in (*boxes, ELSEWHERE):
                group.start_soon(poll, mailbox)
            await anyio.wait_all_tasks_blocked()
            assert begun == [*boxes[:-1], ELSEWHERE]
            release.set()
    assert len(begun) == len(boxes) + 1
