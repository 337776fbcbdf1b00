"""What the platform holds of files: names, kinds, and how much of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.conformance.platform.raw import dialled, request

from molecule_runtime.localplatform import files

from .support import WAIT_SECONDS, Received, http_answer

if TYPE_CHECKING:
    import httpx

    from .support import FakeAgent, Member, World

pytestmark = pytest.mark.anyio


async def upload(
    world: World, member: Member, *sent: tuple[Any, ...], headers: dict[str, str] | None = None
) -> httpx.Response:
    form = [("files", file) for file in sent]
    path = f"/workspaces/{member.id}/chat/uploads"
    return await world.http.post(path, files=form, headers=world.admin if headers is None else headers)


async def poller(world: World) -> Member:
    member = await world.create()
    await world.register(member)
    return member


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.txt", "a.txt"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("/", "file"),
        (".bashrc", "bashrc"),
        ("../../.ssh/authorized_keys", "authorized_keys"),
        ("C:\\Users\\x\\a.txt", "a.txt"),
        ("a b\tc\n.txt", "a_b_c_.txt"),
        ("名前.txt", "__.txt"),
        ("a\0b.txt", "a_b.txt"),
        ('"; rm -rf ~.txt', "___rm_-rf__.txt"),
        ("x" * 101, "x" * 100),
        ("x" * 99 + ".pdf", "x" * 96 + ".pdf"),
        ("x." + "y" * 150, "x." + "y" * 98),
    ],
    ids=lambda text: f"{len(text)} {text[:20]!r}",
)
def test_a_name_is_made_harmless(name: str, clean: str) -> None:
    assert files.clean_name(name) == clean


async def test_what_a_file_is_comes_from_whoever_sends_it_or_from_its_name(world: World) -> None:
    alice = await poller(world)
    sent = await upload(
        world,
        alice,
        ("a.txt", b"a", "text/markdown"),
        ("b.txt", b"b", "application/octet-stream"),
        ("c.csv", b"c", "nonsense"),
        ("d", b"d", 'text/html"><script>'),
        ("e.unheard-of", b"e"),
    )
    kinds = [file["mimeType"] for file in sent.json()["files"]]
    assert kinds == ["text/markdown", "text/plain", "text/csv", "application/octet-stream", "application/octet-stream"]


async def test_a_file_is_never_shown_by_a_browser(world: World) -> None:
    alice = await poller(world)
    page = b"<script>alert(1)</script>"
    await upload(world, alice, ("page.html", page, "text/html"))
    (row,) = await world.activity(alice, type="a2a_receive")
    file_id = row["request_body"]["file_id"]
    answer = await world.http.get(f"/workspaces/{alice.id}/pending-uploads/{file_id}/content", headers=alice.auth)
    assert answer.content == page
    assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_request_holds_so_many_files_and_no_more(world: World) -> None:
    alice = await poller(world)
    some = [(f"{number}.txt", b"x") for number in range(files.MAX_FILES)]
    assert len((await upload(world, alice, *some)).json()["files"]) == files.MAX_FILES
    answer = await upload(world, alice, *some, ("more.txt", b"x"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid form")
    assert len(await world.activity(alice)) == files.MAX_FILES


async def test_what_waits_for_a_workspace_is_bounded_in_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_WAITING_FILES", 3)
    alice, bob = await poller(world), await poller(world)
    assert (await upload(world, alice, ("a", b"x"), ("b", b"x"))).status_code == 200
    answer = await upload(world, alice, ("c", b"x"), ("d", b"x"))
    assert (answer.status_code, answer.json()["error"]) == (413, "too many files wait for this workspace")
    assert (await upload(world, bob, ("c", b"x"), ("d", b"x"))).status_code == 200
    rows = await world.activity(alice, type="a2a_receive")
    assert sorted(row["request_body"]["name"] for row in rows) == ["a", "b"]
    file_id = rows[0]["request_body"]["file_id"]
    await world.http.post(f"/workspaces/{alice.id}/pending-uploads/{file_id}/ack", headers=alice.auth)
    assert (await upload(world, alice, ("c", b"x"), ("d", b"x"))).status_code == 200


async def test_what_waits_for_a_workspace_is_bounded_in_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_WAITING_BYTES", 1_000)
    alice = await poller(world)
    assert (await upload(world, alice, ("a", b"x" * 900))).status_code == 200
    assert (await upload(world, alice, ("b", b"x" * 101))).status_code == 413
    assert (await upload(world, alice, ("c", b"x" * 100))).status_code == 200


async def test_what_a_workspace_uploads_itself_is_no_message_to_it(world: World) -> None:
    alice = await poller(world)
    sent = await upload(world, alice, ("a.txt", b"a"), headers=alice.auth)
    assert sent.json()["files"][0]["uri"].startswith(f"platform-pending:{alice.id}/")
    assert await world.activity(alice) == []


async def test_files_that_do_not_arrive_are_a_408_and_hold_no_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "UPLOAD_SECONDS", 0.3)
    alice = await poller(world)
    target = f"/workspaces/{alice.id}/chat/uploads".encode()
    form = b"Content-Type: multipart/form-data; boundary=x"
    begun = request(world.platform.url, b"POST", target, alice.auth, form, length=1_000_000)
    begun += b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nhel'

    async def wait_for_refusal() -> None:
        async with dialled(world.platform.url) as line:
            await line.send(begun)
            reply = await line.reply()
            assert reply is not None
            assert (reply.status, reply.error) == (408, "the files did not arrive in time")
            assert reply.json["hint"]

    # More than may be in memory at once: each has its turn, and then a good one has its.
    with anyio.fail_after(WAIT_SECONDS):
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(wait_for_refusal)
        assert (await upload(world, alice, ("a.txt", b"a"))).status_code == 200


async def test_an_agent_that_does_not_take_the_files_in_time_is_a_503(
    world: World, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "UPLOAD_SECONDS", 0.3)
    alice = await world.create()
    await world.register(alice, agent)

    async def silent(request: Received) -> None:
        await anyio.sleep_forever()

    agent.answer = silent
    query = {"path": "/workspace/a.txt"}
    answer = await world.http.get(f"/workspaces/{alice.id}/chat/download", params=query, headers=alice.auth)
    assert (answer.status_code, answer.json()["error"]) == (503, "workspace container not running")


async def test_an_upload_that_is_too_large_for_a_workspace_with_a_url_is_a_413(
    world: World, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_REQUEST_BYTES", 100_000)
    alice = await world.create()
    await world.register(alice, agent)
    answer = await upload(world, alice, ("a.bin", b"\0" * 300_000))
    assert answer.status_code == 413, answer.text
    assert answer.json()["hint"]


async def test_a_redirect_of_an_agent_is_not_followed(world: World, agent: FakeAgent) -> None:
    alice = await world.create()
    await world.register(alice, agent)

    async def elsewhere(request: Received) -> bytes:
        return http_answer({}, 302, headers=f"Location: {agent.url}stolen\r\n")

    agent.answer = elsewhere
    query = {"path": "/workspace/a.txt"}
    answer = await world.http.get(f"/workspaces/{alice.id}/chat/download", params=query, headers=alice.auth)
    assert answer.status_code == 502
    assert [request.path.partition("?")[0] for request in agent.received] == ["/internal/file/read"]
