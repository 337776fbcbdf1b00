"""The presence thread: what it saves, and that it outlives what goes wrong around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from molecule_runtime.a2a.presence_thread import PresenceThread
from molecule_runtime.a2a.settings import load_settings
from molecule_runtime.core.platform import wire
from molecule_runtime.core.presence import Phase, Vitals

from .support import FakePlatform, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


class MistakeError(Exception):
    """A mistake in the code around the presence."""


def thread(platform: FakePlatform, state: Path, registration: Callable[[], wire.RegisterRequest]) -> PresenceThread:
    settings = load_settings({"WORKSPACE_ID": "ws-1", "CONFIGS_DIR": str(state), "PLATFORM_URL": platform.url})
    return PresenceThread(
        target=settings.target,
        configs_dir=settings.configs_dir,
        vitals=Vitals(),
        registration=registration,
        metadata=lambda: None,
        interval=0.02,
    )


async def test_it_beats_until_it_is_stopped_and_writes_each_secret_once(platform: FakePlatform, tmp_path: Path) -> None:
    # The platform fetches a card during registration; its own is as good as any here.
    presence = thread(
        platform,
        tmp_path,
        lambda: wire.RegisterRequest(id="ws-1", url=f"{platform.url}/card", agent_card={"name": "x"}),
    )
    presence.start()
    await eventually(lambda: len(platform.beats) >= 3, "three beats")
    assert presence.state.phase is Phase.ONLINE
    secret = tmp_path / ".platform_inbound_secret"
    written = secret.stat().st_ino
    assert secret.read_text() == platform.secret
    await anyio.to_thread.run_sync(presence.stop)
    count = len(platform.beats)
    presence.beat_soon()
    assert len(platform.beats) == count
    assert secret.stat().st_ino == written


async def test_a_mistake_around_it_is_logged_and_tried_again(
    platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("molecule_runtime.a2a.presence_thread._RESTART_PAUSE", 0.01)
    calls: list[None] = []

    def registration() -> wire.RegisterRequest:
        calls.append(None)
        if len(calls) == 1:
            raise MistakeError
        return wire.RegisterRequest(id="ws-1", url=f"{platform.url}/card", agent_card={"name": "x"})

    presence = thread(platform, tmp_path, registration)
    presence.start()
    await eventually(lambda: platform.beats, "a beat")
    assert "presence failed" in caplog.text
    await anyio.to_thread.run_sync(presence.stop)


async def test_a_token_that_cannot_be_saved_is_said_loudly(
    platform: FakePlatform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".auth_token").mkdir()
    (tmp_path / ".platform_inbound_secret").mkdir()
    presence = thread(
        platform,
        tmp_path,
        lambda: wire.RegisterRequest(id="ws-1", url=f"{platform.url}/card", agent_card={"name": "x"}),
    )
    presence.start()
    await eventually(lambda: "it will not issue it again" in caplog.text, "the error in the log")
    await eventually(lambda: "cannot save the platform's inbound secret" in caplog.text, "the other error")
    assert platform.token not in caplog.text
    await anyio.to_thread.run_sync(presence.stop)
