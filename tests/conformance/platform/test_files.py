"""Files of a chat (contract 10, 24.9): passed on to workspaces that have a URL, kept for those that poll."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from .site import http_answer, refusal

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Member, Received, Site

pytestmark = pytest.mark.anyio

MEGABYTE = 1024 * 1024
NOBODY = "00000000-0000-4000-8000-000000000000"

File = tuple[str, bytes]


async def upload(site: Site, member: Member, *files: File, headers: dict[str, str] | None = None) -> httpx.Response:
    """Send files as the person, unless the headers say otherwise."""
    path = f"/workspaces/{member.id}/chat/uploads"
    form = [("files", file) for file in files]
    return await site.http.post(path, files=form, headers=site.admin if headers is None else headers)


async def poller(site: Site) -> Member:
    member = await site.create("poller")
    await site.register(member)
    return member


async def arrived(site: Site, member: Member) -> list[dict[str, Any]]:
    """Return what the inbox says of files."""
    rows = cast("list[dict[str, Any]]", await site.get(member, "activity", type="a2a_receive"))
    return [row["request_body"] for row in rows if row["method"] == "chat_upload_receive"]


async def fetch(site: Site, member: Member, file_id: str) -> httpx.Response:
    return await site.http.get(f"/workspaces/{member.id}/pending-uploads/{file_id}/content", headers=member.auth)


async def acknowledge(site: Site, member: Member, file_id: str) -> httpx.Response:
    return await site.http.post(f"/workspaces/{member.id}/pending-uploads/{file_id}/ack", headers=member.auth)


@pytest.mark.contract("24.9", era="june")
async def test_the_limits_of_uploads_are_public(site: Site) -> None:
    answer = await site.http.get("/uploads/limits")
    assert answer.status_code == 200
    caps = answer.json()
    assert caps
    assert all(isinstance(value, int) and value > 0 for value in caps.values())


@pytest.mark.contract("24.9", "24.4", era="june")
async def test_files_for_a_polling_workspace_wait_until_it_fetches_and_acknowledges_them(site: Site) -> None:
    alice = await poller(site)
    sent = await upload(site, alice, ("notes.txt", b"buy milk"), ("sun.png", b"\x89PNG\r\n\x1a\n\0"))
    assert sent.status_code == 200, sent.text
    notes, sun = sent.json()["files"]
    assert (notes["name"], notes["size"], notes["mimeType"]) == ("notes.txt", 8, "text/plain")
    assert (sun["name"], sun["size"], sun["mimeType"]) == ("sun.png", 9, "image/png")
    told = {row["name"]: row for row in await arrived(site, alice)}
    for file, data in ((notes, b"buy milk"), (sun, b"\x89PNG\r\n\x1a\n\0")):
        row = told[file["name"]]
        assert row.items() >= file.items()
        assert row["uri"] == f"platform-pending:{alice.id}/{row['file_id']}"
        content = await fetch(site, alice, row["file_id"])
        assert (content.status_code, content.content) == (200, data)
        acked = await acknowledge(site, alice, row["file_id"])
        assert (acked.status_code, acked.json()["acked"], acked.json().get("raced", False)) == (200, True, False)
        refusal(await fetch(site, alice, row["file_id"]), 404)
        again = await acknowledge(site, alice, row["file_id"])
        assert (again.status_code, again.json()) == (200, {"acked": True, "raced": True})
    assert len(told) == 2


@pytest.mark.contract("24.9", era="june")
async def test_a_file_is_fetched_again_until_it_is_acknowledged(site: Site) -> None:
    alice = await poller(site)
    await upload(site, alice, ("notes.txt", b"buy milk"))
    (row,) = await arrived(site, alice)
    for _ in range(2):
        assert (await fetch(site, alice, row["file_id"])).content == b"buy milk"


@pytest.mark.contract("24.9", "1.5", era="june")
async def test_a_file_that_waits_is_for_its_workspace_only(site: Site) -> None:
    alice, bob = await poller(site), await poller(site)
    await upload(site, alice, ("notes.txt", b"buy milk"))
    (row,) = await arrived(site, alice)
    path = f"/workspaces/{alice.id}/pending-uploads/{row['file_id']}"
    refusal(await site.http.get(f"{path}/content"), 401, "missing workspace auth token")
    refusal(await site.http.get(f"{path}/content", headers=bob.auth), 401, "invalid workspace auth token")
    refusal(await site.http.post(f"{path}/ack", headers=bob.auth), 401, "invalid workspace auth token")
    # Not under its own id either.
    refusal(await fetch(site, bob, row["file_id"]), 404)
    refusal(await acknowledge(site, bob, row["file_id"]), 404)
    assert (await fetch(site, alice, row["file_id"])).content == b"buy milk"


@pytest.mark.contract("24.9", era="june")
@pytest.mark.parametrize("file_id", ["nonsense", "..%2F..%2Fetc%2Fpasswd", "%00", NOBODY.upper(), "{" + NOBODY + "}"])
async def test_what_is_no_id_of_a_file_is_refused(site: Site, file_id: str) -> None:
    alice = await poller(site)
    assert (await fetch(site, alice, file_id)).status_code in {400, 404}
    assert (await acknowledge(site, alice, file_id)).status_code in {400, 404}
    refusal(await fetch(site, alice, str(uuid.uuid4())), 404)


@pytest.mark.contract("10.2", "24.9", era="june")
@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("my notes.txt", "my_notes.txt"),
        ("../../etc/passwd", "passwd"),
        ("a\\b\\c.txt", "c.txt"),
        ("naïve résumé?.pdf", "na_ve_r_sum__.pdf"),
        (f"{'x' * 200}.tar.gz", f"{'x' * 97}.gz"),
        ("x" * 200, "x" * 100),
        ("semi;colon&amp.txt", "semi_colon_amp.txt"),
    ],
)
async def test_names_of_files_are_made_harmless(site: Site, name: str, clean: str) -> None:
    alice = await poller(site)
    sent = await upload(site, alice, (name, b"x"))
    assert sent.status_code == 200, sent.text
    (file,) = sent.json()["files"]
    assert file["name"] == clean
    (row,) = await arrived(site, alice)
    disposition = (await fetch(site, alice, row["file_id"])).headers.get("content-disposition", "")
    assert "/" not in disposition
    assert "\\" not in disposition


@pytest.mark.contract("10.1", "21", era="june")
async def test_a_file_that_is_too_large_is_a_413_and_is_not_kept(site: Site) -> None:
    alice = await poller(site)
    refusal(await upload(site, alice, ("large.bin", b"\0" * (25 * MEGABYTE + 1))), 413)
    assert await arrived(site, alice) == []
    largest = await upload(site, alice, ("largest.bin", b"\0" * 25 * MEGABYTE))
    assert (largest.status_code, largest.json()["files"][0]["size"]) == (200, 25 * MEGABYTE)


@pytest.mark.contract("10.1", "21", era="june")
async def test_a_request_that_is_too_large_is_a_413(site: Site) -> None:
    alice = await poller(site)
    files = [(f"part {number}.bin", b"\0" * 18 * MEGABYTE) for number in range(3)]
    refusal(await upload(site, alice, *files), 413)
    assert await arrived(site, alice) == []


@pytest.mark.contract("10.1", era="june")
async def test_a_form_without_files_or_that_is_none_is_a_400(site: Site) -> None:
    alice = await poller(site)
    path, form = f"/workspaces/{alice.id}/chat/uploads", "multipart/form-data"
    for content, kind in (
        (b"", ""),
        (b"{}", "application/json"),
        (b"hello", form),
        (b"hello", f"{form}; boundary=x"),
        (b"--x\r\nnonsense\r\n\r\nhello\r\n--x--\r\n", f"{form}; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nhello\r\n--x--\r\n', f"{form}; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhel', f"{form}; boundary=x"),
    ):
        headers = {**alice.auth, "Content-Type": kind} if kind else alice.auth
        refusal(await site.http.post(path, content=content, headers=headers), 400)
    other = await site.http.post(path, files={"other": ("a.txt", b"a")}, headers=alice.auth)
    refusal(other, 400)
    assert await arrived(site, alice) == []


@pytest.mark.contract("10.1", "1.5", era="june")
async def test_files_are_sent_by_the_workspace_itself_and_the_person_only(site: Site) -> None:
    alice, bob = await poller(site), await poller(site)
    for headers, error in (({}, "missing workspace auth token"), (bob.auth, "invalid workspace auth token")):
        refusal(await upload(site, alice, ("a.txt", b"a"), headers=headers), 401, error)
    assert await arrived(site, alice) == []
    assert (await upload(site, alice, ("a.txt", b"a"), headers=alice.auth)).status_code == 200


@pytest.mark.contract("24.9", "10.1", era="june")
async def test_files_for_a_workspace_with_a_url_go_to_its_agent(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    secret = (await site.register(alice, agent))["platform_inbound_secret"]
    stored = {"files": [{"uri": "workspace:/workspace/.molecule/chat-uploads/0-a.txt", "name": "a.txt", "size": 5}]}

    async def ingest(request: Received) -> bytes:
        del request
        return http_answer(stored)

    agent.answer = ingest
    sent = await upload(site, alice, ("a.txt", b"hello"))
    assert (sent.status_code, sent.json()) == (200, stored)
    (request,) = agent.received
    assert (request.method, request.path) == ("POST", "/internal/chat/uploads/ingest")
    assert request.headers["authorization"] == f"Bearer {secret}"
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'name="files"; filename="a.txt"' in request.raw
    assert b"hello" in request.raw
    # What came of it must not carry the token of whoever sent the file.
    assert not site.server.admin_token or site.server.admin_token not in json.dumps(request.headers)


@pytest.mark.contract("24.9", "10.1", era="june")
@pytest.mark.parametrize(("answered", "status"), [(400, 400), (413, 413), (401, 502), (500, 502), (302, 502)])
async def test_an_agent_that_does_not_take_files_is_not_taken_for_one_that_did(
    site: Site, agent: Agent, answered: int, status: int
) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)

    async def refuse(request: Received) -> bytes:
        del request
        return http_answer({"error": "no"}, answered, headers="Location: http://localhost:1/\r\n")

    agent.answer = refuse
    refusal(await upload(site, alice, ("a.txt", b"hello")), status)
    assert len(agent.received) == 1


@pytest.mark.contract("10.1", "10.3", era="june")
async def test_an_agent_that_is_not_there_is_a_503(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)

    async def hang_up(request: Received) -> None:
        del request

    agent.answer = hang_up
    refusal(await upload(site, alice, ("a.txt", b"hello")), 503)
    path = f"/workspaces/{alice.id}/chat/download"
    refusal(await site.http.get(path, params={"path": "/workspace/a"}, headers=alice.auth), 503)


@pytest.mark.contract("10.3", "24.9", era="june")
async def test_a_file_is_read_from_the_workspace_with_its_inbound_secret(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    secret = (await site.register(alice, agent))["platform_inbound_secret"]

    async def read(request: Received) -> bytes:
        del request
        return http_answer(b"a,b\n1,2\n")

    agent.answer = read
    path = f"/workspaces/{alice.id}/chat/download"
    answer = await site.http.get(path, params={"path": "/workspace/my täble.csv"}, headers=alice.auth)
    assert (answer.status_code, answer.content) == (200, b"a,b\n1,2\n")
    assert answer.headers["content-type"].startswith("text/csv")
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment;")
    assert "filename*=UTF-8''my%20t%C3%A4ble.csv" in disposition
    (request,) = agent.received
    assert (request.method, request.headers["authorization"]) == ("GET", f"Bearer {secret}")
    asked = urlsplit(request.path)
    assert (asked.path, parse_qs(asked.query)) == ("/internal/file/read", {"path": ["/workspace/my täble.csv"]})


@pytest.mark.contract("10.3", era="april")
@pytest.mark.parametrize(
    "path",
    [
        "",
        "a.txt",
        "workspace/a.txt",
        "/etc/passwd",
        "/",
        "/workspace/../etc/passwd",
        "/workspace/./a",
        "/workspace//a",
        "//workspace/a",
        "/workspacex/a",
        "/home/../../etc/shadow",
        "/workspace/..",
    ],
)
async def test_only_clean_paths_under_the_agents_own_folders_are_read(site: Site, agent: Agent, path: str) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)
    url = f"/workspaces/{alice.id}/chat/download"
    refusal(await site.http.get(url, params={"path": path}, headers=alice.auth), 400)
    assert agent.received == []


@pytest.mark.contract("10.3", "1.5", era="june")
async def test_files_are_read_by_the_workspace_itself_and_the_person_only(site: Site, agent: Agent) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    await site.register(alice, agent)
    path, query = f"/workspaces/{alice.id}/chat/download", {"path": "/workspace/a"}
    refusal(await site.http.get(path, params=query), 401, "missing workspace auth token")
    refusal(await site.http.get(path, params=query, headers=bob.auth), 401, "invalid workspace auth token")
    refusal(await site.http.get(path, params={"path": "/workspace/a\0b"}, headers=alice.auth), 400)
    assert agent.received == []


@pytest.mark.contract("10.3", era="june")
async def test_a_file_that_is_missing_is_a_404_and_one_of_a_poller_a_503(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)

    async def missing(request: Received) -> bytes:
        del request
        return http_answer({"error": "file not found"}, 404)

    agent.answer = missing
    query = {"path": "/workspace/a.txt"}
    answer = await site.http.get(f"/workspaces/{alice.id}/chat/download", params=query, headers=alice.auth)
    refusal(answer, 404)
    bob = await poller(site)
    refusal(await site.http.get(f"/workspaces/{bob.id}/chat/download", params=query, headers=bob.auth), 503)
