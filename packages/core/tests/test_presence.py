"""One workspace kept registered and alive, against a real HTTP server."""

import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

from molecule_runtime.core import presence as presence_module
from molecule_runtime.core.errors import (
    CredentialRejectedError,
    PlatformError,
    PlatformUnreachableError,
    RateLimitedError,
    UnavailableError,
)
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.presence import LOUD_AFTER, Phase, Presence, TargetState, Vitals, agent_card

from .support import DEADLINE, TOKEN, Answer, Request, Rotating, ScriptedPlatform, client_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("hasty")]

REGISTER, BEAT, ROW = "/registry/register", "/registry/heartbeat", "/workspaces/ws-1"
CARD = agent_card("one", description="the first", skills=[{"name": "sum"}])
OK = Answer(body={"status": "ok"})
REGISTERED = Answer(body={"status": "registered"})
REFUSED = Answer(status=401, body={"error": "invalid workspace auth token"})
BROKEN = Answer(status=500, body={"error": "store failure"})


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_module, "REGISTER_BACKOFF", (0.001, 0.002))


class Running:
    """A presence at work, and what it told its owner."""

    def __init__(self, presence: Presence) -> None:
        self.presence = presence
        self.states: list[TargetState] = []
        self.saved: list[str] = []
        self.secrets: list[str] = []
        self.ended = anyio.Event()
        self._changed = anyio.Event()

    @property
    def phases(self) -> list[Phase]:
        return [state.phase for state in self.states]

    def entered(self, state: TargetState) -> None:
        self.states.append(state)
        self._tell()

    def answered(self, secret: str) -> None:
        self.secrets.append(secret)
        self._tell()

    async def until_phase(self, phase: Phase) -> TargetState:
        with anyio.fail_after(DEADLINE):
            while phase not in self.phases:
                await self._changed.wait()
        return next(state for state in self.states if state.phase is phase)

    async def until_answers(self, count: int) -> None:
        """Wait until so many beats whose answer carries a secret were answered and read."""
        with anyio.fail_after(DEADLINE):
            while len(self.secrets) < count:
                await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def running(
    platform: ScriptedPlatform, pools: ConnectionPools, *, token: Any = TOKEN, interval: float = 0.001, **more: Any
) -> AsyncGenerator[Running]:
    async with client_of(platform, pools, token=token) as client:
        presence = Presence(
            client=client,
            vitals=more.pop("vitals", None) or Vitals(),
            registration=lambda: wire.RegisterRequest(id="ws-1", agent_card=CARD, url="", delivery_mode="poll"),
            interval=interval,
            **more,
        )
        found = Running(presence)
        if "on_state" not in more:
            presence.on_state = found.entered
        if "on_registered" not in more:
            presence.on_registered = lambda response: found.saved.append(response.auth_token or "")
        presence.on_inbound_secret = found.answered

        async def run() -> None:
            await presence.run()
            found.ended.set()

        with anyio.fail_after(2 * DEADLINE):
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                yield found
                group.cancel_scope.cancel()


async def test_a_workspace_registers_then_beats(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, OK)
    async with running(platform, pools) as found:
        await platform.until_requests("POST", BEAT, 3)
    assert [request.path for request in platform.requests[:4]] == [REGISTER, BEAT, BEAT, BEAT]
    assert platform.requests[0].json == {"id": "ws-1", "agent_card": CARD, "url": "", "delivery_mode": "poll"}
    assert found.phases == [Phase.ONLINE]
    assert found.states[0].since > 0


