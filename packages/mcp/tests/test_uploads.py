"""Files that people sent are on this machine before the agent gets the message, or the message says why they are not."""

from __future__ import annotations

import os
import stat
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Received, Tenant

from molecule_runtime.core.platform.pending_uploads import UploadLostError
from molecule_runtime.mcp import shelf as shelves
from molecule_runtime.mcp.shelf import FileShelf
from molecule_runtime.mcp.store import Mailbox

from .test_inbox import ALICE, Desk, row
from .test_store import BOX, message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.mcp.store import InboxStore

pytestmark = pytest.mark.anyio

FILE = uuid.UUID("11111111-2222-4333-8444-555555555555")


@asynccontextmanager
async def polling(desk: Desk, member: Any = ALICE) -> AsyncGenerator[None]:
    """The pollers of a process, at work."""
    async with anyio.create_task_group() as group:
        group.start_soon(desk.inbox.run)
        group.start_soon(desk.poller(member).run)
        yield
        group.cancel_scope.cancel()


def on_disk(uri: str) -> Path:
    parts = urlsplit(uri)
    assert parts.scheme == "file"
    return Path(unquote(parts.path))


def pending(name: str = "a.txt", *, owner: str = ALICE.id, file_id: object = FILE) -> dict[str, Any]:
    return {
        "uri": f"platform-pending:{owner}/{file_id}",
        "name": name,
        "size": 3,
        "file_id": str(file_id),
        "mimeType": "text/plain",
    }


