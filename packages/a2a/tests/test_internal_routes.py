"""The routes that only the platform may ask, over real sockets: files of a chat in, files of the agent out."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from molecule_runtime.a2a import file_read, gate, uploads
from molecule_runtime.core.file_names import clean_name

from .support import DEADLINE, FakePlatform, Workspace, eventually, ready, serving

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]
Files = list[tuple[str, tuple[str, bytes, str]]]

INGEST = "/internal/chat/uploads/ingest"
READ = "/internal/file/read"


@asynccontextmanager
async def host(workspace: Workspace, platform: FakePlatform) -> AsyncGenerator[httpx.AsyncClient]:
    """A host that knows the platform's secret, and a client that does."""
    headers = {"authorization": f"Bearer {platform.secret}"}
    async with serving(workspace):
        await ready(workspace)
        await eventually((workspace.state / ".platform_inbound_secret").exists, "the secret is saved")
        async with httpx.AsyncClient(
            base_url=workspace.url, trust_env=False, timeout=DEADLINE, headers=headers
        ) as client:
            yield client


def folder_of(workspace: Workspace) -> Path:
    return workspace.state / "workspace" / ".molecule" / "chat-uploads"


def left_in(workspace: Workspace) -> list[str]:
    folder = folder_of(workspace)
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


