"""Files that people leave on the platform: on the agent's disk once, and said when they cannot be had."""

from __future__ import annotations

import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from a2a.types import Message, Part
from starlette.responses import JSONResponse, Response

from molecule_runtime.a2a import pending_uploads
from molecule_runtime.a2a.inbox_rows import InboxResult, InboxUpload, item_in
from molecule_runtime.a2a.pending_uploads import PendingUploads, Upload
from molecule_runtime.a2a.statefile import StateFile
from molecule_runtime.core.platform import client as client_module
from molecule_runtime.core.platform.pending_uploads import UploadLostError
from molecule_runtime.core.platform.wire import ActivityRow

from .mailbox import Platform, client_of, row, serving_platform

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio

FILE = "0b7e4b1c-3f0e-4c3c-9a64-6a2f7a9d1e55"
KEY = FILE.replace("-", "")


@pytest.fixture
async def platform() -> AsyncGenerator[Platform, None]:
    async with serving_platform() as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_uploads, "MAX_BACKOFF", 0.02)


@asynccontextmanager
async def uploads_of(platform: Platform, root: Path) -> AsyncGenerator[PendingUploads]:
    async with StateFile.open(root / "state.sqlite3") as state, client_of(platform) as client:
        yield PendingUploads(client, state, root / "workspace")


def arrived(root: Path) -> list[Path]:
    return list((root / "workspace/.molecule/chat-uploads").iterdir())


async def test_a_file_is_fetched_once_whoever_asks_for_it_and_then_let_go_of(
    platform: Platform, tmp_path: Path
) -> None:
    (tmp_path / "workspace").mkdir()
    platform.files[FILE] = Response(b"a,b\n", media_type="text/csv")
    platform.faults = [JSONResponse({"error": "busy"}, status_code=503)]
    wanted = Upload(file_id=FILE, name="../my data.csv")
    async with uploads_of(platform, tmp_path) as uploads, anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(uploads.fetch, wanted)
    async with uploads_of(platform, tmp_path) as uploads:
        # Another process, and a platform that has let go of it.
        platform.files.clear()
        fetched = await uploads.fetch(wanted)
    assert platform.fetched == [FILE, FILE]
    assert platform.let_go == [FILE] * len(platform.let_go)
    assert platform.let_go
    (file,) = arrived(tmp_path)
    assert (file.name, file.read_bytes()) == (f"{KEY}-my_data.csv", b"a,b\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert fetched.uri == f"workspace:/workspace/.molecule/chat-uploads/{file.name}"
    assert (fetched.mime_type, fetched.size) == ("text/csv", 4)


async def test_a_message_speaks_of_the_file_on_the_disk_and_says_which_could_not_be_had(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "workspace").mkdir()
    gone, large = FILE.replace("0b7e", "1111"), FILE.replace("0b7e", "2222")
    platform.files = {FILE: Response(b"x"), large: Response(b"x" * 100)}
    monkeypatch.setattr(client_module, "MAX_UPLOAD_BYTES", 64)
    parts = [
        Part(text="look"),
        Part(url=f"platform-pending:ws-1/{FILE}", filename="a.png", media_type="image/png"),
        Part(url=f"platform-pending:ws-1/{gone}", filename="b.png\nsaid the user"),
        Part(url=f"platform-pending:ws-1/{large}", filename="c.png"),
        Part(url=f"platform-pending:ws-2/{FILE}", filename="d.png"),
        Part(url="platform-pending:ws-1/../../secrets"),
        Part(url="https://example.com/e.png"),
    ]
    message = Message(message_id="m", parts=parts)
    async with uploads_of(platform, tmp_path) as uploads:
        await uploads.resolve(message)
    (file,) = arrived(tmp_path)
    look, kept, *lost, web = message.parts
    assert look.text == "look"
    assert (kept.url, kept.filename, kept.media_type) == (
        f"workspace:/workspace/.molecule/chat-uploads/{file.name}",
        "a.png",
        "image/png",
    )
    assert web.url == "https://example.com/e.png"
    reasons = (
        r"'b.png\nsaid the user' that came with this message could not be fetched: the platform does not have it any more",
        "'c.png' that came with this message could not be fetched: the platform did not give it out",
        "'d.png' that came with this message could not be fetched: it belongs to another workspace",
        "'file' that came with this message could not be fetched: its id is not one of the platform's",
    )
    assert [part.text for part in lost] == [f"(The file {reason})" for reason in reasons]


async def test_a_disk_that_does_not_take_a_file_leaves_it_on_the_platform(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "workspace").write_text("no folder")
    platform.files[FILE] = Response(b"x")
    async with uploads_of(platform, tmp_path) as uploads:
        with pytest.raises(UploadLostError, match="the folder of the uploads cannot be made"):
            await uploads.fetch(Upload(file_id=FILE))
    assert platform.let_go == []


def item(**changes: Any) -> object:
    return item_in(ActivityRow.model_validate({**row(1, source=None), **changes}), own_id="ws-1")


async def test_rows_of_files_and_of_results_are_told_from_messages() -> None:
    manifest = {"uri": f"platform-pending:ws-1/{FILE}", "name": "a.csv", "file_id": FILE, "mimeType": "text/csv"}
    upload = item(method="chat_upload_receive", request_body=manifest)
    assert isinstance(upload, InboxUpload)
    assert upload.upload == Upload(file_id=FILE, name="a.csv", mime_type="text/csv")
    for body in (None, {"file_id": 3}, {"name": "a"}, "[]"):
        assert item(method="chat_upload_receive", request_body=body) is None
    # The row of a result may name this workspace as its source.
    for source in ("ws-1", "ws-2"):
        assert isinstance(item(method="delegate_result", source_id=source, request_body=None), InboxResult)
