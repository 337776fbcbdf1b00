"""What a workspace says to its own agent: the first prompt, once, and those of an agent with nothing to do."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.a2a import idle, initial_prompt
from molecule_runtime.a2a.initial_prompt import Marker
from molecule_runtime.a2a.server import bind

from .gated import GATED, call, ends, runs, said, send
from .support import ask, eventually, process, ready, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .support import FakePlatform, Workspace

pytestmark = pytest.mark.anyio

FIRST = "initial_prompt: Say who you are.\n"
IDLE = "idle_prompt: Look around.\nidle_interval_seconds: 1\n"


def proxied(platform: FakePlatform, workspace: Workspace) -> None:
    """Have the platform post what is sent to this workspace, as it does in push mode."""
    platform.peers.append({"id": "ws-1", "proxy_to": workspace.url})


def done(workspace: Workspace) -> Path:
    return workspace.state / initial_prompt.DONE_NAME


async def test_the_first_prompt_goes_through_the_platform_once_marked_as_the_agents_own(
    make_workspace: Callable[..., Workspace], platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED, FIRST)
    proxied(platform, workspace)
    for _ in range(2):
        async with serving(workspace):
            await ready(workspace)
            await eventually(done(workspace).exists, "the prompt was accepted")
            await eventually(lambda: runs(workspace), "the turn")
            await ask(workspace, "fence")
    assert runs(workspace) == ["Say who you are.", "fence", "fence"]
    assert done(workspace).read_text() == "attempted"
    assert not (workspace.state / initial_prompt.ATTEMPTS_NAME).exists()
    [(target, body)] = platform.messages
    assert target == "ws-1"
    assert body["params"]["message"]["metadata"] == {
        "source_type": "initial_prompt",
        "source_workspace_id": "ws-1",
    }


@pytest.mark.parametrize(("mode", "auth"), [("poll", ""), ("push", "1")])
async def test_where_the_platform_cannot_bring_it_the_first_prompt_goes_straight_to_the_agent(
    make_workspace: Callable[..., Workspace], platform: FakePlatform, mode: str, auth: str
) -> None:
    workspace = make_workspace(GATED, FIRST)
    proxied(platform, workspace)
    async with serving(workspace, MOLECULE_DELIVERY_MODE=mode, MOLECULE_A2A_REQUIRE_AUTH=auth):
        await eventually(done(workspace).exists, "the prompt was accepted")
        await eventually(lambda: runs(workspace), "the turn")
    assert runs(workspace) == ["Say who you are."]
    assert len(platform.messages) == (0 if mode == "poll" else 1)


async def test_a_prompt_that_its_predecessor_marked_is_done(
    make_workspace: Callable[..., Workspace], platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED, FIRST)
    proxied(platform, workspace)
    (workspace.root / "configs" / initial_prompt.DONE_NAME).write_text("attempted")
    async with serving(workspace):
        await ready(workspace)
        await ask(workspace, "fence")
    assert runs(workspace) == ["fence"]
    assert not platform.messages


async def test_a_host_that_is_killed_before_the_agent_got_the_prompt_sends_it_again_and_later_does_not(
    make_workspace: Callable[..., Workspace], platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED, "initial_prompt: wait gate\n")
    with bind("127.0.0.1", 0) as deaf:
        # The proxy takes the message and hears nothing from there: it was sent, and not delivered.
        deaf.listen()
        platform.peers.append({"id": "ws-1", "proxy_to": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
        async with process(workspace) as host:
            await eventually(lambda: platform.messages, "the prompt is on its way")
            host.popen.kill()
            await host.exit_code()
    assert not done(workspace).exists()
    [(_, first)] = platform.messages
    platform.peers[-1]["proxy_to"] = workspace.url
    async with process(workspace) as host:
        await eventually(lambda: runs(workspace), "the turn")
        assert done(workspace).exists()
        host.popen.send_signal(signal.SIGKILL)
        await host.exit_code()
    ids = {body["params"]["message"]["messageId"] for _, body in platform.messages}
    assert ids == {first["params"]["message"]["messageId"]}
    async with serving(workspace):
        await ready(workspace)
        await ask(workspace, "fence")
    assert runs(workspace) == ["wait gate", "fence"]


def test_attempts_end_and_each_has_the_same_id_whatever_happens_to_the_process(tmp_path: Path) -> None:
    attempts = [Marker([tmp_path / "missing", tmp_path]).begin() for _ in range(initial_prompt.MAX_ATTEMPTS + 1)]
    assert attempts[-1] is None
    made = [attempt for attempt in attempts if attempt is not None]
    assert [attempt.number for attempt in made] == [1, 2, 3, 4, 5]
    assert len({attempt.message_id for attempt in made}) == 1
    (tmp_path / initial_prompt.ATTEMPTS_NAME).write_text("{")
    Marker([tmp_path]).accepted()
    assert Marker([tmp_path / "missing", tmp_path]).done()
    with pytest.raises(OSError, match="can be written"):
        Marker([tmp_path / "missing"]).begin()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(_: float) -> float:
        return 0.05

    monkeypatch.setattr(idle, "pause_of", at_once)


def test_an_interval_has_a_minimum() -> None:
    assert [idle.pause_of(interval) for interval in (1, 600)] == [idle.MIN_INTERVAL, 600]


@pytest.mark.usefixtures("fast")
async def test_an_idle_agent_is_prompted_again_and_again_and_never_while_it_is_at_work(
    make_workspace: Callable[..., Workspace], platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED, IDLE)
    proxied(platform, workspace)
    async with serving(workspace):
        await ready(workspace)
        await eventually(lambda: runs(workspace).count("Look around.") >= 3, "three prompts")
        result = await send(workspace, said("wait gate"), blocking=False)
        waiting, opened = platform.gate("gate")
        await waiting.wait()
        # One may have begun just before.
        known = len(platform.messages)
        await call(workspace, "tasks/get", id=result["id"])
        await eventually(lambda: len([beat for beat in platform.beats if beat["active_tasks"]]) >= 1, "a busy beat")
        assert len(platform.messages) <= known + 1
        opened.set()
        known = len(platform.messages)
        await eventually(lambda: len(platform.messages) > known + 1, "more prompts")
    sent = [body["params"]["message"] for _, body in platform.messages]
    assert {message["parts"][0]["text"] for message in sent} == {"Look around."}
    assert len({message["messageId"] for message in sent}) == len(sent)


@pytest.mark.usefixtures("fast")
async def test_an_idle_prompt_gives_way_to_a_message_where_messages_interrupt(
    make_workspace: Callable[..., Workspace], platform: FakePlatform
) -> None:
    config = "idle_prompt: wait for-ever\nidle_interval_seconds: 1\n"
    workspace = make_workspace(GATED, config)
    path = workspace.root / "configs" / "config.yaml"
    path.write_text(path.read_text().replace("a2a:\n", "a2a:\n  turns:\n    busy: interrupt\n"))
    proxied(platform, workspace)
    async with serving(workspace):
        await ready(workspace)
        waiting, opened = platform.gate("for-ever")
        await waiting.wait()
        result = await send(workspace, said("wait gate"), blocking=False)
        await eventually(lambda: ends(workspace) == ["CancelledError"], "the idle prompt gave way")
        platform.gate("gate")[1].set()
        assert result["kind"] == "task"
        opened.set()


@pytest.mark.usefixtures("fast")
async def test_prompts_that_fail_one_after_the_other_end(
    make_workspace: Callable[..., Workspace], platform: FakePlatform, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = make_workspace(GATED, "idle_prompt: fail now\nidle_interval_seconds: 1\n")
    proxied(platform, workspace)
    async with serving(workspace):
        await eventually(lambda: "times in a row" in caplog.text, "the break")
        # Twenty intervals' worth of requests in which none may come.
        for _ in range(20):
            await ask(workspace, "fence")
    assert runs(workspace).count("fail now") == idle.BREAK_AFTER


def test_the_attempts_file_holds_nothing_but_the_count_and_the_id(tmp_path: Path) -> None:
    Marker([tmp_path]).begin()
    read: dict[str, Any] = json.loads((tmp_path / initial_prompt.ATTEMPTS_NAME).read_text())
    assert set(read) == {"attempts", "message_id"}