async def test_without_the_platforms_secret_nothing_is_taken_and_nothing_is_told(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    async with host(workspace, platform) as client:
        token = (workspace.state / ".auth_token").read_text()
        for bad in ("", "Bearer", "Bearer wrong", f"Basic {platform.secret}", f"Bearer {token}", "Bearer \xff"):
            header = {b"authorization": bad.encode("latin-1")}
            for answer in (
                await client.post(INGEST, files={"files": ("a.txt", b"a")}, headers=header),
                await client.get(READ, params={"path": "/configs/config.yaml"}, headers=header),
                await client.get("/internal/anything", headers=header),
            ):
                assert answer.status_code == 401
                assert answer.json()["error"] == "unauthorized"
                assert answer.headers["www-authenticate"].startswith("Bearer")
    assert left_in(workspace) == []


async def test_a_host_that_has_no_secret_yet_refuses_every_secret(make_workspace: Make) -> None:
    workspace = make_workspace()
    workspace.platform_url = "http://127.0.0.1:9"
    async with serving(workspace), httpx.AsyncClient(base_url=workspace.url, trust_env=False) as client:
        await listening(client)
        for value in ("Bearer", "Bearer None", "Bearer x"):
            answer = await client.get(READ, params={"path": "/configs/config.yaml"}, headers={"authorization": value})
            assert answer.status_code == 401


async def test_files_arrive_private_under_clean_names_and_can_be_read_again(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    large = os.urandom(3 * 1024 * 1024 + 17)
    files: Files = [
        ("files", ("../My notes (1).txt", b"hello", "text/plain; charset=utf-8")),
        ("files", ("large.bin", large, "application/octet-stream")),
        ("files", ("data.json", b"", "")),
    ]
    async with host(workspace, platform) as client:
        answer = await client.post(INGEST, files=files, data={"note": "ignored"})
        assert answer.status_code == 200, answer.text
        said: list[dict[str, Any]] = answer.json()["files"]
        assert [(file["name"], file["mimeType"], file["size"]) for file in said] == [
            ("My_notes__1_.txt", "text/plain", 5),
            ("large.bin", "application/octet-stream", len(large)),
            ("data.json", "application/json", 0),
        ]
        for file, (_, (_, content, _)) in zip(said, files, strict=True):
            prefix, _, name = file["uri"].rpartition("/")
            assert prefix == "workspace:/workspace/.molecule/chat-uploads"
            key, _, rest = name.partition("-")
            assert (len(key), rest) == (32, file["name"])
            stored = folder_of(workspace) / name
            assert stored.read_bytes() == content
            assert stored.stat().st_mode & 0o777 == 0o600
            again = await client.get(READ, params={"path": file["uri"].removeprefix("workspace:")})
            assert again.content == content
    assert len(left_in(workspace)) == 3


async def test_a_form_without_length_is_taken_as_it_comes(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace()
    request = httpx.Request("POST", "http://agent", files={"files": ("a.txt", b"streamed")})
    async with host(workspace, platform) as client:
        body = chunks(*(request.read()[at : at + 7] for at in range(0, len(request.read()), 7)))
        answer = await client.post(INGEST, content=body, headers={"content-type": request.headers["content-type"]})
        assert answer.json()["files"][0]["size"] == 8


async def test_what_is_no_form_with_files_is_refused_and_leaves_nothing(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    form = httpx.Request("POST", "http://agent", files={"files": ("a.txt", b"a" * 500_000)})
    kind = form.headers["content-type"]
    async with host(workspace, platform) as client:
        for content, content_type in (
            (b"{}", "application/json"),
            (b"", "multipart/form-data"),
            (b"nothing", kind),
            (form.read()[:-4], kind),
            (form.read()[:300_000], kind),
        ):
            answer = await client.post(INGEST, content=content, headers={"content-type": content_type})
            assert (answer.status_code, answer.json()["error"]) == (400, "invalid form")
            assert answer.json()["hint"]
        other = await client.post(INGEST, files={"other": ("a.txt", b"a")})
        assert (other.status_code, other.json()["error"]) == (400, "no files")
        chosen_none = await client.post(INGEST, files={"files": ("", b"")})
        assert chosen_none.status_code == 400
    assert left_in(workspace) == []


async def test_too_much_is_refused_and_leaves_nothing(
    make_workspace: Make, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    monkeypatch.setattr(uploads, "MAX_FILE_BYTES", 300_000)
    monkeypatch.setattr(uploads, "MAX_REQUEST_BYTES", 500_000)
    monkeypatch.setattr(uploads, "MAX_FILES", 3)
    async with host(workspace, platform) as client:
        for sizes in ([10, 300_001], [200_000, 200_000, 200_000], [1, 1, 1, 1]):
            files: Files = [("files", (f"{n}.bin", b"x" * size, "a/b")) for n, size in enumerate(sizes)]
            answer = await client.post(INGEST, files=files)
            assert answer.status_code == 413, sizes
            assert answer.json()["hint"]
        most: Files = [("files", (f"{n}.bin", b"x" * size, "a/b")) for n, size in enumerate((300_000, 200_000))]
        assert (await client.post(INGEST, files=most)).status_code == 200
    assert len(left_in(workspace)) == 2


async def test_a_form_that_announces_too_much_is_refused_before_it_is_sent(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    async with host(workspace, platform) as client:
        head = (
            f"POST {INGEST} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {platform.secret}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await said_to(workspace, head.encode())).startswith(b"HTTP/1.1 413 ")
        # And one that does not wait to be asked still reads why.
        answer = await client.post(INGEST, files={"files": ("a", b"x" * (52 * 1024 * 1024))})
        assert answer.status_code == 413
        assert answer.json()["max_bytes"]
    assert left_in(workspace) == []


async def test_a_sender_who_goes_away_leaves_nothing(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace()
    form = httpx.Request("POST", "http://agent", files={"files": ("a.txt", b"a" * 900_000)})
    async with host(workspace, platform):
        head = (
            f"POST {INGEST} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {platform.secret}\r\n"
            f"Content-Type: {form.headers['content-type']}\r\nContent-Length: {len(form.read())}\r\n\r\n"
        )
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            await stream.send(head.encode() + form.read()[:700_000])
            await eventually(lambda: left_in(workspace), "the file is begun")
            assert left_in(workspace)[0].startswith(".arriving-")
        await eventually(lambda: not left_in(workspace), "the file is gone")


async def test_a_sender_who_is_too_slow_is_told_and_leaves_nothing(
    make_workspace: Make, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    monkeypatch.setattr(gate, "UPLOAD_SECONDS", 0.3)
    form = httpx.Request("POST", "http://agent", files={"files": ("a.txt", b"a" * 900_000)})
    async with host(workspace, platform):
        head = (
            f"POST {INGEST} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {platform.secret}\r\n"
            f"Content-Type: {form.headers['content-type']}\r\nContent-Length: {len(form.read())}\r\n\r\n"
        )
        answer = await said_to(workspace, head.encode() + form.read()[:700_000])
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"within 0.3 s" in answer
    assert left_in(workspace) == []


async def test_a_folder_that_cannot_be_made_or_is_a_link_is_an_error_of_ours(
    make_workspace: Make, platform: FakePlatform, tmp_path: Path
) -> None:
    workspace = make_workspace()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder_of(workspace).parent.mkdir(parents=True)
    folder_of(workspace).symlink_to(elsewhere)
    async with host(workspace, platform) as client:
        linked = await client.post(INGEST, files={"files": ("a.txt", b"a")})
        folder_of(workspace).unlink()
        folder_of(workspace).write_text("in the way")
        blocked = await client.post(INGEST, files={"files": ("a.txt", b"a")})
        for answer in (linked, blocked):
            assert answer.status_code == 500
            assert answer.json()["path"] == "/workspace/.molecule/chat-uploads"
            assert answer.json()["errno"]
            assert answer.json()["hint"]
    assert list(elsewhere.iterdir()) == []


async def test_what_a_crash_left_is_cleared_by_the_next_upload(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace()
    folder_of(workspace).mkdir(parents=True)
    for name, age in ((".arriving-old", 7200), (".arriving-new", 0), ("kept-old.txt", 7200)):
        file = folder_of(workspace) / name
        file.write_text("x")
        os.utime(file, (file.stat().st_atime - age, file.stat().st_mtime - age))
    async with host(workspace, platform) as client:
        assert (await client.post(INGEST, files={"files": ("a.txt", b"a")})).status_code == 200
    left = left_in(workspace)
    assert ".arriving-old" not in left
    assert {".arriving-new", "kept-old.txt"} < set(left)


async def test_a_file_comes_with_its_type_and_its_name_and_is_no_page(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    (workspace.root / "configs" / 'ü "x".html').write_text("<b>")
    async with host(workspace, platform) as client:
        answer = await client.get(READ, params={"path": '/configs/ü "x".html'})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        disposition = answer.headers["content-disposition"]
        assert disposition == "attachment; filename=\"_ _x_.html\"; filename*=UTF-8''%C3%BC%20%22x%22.html"
        assert answer.headers["content-length"] == "3"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_may_not_be_read_is_refused_with_what_to_do(
    make_workspace: Make, platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace()
    monkeypatch.setattr(file_read, "MAX_READ_BYTES", 1000)
    configs = workspace.root / "configs"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("outside")
    (configs / "folder").symlink_to(outside)
    (configs / "link.txt").symlink_to(configs / "config.yaml")
    (configs / "large.txt").write_bytes(b"x" * 1001)
    (configs / "most.txt").write_bytes(b"x" * 1000)
    async with host(workspace, platform) as client:
        os.link(workspace.state / ".auth_token", configs / "copy.txt")
        os.link(workspace.state / ".platform_inbound_secret", configs / "other.txt")
        os.link(workspace.state / "a2a-state.sqlite3", configs / "state.txt")
        for path, status in (
            (None, 400),
            ("", 400),
            ("relative.txt", 400),
            ("/etc/passwd", 400),
            ("/configs/../etc/passwd", 400),
            ("/configs", 400),
            ("/configs/link.txt", 400),
            ("/configs/.auth_token", 400),
            ("/configs/copy.txt", 400),
            ("/configs/other.txt", 400),
            ("/configs/state.txt", 400),
            ("/home/somebody/.profile", 400),
            ("/configs/folder/a.txt", 404),
            ("/configs/missing.txt", 404),
            ("/configs/large.txt", 413),
        ):
            answer = await client.get(READ, params={} if path is None else {"path": path})
            assert (answer.status_code, path) == (status, path)
            assert set(answer.json()) >= {"error"}
            assert "outside" not in answer.json()["error"]
            assert platform.token not in answer.text
        assert len((await client.get(READ, params={"path": "/configs/most.txt"})).content) == 1000


async def test_a_file_that_is_read_by_nobody_is_closed(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace()
    file = workspace.root / "configs" / "large.bin"
    with file.open("wb") as handle:
        handle.truncate(64 * 1024 * 1024)

    def holders() -> list[str]:
        found: list[str] = []
        for link in Path("/proc/self/fd").iterdir():
            try:
                found.append(str(link.readlink()))
            except FileNotFoundError:
                continue
        return [target for target in found if target == str(file)]

    async with host(workspace, platform):
        request = (
            f"GET {READ}?path=/configs/large.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {platform.secret}\r\n\r\n"
        )
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            await stream.send(request.encode())
            assert (await stream.receive(100)).startswith(b"HTTP/1.1 200 ")
            await eventually(holders, "the file is open")
        await eventually(lambda: not holders(), "the file is closed")


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a.txt", "a.txt"),
        ("/etc/passwd", "passwd"),
        ("C:\\dir\\a b.txt", "a_b.txt"),
        ("ünïcode.txt", "_n_code.txt"),
        ("", "file"),
        ("..", "file"),
        ("dir/", "file"),
        ("x" * 200 + ".tar", "x" * 96 + ".tar"),
        ("x" * 200, "x" * 100),
        ("x" * 90 + "." + "y" * 30, "x" * 90 + "." + "y" * 9),
    ],
)
def test_names_are_cleaned_as_the_contract_says(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


async def said_to(workspace: Workspace, data: bytes) -> bytes:
    """Send bytes and return what comes until the connection ends."""
    with anyio.fail_after(DEADLINE):
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            await stream.send(data)
            answer = b""
            async for piece in stream:
                answer += piece
    return answer


async def listening(client: httpx.AsyncClient) -> None:
    with anyio.fail_after(DEADLINE):
        while True:
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await anyio.sleep(0.02)