class Platform:
    """A platform with one inbox, whose files are had as the test says."""

    def __init__(self, http: Http, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.content: list[tuple[int, Any] | None] = [(200, b"abc")]
        self.asked: list[str] = []
        http.answer = self.answer

    async def answer(self, request: Received) -> tuple[int, Any] | None:
        path = urlsplit(request.path).path
        if path.endswith("/activity"):
            rows, self.rows = self.rows, []
            return 200, rows
        self.asked.append(path.rpartition("/")[2])
        if path.endswith("/ack"):
            return 200, {"acked": True}
        return self.content.pop(0) if len(self.content) > 1 else self.content[0]


@pytest.fixture
def desk(pools: ConnectionPools, store: InboxStore, scripted: Http) -> Desk:
    return Desk(pools, store, (scripted.url, ALICE))


async def test_a_file_of_the_human_is_fetched_kept_privately_and_let_go_of_by_the_platform(
    acme: Tenant, pools: ConnectionPools, store: InboxStore
) -> None:
    _, ours = await acme.family()
    await acme.register(ours)
    desk = Desk(pools, store, (acme.url, ours))
    files = {"files": ("../my plan\n.txt", b"the plan", "text/plain")}
    sent = await acme.http.post(f"/workspaces/{ours.id}/chat/uploads", files=files, headers=acme.admin)
    (waiting,) = sent.json()["files"]
    async with polling(desk, ours):
        got = await desk.json("wait_for_message", timeout_secs=9)
    (attachment,) = got["attachments"]
    path = on_disk(attachment["uri"])
    assert path.read_bytes() == b"the plan"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.parent.parent == store.database.path.parent
    assert path.name.isascii()
    assert path.name.isprintable()
    assert "error" not in attachment
    gone = await acme.http.get(
        f"/workspaces/{ours.id}/pending-uploads/{waiting['uri'].rpartition('/')[2]}/content", headers=acme.admin
    )
    assert gone.status_code in {401, 403, 404}
    assert got["method"] == "chat_upload_receive"


async def test_two_rows_that_speak_of_one_file_fetch_it_once(desk: Desk, scripted: Http) -> None:
    file = {"kind": "file", "file": {"uri": f"platform-pending:{ALICE.id}/{FILE}", "name": "a.txt"}}
    body = {"params": {"message": {"parts": [{"kind": "text", "text": "see"}, file]}}}
    platform = Platform(
        scripted,
        row("up", method="chat_upload_receive", source_id=None, request_body=pending()),
        row("msg", at=1, source_id=None, request_body=body),
    )
    async with polling(desk):
        first, second = [await desk.json("wait_for_message", timeout_secs=9) for _ in range(2)]
    assert first["attachments"][0]["uri"] == second["attachments"][0]["uri"]
    assert platform.asked == ["content", "ack"]


async def test_a_file_that_comes_late_delays_its_own_message_only(desk: Desk, scripted: Http) -> None:
    platform = Platform(
        scripted,
        row("up", method="chat_upload_receive", source_id=None, request_body=pending()),
        row("other", at=1),
    )
    gate = anyio.Event()
    answered = platform.answer

    async def slow(request: Received) -> tuple[int, Any] | None:
        if request.path.endswith("/content"):
            await gate.wait()
        return await answered(request)

    scripted.answer = slow
    async with polling(desk):
        assert (await desk.json("wait_for_message", timeout_secs=9))["activity_id"] == "other"
        assert [item["activity_id"] for item in await desk.json("inbox_peek")] == ["other"]
        gate.set()
        assert (await desk.json("wait_for_message", timeout_secs=9))["activity_id"] == "up"


def hardly_any(low: float, high: float) -> float:
    del low, high
    return 0.001


async def test_a_file_that_does_not_come_at_once_is_asked_for_again(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.core.platform.pending_uploads.random.uniform", hardly_any)
    platform = Platform(scripted, row("up", method="chat_upload_receive", source_id=None, request_body=pending()))
    platform.content = [(503, {"error": "x"}), None, (200, b"abc")]
    async with polling(desk):
        got = await desk.json("wait_for_message", timeout_secs=9)
    assert on_disk(got["attachments"][0]["uri"]).read_bytes() == b"abc"
    assert platform.asked == ["content", "content", "content", "ack"]


@pytest.mark.parametrize(
    ("file", "answer", "said"),
    [
        (pending(), (404, {"error": "gone"}), "does not have it any more"),
        (pending(owner="mallory"), (200, b"abc"), "belongs to another workspace"),
        (pending(file_id="../../x"), (200, b"abc"), "its id is not one of the platform's"),
    ],
    ids=["gone", "of another", "no id"],
)
async def test_a_file_that_cannot_be_had_is_said_so_in_the_message(
    desk: Desk, scripted: Http, file: dict[str, Any], answer: tuple[int, Any], said: str
) -> None:
    platform = Platform(scripted, row("up", method="chat_upload_receive", source_id=None, request_body=file))
    platform.content = [answer]
    async with polling(desk):
        got = await desk.json("wait_for_message", timeout_secs=9)
    (attachment,) = got["attachments"]
    assert said in attachment["error"]
    assert attachment["uri"] == file["uri"]
    assert "ack" not in platform.asked


async def test_a_message_waits_for_its_files_no_longer_than_a_bound(
    desk: Desk, scripted: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("uploads", "poller"):
        monkeypatch.setattr(f"molecule_runtime.mcp.{module}.HOLD_SECONDS", 0.3)
    platform = Platform(scripted, row("up", method="chat_upload_receive", source_id=None, request_body=pending()))
    answered = platform.answer

    async def never(request: Received) -> tuple[int, Any] | None:
        if request.path.endswith("/content"):
            await anyio.sleep(WAIT_SECONDS)
        return await answered(request)

    scripted.answer = never
    async with polling(desk):
        got = await desk.json("wait_for_message", timeout_secs=9)
    assert "error" in got["attachments"][0]


async def test_files_that_a_process_had_no_time_to_fetch_are_fetched_by_the_next(desk: Desk, scripted: Http) -> None:
    platform = Platform(scripted, row("up", method="chat_upload_receive", source_id=None, request_body=pending()))
    # Polled, and then the process is gone.
    await desk.poller().poll()
    assert platform.asked == []
    async with polling(desk):
        got = await desk.json("wait_for_message", timeout_secs=9)
    assert on_disk(got["attachments"][0]["uri"]).read_bytes() == b"abc"


def test_two_tenants_that_use_one_id_of_a_file_have_two_files(store: InboxStore, tmp_path: Path) -> None:
    shelf = FileShelf(store, tmp_path / "files")
    boxes = [Mailbox(f"https://{name}.example", "ws-1") for name in ("acme", "globex")]
    kept = [shelf.keep(box, FILE.hex, "a.txt", "text/plain", box.origin.encode()) for box in boxes]
    assert [on_disk(file.uri).read_bytes() for file in kept] == [box.origin.encode() for box in boxes]
    assert [shelf.find(box, FILE.hex) for box in boxes] == kept


def test_files_go_when_they_are_old_and_no_message_that_waits_speaks_of_them(
    store: InboxStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = FileShelf(store, tmp_path / "files")
    old, needed = (shelf.keep(BOX, name, f"{name}.txt", "text/plain", b"x") for name in ("old", "needed"))
    waiting = replace(message("a"), attachments=({"kind": "file", "uri": needed.uri},))
    store.add(BOX, [waiting], cursor="a")
    orphan = tmp_path / "files" / "left-by-a-crash"
    orphan.write_bytes(b"x")
    long_ago = time.time() - 2 * shelves.ORPHAN_SECONDS
    os.utime(orphan, (long_ago, long_ago))
    monkeypatch.setattr(shelves, "KEEP_SECONDS", -1.0)
    FileShelf(store, tmp_path / "files").sweep()
    assert [path.as_uri() for path in (tmp_path / "files").iterdir()] == [needed.uri]
    assert shelf.find(BOX, "old") is None
    assert not on_disk(old.uri).exists()
    store.pop([BOX], "a")
    FileShelf(store, tmp_path / "files").sweep()
    assert list((tmp_path / "files").iterdir()) == []


def test_where_there_is_no_room_the_oldest_go_first_and_those_that_are_needed_stay(
    store: InboxStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelves, "MAX_BYTES", 10)
    shelf = FileShelf(store, tmp_path / "files")
    first = shelf.keep(BOX, "first", "first", "", b"12345")
    second = shelf.keep(BOX, "second", "second", "", b"12345")
    third = shelf.keep(BOX, "third", "third", "", b"123")
    assert not on_disk(first.uri).exists()
    store.add(BOX, [replace(message("a"), attachments=({"kind": "file", "uri": second.uri},))], cursor="a")
    with pytest.raises(UploadLostError, match="pop some of these messages"):
        shelf.keep(BOX, "large", "large", "", b"123456")
    assert on_disk(second.uri).exists()
    assert not on_disk(third.uri).exists()