async def test_every_beat_carries_what_describes_the_workspace(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, OK)
    metadata = wire.RuntimeMetadata(capabilities={"session": True}, idle_timeout_seconds=600)
    vitals = Vitals()
    handle = vitals.task_started("sum the column")
    async with running(platform, pools, metadata=lambda: metadata, vitals=vitals):
        await platform.until_requests("POST", BEAT, 2)
        vitals.task_finished(handle, error="no such column")
        before = len(platform.to("POST", BEAT))
        await platform.until_requests("POST", BEAT, before + 2)
    beats = [request.json for request in platform.to("POST", BEAT)]
    for beat in beats:
        assert beat["workspace_id"] == "ws-1"
        assert beat["agent_card"] == CARD
        assert beat["runtime_metadata"] == {"capabilities": {"session": True}, "idle_timeout_seconds": 600}
        assert beat["runtime_state"] == ""
        assert beat["uptime_seconds"] >= 0
        assert "monthly_spend" not in beat
    assert (beats[0]["active_tasks"], beats[0]["is_busy"], beats[0]["current_task"]) == (1, True, "sum the column")
    assert (beats[-1]["active_tasks"], beats[-1]["is_busy"], beats[-1]["current_task"]) == (0, False, "")
    assert (beats[-1]["error_rate"], beats[-1]["sample_error"]) == (1.0, "no such column")


async def test_without_metadata_there_is_no_such_key(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, OK)
    async with running(platform, pools):
        [beat, *_] = await platform.until_requests("POST", BEAT)
    assert "runtime_metadata" not in beat.json


