"""The desktop: everything goes to the platform's gateway, as the workspace that acts."""

from __future__ import annotations

import dataclasses
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.tenants import Http, Member, Tenant

from molecule_runtime.tools import dispatch, display, screenshots

from .support import context, done, refused, run

if TYPE_CHECKING:
    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice-0001")
BUSY = (409, {"error": "a human holds control"})


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", width, height) + b"rest"


def content_and_mode(path: str) -> tuple[bytes, int]:
    return Path(path).read_bytes(), stat.S_IMODE(Path(path).stat().st_mode)


def within(ctx: ToolContext, folder: Path) -> ToolContext:
    return dataclasses.replace(ctx, files_root=folder)


@pytest.mark.parametrize(
    ("tool", "arguments", "event"),
    [
        ("desktop_click", {"x": 3, "y": 4}, {"type": "click", "x": 3, "y": 4, "button": "left"}),
        ("desktop_click", {"x": 3, "y": 4, "button": 3}, {"type": "click", "x": 3, "y": 4, "button": "right"}),
        ("desktop_type", {"text": " a"}, {"type": "type", "text": " a"}),
        ("desktop_type", {"text": "a", "delay_ms": 20}, {"type": "type", "text": "a", "delay_ms": 20}),
        ("desktop_key", {"keys": "ctrl+t"}, {"type": "key", "keys": "ctrl+t"}),
        ("desktop_open_url", {"url": "https://x/y"}, {"type": "navigate", "url": "https://x/y"}),
    ],
)
async def test_what_is_done_goes_to_the_gateway_and_a_person_in_control_stops_it(
    scripted: Http, pools: ConnectionPools, tool: str, arguments: dict[str, Any], event: dict[str, Any]
) -> None:
    scripted.says((200, {"ok": True}), BUSY)
    ctx = context(pools, (scripted.url, ALICE), (scripted.url, Member("bob", "token-of-bob-000001")))
    assert (await done(ctx, tool, **arguments, source_workspace_id="alice")).structured == {"ok": True}
    [request] = scripted.received
    assert (request.method, request.path, request.body) == ("POST", "/workspaces/alice/desktop/input", event)
    assert request.headers["x-workspace-id"] == "alice"
    assert request.headers["authorization"] == f"Bearer {ALICE.token}"
    stopped = await run(ctx, tool, **arguments, source_workspace_id="alice")
    assert (stopped.is_error, stopped.structured["control"]) == (True, "human")
    assert stopped.text.endswith("call desktop_wait_for_control")


async def test_a_screenshot_is_saved_in_the_agents_folder_with_its_size_and_a_warning_when_it_is_too_large(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    scripted.says((200, png(1280, 800)), (200, png(1280, 800)), (200, png(2560, 1440)))
    ctx = within(context(pools, (scripted.url, ALICE)), tmp_path)
    first = (await done(ctx, "desktop_screenshot", path="../../now.jpg")).structured
    second = (await done(ctx, "desktop_screenshot", path="now.jpg")).structured
    folder = tmp_path / ".molecule" / "display" / "screenshots"
    assert first == {
        "ok": True, "path": str(folder / "now.jpg.png"), "width": 1280, "height": 800, "vision_safe": True,
    }  # fmt: skip
    assert content_and_mode(first["path"]) == (png(1280, 800), 0o600)
    assert Path(second["path"]).parent == folder
    assert second["path"] != first["path"]
    large = (await done(ctx, "desktop_screenshot")).structured
    assert large["vision_safe"] is False
    assert "scale them to 2560x1440" in large["warning"]


async def test_what_is_no_picture_and_a_folder_that_leads_elsewhere_are_refused(
    scripted: Http, pools: ConnectionPools, tmp_path: Path
) -> None:
    scripted.says((200, b"<html>"), (200, png(1, 1)), BUSY)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / ".molecule").symlink_to(tmp_path / "elsewhere")
    ctx = within(context(pools, (scripted.url, ALICE)), tmp_path / "agent")
    assert "no PNG picture" in await refused(ctx, "desktop_screenshot")
    assert "cannot be saved" in await refused(ctx, "desktop_screenshot")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert "a person has control" in await refused(ctx, "desktop_screenshot")


def test_pictures_are_bounded_in_number_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screenshots, "MAX_PICTURES", 2)
    kept = [screenshots.keep(tmp_path, f"{number}.png", png(1, 1)) for number in range(3)]
    assert [path.exists() for path in kept] == [False, True, True]


async def test_a_workspace_without_a_desktop_is_told_so(acme: Tenant, pools: ConnectionPools, tmp_path: Path) -> None:
    _, ours = await acme.family()
    ctx = within(context(pools, (acme.url, ours)), tmp_path)
    status = (await done(ctx, "desktop_status")).structured
    assert status == {
        "mode": "sidecar-gateway", "workspace_id": ours.id, "available": False,
        "error": "this workspace has no desktop; do the work by other means",
    }  # fmt: skip
    for tool, arguments in (
        ("desktop_screenshot", {}),
        ("desktop_key", {"keys": "a"}),
        ("desktop_wait_for_control", {}),
    ):
        assert "has no desktop" in await refused(ctx, tool, **arguments)


async def test_a_desktop_that_answers_with_a_picture_is_available(scripted: Http, pools: ConnectionPools) -> None:
    scripted.says((200, png(1, 1)), BUSY)
    ctx = context(pools, (scripted.url, ALICE))
    assert (await done(ctx, "desktop_status")).structured["available"] is True
    status = (await done(ctx, "desktop_status")).structured
    assert (status["available"], "409" in status["error"]) == (False, True)


async def test_control_is_waited_for_across_a_hiccup_and_no_longer_than_asked(
    scripted: Http, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "POLL_SECONDS", 0.01)
    human = (200, {"human_in_control": True, "agent_can_control": False})
    scripted.says(
        human, (503, {"error": "restarting"}), human, (200, {"human_in_control": False, "agent_can_control": True})
    )
    ctx = context(pools, (scripted.url, ALICE))
    said: list[str] = []

    async def progress(text: str) -> None:
        said.append(text)

    answer = await dispatch("desktop_wait_for_control", {"timeout_s": 30}, ctx, progress=progress)
    assert answer.structured == {"ok": True, "control": "available", "waited_s": answer.structured["waited_s"]}
    assert said == ["a person has control of the desktop; waiting"]
    assert len(scripted.received) == 4
    scripted.says(human)
    over = await done(ctx, "desktop_wait_for_control", timeout_s=1)
    assert over.structured == {"ok": False, "control": "human", "error": "a person still has control after 1 s"}
