"""The event bus."""

from __future__ import annotations

import anyio
import pytest

from molecule_runtime.localplatform import EventBus

from .support import WAIT_SECONDS, Clock, frame_of

pytestmark = pytest.mark.anyio


async def test_every_reader_gets_every_frame_in_order(clock: Clock) -> None:
    bus = EventBus(clock)
    bus.publish("BEFORE", "w", {})
    async with bus.subscribe() as one, bus.subscribe() as two:
        bus.publish("A", "w", {"n": 1})
        bus.publish("B", "v", {"n": 2})
        for stream in (one, two):
            first, second = await anext(stream), await anext(stream)
            assert first.body() == {
                "event": "A",
                "workspace_id": "w",
                "timestamp": "2027-01-15T08:00:00.000000Z",
                "payload": {"n": 1},
            }
            assert second.event == "B"


async def test_a_slow_reader_loses_the_oldest_frames_and_sees_how_many(clock: Clock) -> None:
    bus = EventBus(clock)
    async with bus.subscribe(capacity=3) as slow, bus.subscribe() as quick:
        for number in range(10):
            bus.publish("N", "w", {"n": number})
        assert (slow.dropped, quick.dropped) == (7, 0)
        assert [(await anext(slow)).payload["n"] for _ in range(3)] == [7, 8, 9]


async def test_a_reader_waits_for_the_next_frame_and_ends_with_the_bus(clock: Clock) -> None:
    bus = EventBus(clock)
    seen: list[str] = []

    async def read() -> None:
        async with bus.subscribe() as stream:
            ready.set()
            async for frame in stream:
                seen.append(frame.event)
                if frame.event == "LAST":
                    last.set()

    ready, last = anyio.Event(), anyio.Event()
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await ready.wait()
            bus.publish("LAST", "w", {})
            await last.wait()
            bus.close()
    assert seen == ["LAST"]
    with pytest.raises(AssertionError):
        async with bus.subscribe() as late:
            await frame_of(late, "ANY")


async def test_a_watcher_hears_of_its_workspace_only_and_only_while_it_watches(clock: Clock) -> None:
    bus = EventBus(clock)
    calls: list[int] = []
    with bus.watch("w", lambda: calls.append(1)):
        bus.publish("A", "w", {})
        bus.publish("A", "v", {})
    bus.publish("A", "w", {})
    assert calls == [1]