async def test_the_token_is_saved_before_the_workspace_is_online(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    order: list[str] = []
    source = Rotating("")

    def save(response: wire.RegisterResponse) -> None:
        order.append("saved")
        source.value = response.auth_token or ""

    def enter(state: TargetState) -> None:
        order.append(state.phase)

    body = {"status": "registered", "auth_token": TOKEN, "platform_inbound_secret": "inbound-secret"}
    platform.on("POST", REGISTER, Answer(body=body))
    platform.on("POST", BEAT, Answer(body={"status": "ok", "platform_inbound_secret": "inbound-secret-2"}))
    async with running(platform, pools, token=source, on_registered=save, on_state=enter) as found:
        await platform.until_requests("POST", BEAT, 2)
    assert order == ["saved", Phase.ONLINE]
    assert "authorization" not in platform.to("POST", REGISTER)[0].headers
    assert platform.to("POST", BEAT)[0].bearer == TOKEN
    assert found.secrets[:2] == ["inbound-secret", "inbound-secret-2"]


async def test_a_platform_that_is_down_is_asked_again_until_it_answers(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on(
        "POST", REGISTER, BROKEN, Answer(raw=b""), Answer(body=b"<html>"), Answer(status=429, body={}), REGISTERED
    )
    platform.on("POST", BEAT, OK)
    async with running(platform, pools) as found:
        await found.until_phase(Phase.ONLINE)
    assert len(platform.to("POST", REGISTER)) == 5
    assert set(found.phases[:-1]) == {Phase.RETRYING}
    assert "store failure" in found.states[0].detail


async def test_failed_beats_are_repeated_and_the_workspace_recovers(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, OK, BROKEN, BROKEN, BROKEN, OK)
    async with running(platform, pools) as found:
        await found.until_phase(Phase.RETRYING)
        await platform.until_requests("POST", BEAT, 6)
    assert found.phases == [Phase.ONLINE, Phase.RETRYING, Phase.ONLINE]
    assert len(platform.to("POST", REGISTER)) == 1


async def test_a_refusal_that_time_may_mend_is_a_state_of_its_own(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", REGISTER, Answer(status=403, body={"error": "not yours"}), REGISTERED)
    platform.on("POST", BEAT, Answer(status=404, body=b""), OK)
    async with running(platform, pools) as found:
        await platform.until_requests("POST", BEAT, 3)
    assert found.phases == [Phase.REFUSED, Phase.ONLINE, Phase.REFUSED, Phase.ONLINE]


async def test_a_lost_credential_is_said_once_loudly_and_never_ends_the_beats(
    platform: ScriptedPlatform, pools: ConnectionPools, caplog: pytest.LogCaptureFixture
) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, REFUSED)
    platform.on("GET", ROW, Answer(body={"id": "ws-1", "status": "online"}))
    with caplog.at_level(logging.WARNING):
        async with running(platform, pools) as found:
            await platform.until_requests("POST", BEAT, LOUD_AFTER + 3)
            await platform.until_requests("GET", ROW, LOUD_AFTER + 2)
    assert found.phases == [Phase.ONLINE, Phase.CREDENTIAL_LOST]
    levels = [record.levelno for record in caplog.records if record.name == presence_module.__name__]
    assert levels == [logging.WARNING] * (LOUD_AFTER - 1) + [logging.ERROR]
    assert "Connect dialog" in caplog.text
    assert "given as a value" in caplog.text
    assert TOKEN not in caplog.text


async def test_a_new_token_brings_the_workspace_back_and_it_registers_anew(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    source = Rotating("revoked-token-of-ws-1")

    def check(request: Request) -> Answer:
        return OK if request.bearer == TOKEN else REFUSED

    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, check)
    async with running(platform, pools, token=source) as found:
        await found.until_phase(Phase.CREDENTIAL_LOST)
        source.value = TOKEN
        await platform.until_requests("POST", REGISTER, 2)
        await platform.until(lambda: platform.requests[-1].path == BEAT)
    assert found.phases == [Phase.ONLINE, Phase.CREDENTIAL_LOST, Phase.ONLINE]
    assert platform.to("POST", REGISTER)[1].bearer == TOKEN


async def test_a_long_silence_makes_the_workspace_register_anew(
    platform: ScriptedPlatform, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "REREGISTER_AFTER_SILENCE", 0.0)
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, BROKEN, OK)
    async with running(platform, pools):
        await platform.until_requests("POST", REGISTER, 2)
    assert [request.path for request in platform.requests[:4]] == [REGISTER, BEAT, BEAT, REGISTER]


GONE = Answer(status=410, body={"error": "workspace removed"})
REMOVALS: dict[str, list[tuple[str, str, Answer]]] = {
    "beat gone": [("POST", BEAT, GONE)],
    "register gone": [("POST", REGISTER, GONE)],
    "refused and row removed": [
        ("POST", BEAT, REFUSED),
        ("GET", ROW, Answer(body={"id": "ws-1", "status": "removed"})),
    ],
    "refused and row gone": [("POST", REGISTER, REFUSED), ("GET", ROW, GONE)],
}


@pytest.mark.parametrize("removal", REMOVALS)
async def test_a_removed_workspace_ends_the_run(
    removal: str, platform: ScriptedPlatform, pools: ConnectionPools, caplog: pytest.LogCaptureFixture
) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, OK)
    for method, path, answer in REMOVALS[removal]:
        platform.on(method, path, answer)
    async with running(platform, pools) as found:
        with anyio.fail_after(DEADLINE):
            await found.ended.wait()
    assert found.phases[-1] is Phase.REMOVED
    assert "removed" in caplog.text


async def test_a_removed_workspace_whose_beats_are_answered_is_noticed_by_its_row(
    platform: ScriptedPlatform, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "REMOVAL_CHECK_INTERVAL", 0.0)
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, OK)
    platform.on(
        "GET", ROW, Answer(status=404, body=b""), BROKEN, Answer(body={"id": "ws-1", "status": "online"}),
        Answer(body={"id": "ws-1", "status": "removed"}),
    )  # fmt: skip
    async with running(platform, pools) as found:
        with anyio.fail_after(DEADLINE):
            await found.ended.wait()
    assert found.phases == [Phase.ONLINE, Phase.REMOVED]
    assert len(platform.to("GET", ROW)) == 4


