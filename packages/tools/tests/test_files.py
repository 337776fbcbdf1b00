"""Files that an agent sends to people: which may leave, how they leave, and that all of them do or none."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Tenant, bearer

from molecule_runtime.core.platform.client import MAX_UPLOAD_BYTES
from molecule_runtime.tools import screenshots
from molecule_runtime.tools.files import clean_name, files_root
from molecule_runtime.tools.media_types import media_type_of

from .support import context, done, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.tools import ToolContext

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice-0001")
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"  # secret-scan: allow, made up


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "agent"
    made.mkdir()
    return made


def within(ctx: ToolContext, folder: Path | None, **changes: Any) -> ToolContext:
    return dataclasses.replace(ctx, files_root=folder, **changes)


async def notified(tenant: Tenant, member: Member) -> list[Any]:
    return [row for row in await tenant.activity(member) if row["method"] == "notify"]


async def stored(tenant: Tenant, member: Member, uri: str) -> bytes:
    file_id = uri.rpartition("/")[2]
    path = f"/workspaces/{member.id}/pending-uploads/{file_id}/content"
    answer = await tenant.http.get(path, headers=bearer(member))
    assert answer.status_code == 200, answer.text
    return answer.content


async def test_local_files_reach_the_person_beside_uploaded_ones_in_their_order(
    acme: Tenant, pools: ConnectionPools, folder: Path
) -> None:
    _, ours = await acme.family()
    await acme.register(ours)
    big = os.urandom(700_000)
    (folder / "sub").mkdir()
    (folder / "sub" / "my report.bin").write_bytes(big)
    (folder / "chart.txt").write_bytes(PNG)
    attachments = [
        {"path": "sub/my report.bin"},
        {"uri": "workspace:/a.csv", "name": "a.csv"},
        str(folder / "chart.txt"),
        {"file_path": "chart.txt", "name": "../a picture.png", "mimeType": "text/html"},
        str(screenshots.keep(folder, "now.png", PNG)),
    ]
    ctx = within(context(pools, (acme.url, ours)), folder)
    async with acme.platform.bus.subscribe() as frames:
        result = await done(ctx, "send_message_to_user", message="look", attachments=attachments)
        with anyio.fail_after(WAIT_SECONDS):
            frame = await anext(frames)
            while frame.event != "AGENT_MESSAGE":
                frame = await anext(frames)
    assert result.text == "Message sent to user with 5 attachments"
    sent = frame.payload["attachments"]
    assert [(item["name"], item.get("mimeType"), item.get("size")) for item in sent] == [
        ("my_report.bin", "application/octet-stream", 700_000),
        ("a.csv", None, None),
        ("chart.txt", "image/png", len(PNG)),
        ("a_picture.png", "image/png", len(PNG)),
        ("now.png", "image/png", len(PNG)),
    ]
    assert await stored(acme, ours, sent[0]["uri"]) == big
    assert await stored(acme, ours, sent[3]["uri"]) == PNG


def _hidden(folder: Path) -> str:
    (folder / ".auth_token").write_text("x")
    return ".auth_token"


def _in_hidden(folder: Path) -> str:
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "config.txt").write_text("x")
    return ".ssh/config.txt"


def _outside(folder: Path) -> str:
    return str(folder.parent / "elsewhere.txt")


def _climbing(folder: Path) -> str:
    del folder
    return "sub/../../elsewhere.txt"


def _link(folder: Path) -> str:
    (folder / "report.txt").symlink_to(folder.parent / "elsewhere.txt")
    return "report.txt"


def _linked_folder(folder: Path) -> str:
    (folder / "here").symlink_to(folder.parent)
    return "here/elsewhere.txt"


def _hard_link(folder: Path) -> str:
    (folder / "copy.txt").hardlink_to(folder.parent / "elsewhere.txt")
    return "copy.txt"


def _key_by_name(folder: Path) -> str:
    (folder / "server.pem").write_text("x")
    return "server.pem"


def _key_by_content(folder: Path) -> str:
    (folder / "notes.txt").write_text(f"as promised:\n{PEM}")
    return "notes.txt"


def _token_by_content(folder: Path) -> str:
    (folder / "notes.txt").write_text("V4x9Lq2Zt7Rb1Yk8Mw3Nc6Hd5Gf0Js_Pa-Ue2Ix4Od7\n")
    return "notes.txt"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


def _directory(folder: Path) -> str:
    (folder / "sub").mkdir()
    return "sub"


def _large(folder: Path) -> str:
    with (folder / "film.mp4").open("wb") as handle:
        handle.truncate(MAX_UPLOAD_BYTES + 1)
    return "film.mp4"


def _missing(folder: Path) -> str:
    del folder
    return "missing.txt"


def _address(folder: Path) -> str:
    del folder
    return "https://example.com/a.png"


def _null(folder: Path) -> str:
    del folder
    return "a\0b"


def _endless(folder: Path) -> str:
    del folder
    return "service_account" * 100_000


REFUSED: dict[str, tuple[Callable[[Path], str], str]] = {
    "a token file": (_hidden, "begin with a dot"),
    "a file in a folder with a dot": (_in_hidden, "begin with a dot"),
    "an absolute path elsewhere": (_outside, "the only folder whose files may be sent"),
    "a path that climbs": (_climbing, "without '..'"),
    "a link": (_link, "links are not followed"),
    "a linked folder": (_linked_folder, "links are not followed"),
    "a hard link": (_hard_link, "has another name somewhere"),
    "a key by its name": (_key_by_name, "the name of a key"),
    "a key by its content": (_key_by_content, "holds a key or a token"),
    "a token by its content": (_token_by_content, "holds a key or a token"),
    "a pipe": (_pipe, "not a regular file"),
    "a folder": (_directory, "not a regular file"),
    "a large file": (_large, "25 MB, and a file may have 25"),
    "no file": (_missing, "there is no file"),
    "an address": (_address, "give an object with its uri and name"),
    "a path without end": (_endless, "at most 4096 characters"),
    "a null character": (_null, "null character"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_may_not_leave_is_refused_and_no_part_of_the_message_is_sent(
    scripted: Http, pools: ConnectionPools, folder: Path, name: str
) -> None:
    (folder.parent / "elsewhere.txt").write_text("secret of the machine")
    (folder / "fine.txt").write_text("fine")
    make, why = REFUSED[name]
    ctx = within(context(pools, (scripted.url, ALICE)), folder)
    text = await refused(ctx, "send_message_to_user", message="look", attachments=["fine.txt", make(folder)])
    assert text.startswith("attachments[1]: ")
    assert why in text
    assert "secret of the machine" not in text
    assert scripted.received == []


async def test_files_of_the_runtime_itself_and_files_without_a_folder_are_refused(
    scripted: Http, pools: ConnectionPools, folder: Path
) -> None:
    (folder / "state").mkdir()
    (folder / "state" / "inbox.db").write_text("x")
    base = context(pools, (scripted.url, ALICE))
    guarded = within(base, folder, state_dir=folder / "state")
    arguments = {"message": "look", "attachments": ["state/inbox.db"]}
    assert "among the runtime's own files" in await refused(guarded, "send_message_to_user", **arguments)
    said = await refused(within(base, None), "send_message_to_user", **arguments)
    assert "a person can name one in MOLECULE_FILES_DIR" in said
    assert scripted.received == []


async def test_a_file_that_contains_a_token_of_any_served_workspace_is_refused(
    scripted: Http, pools: ConnectionPools, folder: Path
) -> None:
    bob = Member("bob", "token-of-bob-000001")
    # Across the border between two reads.
    (folder / "log.txt").write_text("x" * (256 * 1024 - 5) + bob.token + "y" * 10)
    ctx = within(context(pools, (scripted.url, ALICE), (scripted.url, bob)), folder)
    arguments = {"message": "look", "attachments": ["log.txt"], "source_workspace_id": "alice"}
    text = await refused(ctx, "send_message_to_user", **arguments)
    assert text == "attachments[0]: 'log.txt' contains a token of this process, which never leaves"
    assert scripted.received == []


async def test_too_many_files_or_bytes_are_refused_before_one_is_read(
    scripted: Http, pools: ConnectionPools, folder: Path
) -> None:
    for number in range(3):
        with (folder / f"{number}.bin").open("wb") as handle:
            handle.truncate(MAX_UPLOAD_BYTES - 10)
    ctx = within(context(pools, (scripted.url, ALICE)), folder)

    async def said(attachments: Sequence[str]) -> str:
        return await refused(ctx, "send_message_to_user", message="look", attachments=attachments)

    assert await said(["0.bin", "1.bin", "2.bin"]) == "attachments[2]: the files are more than 50 MB together"
    assert await said(["0.bin"] * 21) == "attachments: 21 files, and a message takes 20"
    assert scripted.received == []


async def test_when_an_upload_fails_no_message_is_sent(acme: Tenant, pools: ConnectionPools, folder: Path) -> None:
    # A workspace that is neither polled nor reachable: the platform has nobody to give the files to.
    _, ours = await acme.family()
    (folder / "a.txt").write_text("a")
    ctx = within(context(pools, (acme.url, ours)), folder)
    text = await refused(ctx, "send_message_to_user", message="look", attachments=["a.txt"])
    assert "503" in text
    assert await notified(acme, ours) == []


async def test_two_tenants_files_go_to_their_own_platform(
    acme: Tenant, globex: Tenant, pools: ConnectionPools, folder: Path
) -> None:
    _, ours = await acme.family()
    _, theirs = await globex.family()
    ctx = within(context(pools, (acme.url, ours), (globex.url, theirs)), folder)
    for tenant, member, word in ((acme, ours, "acme-file-text"), (globex, theirs, "globex-file-text")):
        await tenant.register(member)
        (folder / "a.txt").write_text(word)
        who = {"source_workspace_id": member.id}
        await done(ctx, "send_message_to_user", message="look", attachments=["a.txt"], **who)
    assert [word for word in (theirs.token, "globex-file-text") if word.encode() in bytes(acme.sent)] == []
    assert [word for word in (ours.token, "acme-file-text") if word.encode() in bytes(globex.sent)] == []
    assert b"acme-file-text" in bytes(acme.sent)


@pytest.mark.parametrize(
    ("name", "head", "expected"),
    [
        ("a.png", PNG, "image/png"),
        ("a.exe", PNG, "image/png"),
        ("photo.png", b"<script>alert(1)</script>", "text/plain"),
        ("photo.jpg", b"\x00\x01\x02\x03", "application/octet-stream"),
        ("page.html", b"<html>", "text/html"),
        ("table.csv", "Größe,1\n".encode(), "text/csv"),
        ("drawing.svg", b"<svg/>", "image/svg+xml"),
        ("book.xlsx", b"PK\x03\x04rest", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("photo.png", b"PK\x03\x04rest", "application/zip"),
        ("a", b"%PDF-1.7", "application/pdf"),
        ("a.webp", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        ("a.mp4", b"\x00\x00\x00\x18ftypisom", "video/mp4"),
        ("BMX.txt", b"BMX is a sport", "text/plain"),
        ("empty.json", b"", "application/json"),
        ("model.onnx", b"\x08\x07\x12\x00\xff", "application/octet-stream"),
    ],
)
def test_the_media_type_is_what_the_content_says(name: str, head: bytes, expected: str) -> None:
    assert media_type_of(name, head) == expected


def test_names_are_made_safe() -> None:
    assert clean_name("..\\..\\my file.txt") == "my_file.txt"
    assert clean_name("/etc/.passwd") == "passwd"
    assert clean_name("ü/☃") == "_"
    assert clean_name("...") == "file"
    assert clean_name("n" * 200 + ".pdf") == "n" * 96 + ".pdf"


def test_the_folder_is_the_named_one_and_never_a_whole_disk_or_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molecule_runtime.tools.files.WORKSPACE_FOLDER", tmp_path / "none")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files_root({"MOLECULE_FILES_DIR": "~/out"}) == tmp_path / "out"
    assert files_root({}, started_in=tmp_path / "project") == tmp_path / "project"
    assert [files_root({}, started_in=place) for place in (tmp_path, type(tmp_path)("/"), None)] == [None] * 3