async def test_an_early_beat_can_be_asked_for_from_any_thread(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, Answer(body={"status": "ok", "platform_inbound_secret": "answered"}))
    begun: list[str] = []
    async with running(platform, pools, interval=3600.0, metadata=lambda: begun.append("beat")) as found:
        await found.until_phase(Phase.ONLINE)
        for count in (1, 2):
            await anyio.wait_all_tasks_blocked()
            assert len(begun) == count - 1
            thread = threading.Thread(target=found.presence.beat_soon)
            thread.start()
            await platform.until_requests("POST", BEAT, count)
            await anyio.to_thread.run_sync(thread.join)
            await found.until_answers(count)
        # The answer was read, the next pause has begun, and nobody asked again.
        await anyio.wait_all_tasks_blocked()
        assert len(begun) == 2


async def test_several_requests_for_an_early_beat_make_one(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("POST", REGISTER, REGISTERED)
    gate = threading.Event()
    platform.on("POST", BEAT, Answer(body={"status": "ok"}, gate=gate), OK)
    async with running(platform, pools, interval=3600.0) as found:
        await found.until_phase(Phase.ONLINE)
        found.presence.beat_soon()
        await platform.until_requests("POST", BEAT)
        # While the first beat is under way: these make one more, since what they report came too late for it.
        for _ in range(10):
            found.presence.beat_soon()
        gate.set()
        await platform.until_requests("POST", BEAT, 2)
    assert len(platform.to("POST", BEAT)) == 2


async def test_asking_for_beats_does_not_hurry_a_platform_that_fails(
    platform: ScriptedPlatform, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "REGISTER_BACKOFF", (3600.0,))
    platform.on("POST", REGISTER, REGISTERED)
    platform.on("POST", BEAT, Answer(status=500, body={"error": "no"}))
    async with running(platform, pools, interval=3600.0) as found:
        await found.until_phase(Phase.ONLINE)
        found.presence.beat_soon()
        await found.until_phase(Phase.RETRYING)
        for _ in range(20):
            found.presence.beat_soon()
            await anyio.wait_all_tasks_blocked()
    assert len(platform.to("POST", BEAT)) == 1


async def test_asking_for_a_beat_before_or_after_the_run_does_nothing(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", REGISTER, Answer(status=410, body={"error": "gone"}))
    async with running(platform, pools) as found:
        await found.ended.wait()
        found.presence.beat_soon()
    async with client_of(platform, pools) as client:
        Presence(
            client=client, vitals=Vitals(), registration=lambda: wire.RegisterRequest(id="x", agent_card={})
        ).beat_soon()


def test_a_beat_asked_for_after_the_loop_has_closed_does_nothing(platform: ScriptedPlatform) -> None:
    platform.on("POST", REGISTER, Answer(status=410, body={"error": "gone"}))
    kept: list[Presence] = []

    async def serve() -> None:
        async with ConnectionPools() as pools, running(platform, pools) as found:
            await found.ended.wait()
            kept.append(found.presence)

    anyio.run(serve)
    kept[0].beat_soon()


# How long it waits: by asking, since a test that measures time fails on a busy machine.


@pytest.mark.parametrize(
    ("error", "more", "failures", "at_most", "expected"),
    [
        (PlatformUnreachableError, {}, 0, 20.0, 1.0),
        (PlatformUnreachableError, {}, 2, 20.0, 4.0),
        (PlatformUnreachableError, {}, 99, 20.0, 20.0),
        (PlatformUnreachableError, {}, 99, 30.0, 30.0),
        (CredentialRejectedError, {}, 0, 20.0, 20.0),
        (RateLimitedError, {"retry_after": 45.0}, 0, 20.0, 45.0),
        (RateLimitedError, {"retry_after": 0.5}, 0, 20.0, 1.0),
        (RateLimitedError, {}, 1, 20.0, 2.0),
        (UnavailableError, {"retry_after": 86_000.0}, 0, 20.0, 60.0),
    ],
    ids=[str(index) for index in range(9)],
)
async def test_it_backs_off_and_heeds_what_the_platform_asks_for(
    error: type[PlatformError],
    more: dict[str, Any],
    failures: int,
    at_most: float,
    expected: float,
    platform: ScriptedPlatform,
    pools: ConnectionPools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence_module, "REGISTER_BACKOFF", (1.0, 2.0, 4.0, 8.0, 16.0, 30.0))
    async with client_of(platform, pools) as client:
        presence = Presence(
            client=client,
            vitals=Vitals(),
            registration=lambda: wire.RegisterRequest(id="x", agent_card={}),
            interval=20.0,
        )
        exc = error("x", workspace_id="ws-1", request="POST /x", **more)
        pause: Callable[..., float] = presence._pause_after  # pyright: ignore[reportPrivateUsage]
        assert pause(exc, failures, at_most=at_most) == expected


# Vitals


def test_vitals_count_tasks_and_forget_the_finished() -> None:
    vitals = Vitals()
    first, second = vitals.task_started("first"), vitals.task_started("second")
    assert vitals.active_tasks == 2
    assert vitals.heartbeat("ws-1").current_task == "second"
    vitals.task_finished(second)
    assert vitals.heartbeat("ws-1").current_task == "first"
    for _ in range(3):
        vitals.task_finished(first)
    beat = vitals.heartbeat("ws-1")
    assert (beat.active_tasks, beat.is_busy, beat.current_task, beat.error_rate) == (0, False, "", 0.0)


def test_a_notice_stands_beside_the_error_of_a_turn_and_hides_neither() -> None:
    vitals = Vitals()
    vitals.notice("a restart is needed")
    assert vitals.heartbeat("w").sample_error == "a restart is needed"
    vitals.task_finished(vitals.task_started("x"), error="boom")
    assert vitals.heartbeat("w").sample_error == "a restart is needed; boom"
    vitals.notice("")
    assert vitals.heartbeat("w").sample_error == "boom"


def test_the_error_rate_is_a_rolling_figure() -> None:
    vitals = Vitals()
    vitals.task_finished(vitals.task_started("fails"), error="once")
    assert vitals.heartbeat("ws-1").error_rate == 1.0
    for _ in range(10):
        for _ in range(60):
            vitals.task_finished(vitals.task_started("works"))
        vitals.heartbeat("ws-1")
    assert vitals.heartbeat("ws-1").error_rate == 0.0


def test_the_first_reason_for_a_wedge_stays_until_it_is_taken_back() -> None:
    vitals = Vitals()
    vitals.wedge("no credentials")
    vitals.wedge("something later")
    beat = vitals.heartbeat("ws-1")
    assert (beat.runtime_state, beat.sample_error) == ("wedged", "no credentials")
    vitals.unwedge()
    assert vitals.heartbeat("ws-1").runtime_state == ""


@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, "half \ud83d of a pair", "\x00", ""], ids=["long", "surrogate", "nul", "empty"]
)
def test_no_text_of_a_task_can_end_the_beats(text: str) -> None:
    vitals = Vitals()
    vitals.task_finished(vitals.task_started(text), error=text)
    vitals.task_started(text)
    vitals.wedge(text)
    body = vitals.heartbeat("ws-1").body()
    assert len(body["current_task"]) <= 256
    assert len(body["sample_error"]) <= 256
    assert str(body).encode()


def test_vitals_may_be_updated_from_many_threads_at_once() -> None:
    vitals = Vitals()
    together = threading.Barrier(8, timeout=DEADLINE)

    def work() -> None:
        together.wait()
        for _ in range(500):
            handle = vitals.task_started("task")
            vitals.heartbeat("ws-1")
            vitals.task_finished(handle)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert vitals.active_tasks == 0


def test_a_card_has_only_keys_with_a_value() -> None:
    assert agent_card("one") == {"name": "one", "skills": []}
    assert agent_card("one", description="d", version="1", url="u", skills=[{"name": "s"}]) == {
        "name": "one", "description": "d", "version": "1", "url": "u", "skills": [{"name": "s"}],
    }  # fmt: skip
