"""`molecule-local export` and `import`, and a platform that goes on with what was imported."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from molecule_runtime.localplatform import LocalSettings, serve

from .shell import SECONDS, Shell, ran, started
from .support import Clock, FakeAgent, World

if TYPE_CHECKING:
    from pathlib import Path

    from .support import Member

pytestmark = pytest.mark.anyio


@pytest.fixture
def shell(world: World) -> Shell:
    return Shell(world)


async def at_work(world: World, agent: FakeAgent) -> tuple[Member, Member]:
    """A team with a bit of everything behind it."""
    lead = await world.create("lead", delivery_mode="poll")
    calc = await world.create("calc", parent_id=lead.id)
    await world.register(lead)
    await world.register(calc, agent)
    await world.send(lead, calc, "17 * 23, ¿cuánto es?")
    await world.send(calc, lead, "are you there?")
    body = {"kind": "approval", "recipient_type": "user", "title": "Deploy?"}
    await world.http.post(f"/workspaces/{lead.id}/requests", json=body, headers=lead.auth)
    file = {"files": ("a.bin", bytes(range(256)) * 2000)}
    await world.http.post(f"/workspaces/{lead.id}/chat/uploads", files=file, headers=world.admin)
    await world.http.post(
        f"/workspaces/{calc.id}/delegate", json={"target_id": lead.id, "task": "rest"}, headers=calc.auth
    )
    await world.settle()
    return lead, calc


def tables(text: str) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = json.loads(text)["tables"]
    return found


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def contents_of(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}


async def test_a_platform_goes_on_with_what_was_imported(
    world: World, shell: Shell, agent: FakeAgent, tmp_path: Path
) -> None:
    lead, calc = await at_work(world, agent)
    file = tmp_path / "team.json"
    done = await ran(shell.folder, "export", "--with-secrets", str(file))  # while the platform runs
    assert done.said.startswith(f"exported to {file}: ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    copy = tmp_path / "copy"
    counts = (await ran(copy, "import", str(file), "--json")).data["rows"]
    assert (counts["workspaces"], counts["requests"], counts["uploads"]) == (2, 1, 1)
    async with (
        serve(LocalSettings(data=copy, port=0, clock=Clock())) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        again = World(platform, http, world.clock)
        # The same tokens, the same inbox behind the same cursor, the same files.
        before = await world.activity(lead)
        assert await again.activity(lead) == before
        assert (await again.send(lead, calc, "and 2 * 2?")).json()["result"]["parts"][0]["text"] == "hello"
        (new,) = await again.activity(calc, since_id=(await world.activity(calc))[0]["id"])
        assert new["seq"] > max(row["seq"] for row in [*before, *await world.activity(calc)])
        (upload,) = [row for row in before if row["method"] == "chat_upload_receive"]
        path = f"/workspaces/{lead.id}/pending-uploads/{upload['request_body']['file_id']}/content"
        assert (await http.get(path, headers=lead.auth)).content == bytes(range(256)) * 2000
        rows = (await http.get("/requests/pending", headers=again.admin)).json()
        assert [row["title"] for row in rows] == ["Deploy?"]


async def test_what_was_imported_is_exported_again_to_the_letter(
    world: World, shell: Shell, agent: FakeAgent, tmp_path: Path
) -> None:
    await at_work(world, agent)
    first = (await ran(shell.folder, "export", "--with-secrets")).said
    copy = tmp_path / "copy"
    assert (await ran(copy, "import", "-", stdin=first.encode())).code == 0
    second = (await ran(copy, "export", "--with-secrets")).said
    assert tables(second) == tables(first)
    assert json.loads(second)["sequences"] == json.loads(first)["sequences"]
    assert [name for name in names_in(copy) if not name.startswith("molecule.db")] == ["lock"]


async def test_without_secrets_agents_get_new_tokens_when_they_register(
    world: World, shell: Shell, agent: FakeAgent, tmp_path: Path
) -> None:
    lead, _ = await at_work(world, agent)
    file = tmp_path / "team.json"
    done = await ran(shell.folder, "export", str(file))
    assert "without tokens" in done.err
    text = file.read_text()
    for secret in (lead.token, lead.token[:8], world.platform.admin_token):
        assert secret not in text
    copy = tmp_path / "copy"
    assert "no tokens" in (await ran(copy, "import", str(file))).said
    async with (
        serve(LocalSettings(data=copy, port=0)) as platform,
        httpx.AsyncClient(base_url=platform.url, trust_env=False) as http,
    ):
        card = {"id": lead.id, "agent_card": {"name": "lead"}, "delivery_mode": "poll"}
        answer = (await http.post("/registry/register", json=card)).json()
        assert answer["platform_inbound_secret"]
        rows = await http.get(
            f"/workspaces/{lead.id}/activity", headers={"Authorization": f"Bearer {answer['auth_token']}"}
        )
        assert rows.status_code == 200
        assert len(rows.json()) > 1


async def test_a_team_is_replaced_only_on_request_and_a_copy_of_it_stays(
    world: World, shell: Shell, tmp_path: Path
) -> None:
    await world.create("from the export")
    file = tmp_path / "team.json"
    await ran(shell.folder, "export", str(file))
    data = tmp_path / "other"
    async with started(data, "up", "--port", "0", "--json") as platform:
        await platform.out_line()
        await ran(data, "workspace", "create", "was there")
        # What it wrote last is still beside the database when it is killed.
        platform.process.kill()
        await platform.process.wait()
    refused = await ran(data, "import", str(file))
    assert (refused.code, refused.out, len(refused.err.splitlines())) == (1, "", 1)
    assert "--replace" in refused.err
    assert [row["name"] for row in tables((await ran(data, "export")).said)["workspaces"]] == ["was there"]
    done = (await ran(data, "import", str(file), "--replace", "--json")).data
    assert [row["name"] for row in tables((await ran(data, "export")).said)["workspaces"]] == ["from the export"]
    assert stat.S_IMODE(os.stat(done["backup"]).st_mode) == 0o600  # noqa: PTH116
    with closing(sqlite3.connect(done["backup"])) as connection:
        assert connection.execute("SELECT name FROM workspaces").fetchall() == [("was there",)]


async def test_an_export_that_does_not_fit_changes_nothing(world: World, shell: Shell, tmp_path: Path) -> None:
    await world.create("kept")
    text = (await ran(shell.folder, "export")).said
    data = tmp_path / "other"
    await ran(data, "import", "-", stdin=text.encode())
    before = contents_of(data)
    for broken in (text[:-10], text.replace('"tier":3', '"tier":"three"'), text.replace('"version":1', '"version":9')):
        done = await ran(data, "import", "-", "--replace", stdin=broken.encode())
        assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
        assert contents_of(data) == before


async def test_nothing_is_imported_under_a_platform_that_runs(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "team.json"
    await ran(shell.folder, "export", str(file))
    done = await ran(shell.folder, "import", str(file), "--replace")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "in use" in done.err


async def test_a_failed_export_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "molecule.db").write_bytes(b"no database" * 1000)
    file = tmp_path / "backup.json"
    file.write_text("yesterday's")
    done = await ran(data, "export", str(file))
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert file.read_text() == "yesterday's"
    assert names_in(tmp_path) == ["backup.json", "data"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export"], "no database"),
        (["export", "/nowhere/at/all.json"], "cannot be written"),
        (["import"], "FILE"),
        (["import", "/nowhere/at/all.json"], "/nowhere/at/all.json"),
        (["import", "/dev/null"], "not the JSON"),
    ],
)
async def test_what_is_missing_is_said_in_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = await ran(tmp_path / "data", *arguments)
    assert done.code in {1, 2}
    assert (done.out, len(done.err.splitlines())) == ("", 1)
    assert said in done.err


async def test_a_target_that_cannot_be_written_is_said(shell: Shell) -> None:
    done = await ran(shell.folder, "export", "/nowhere/at/all.json")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "'/nowhere/at/all.json' cannot be written" in done.err


async def test_an_export_while_agents_write_is_one_consistent_moment(
    world: World, shell: Shell, agent: FakeAgent, tmp_path: Path
) -> None:
    lead, calc = await at_work(world, agent)
    exports: list[str] = []
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as group:

            async def go_on() -> None:
                while True:
                    new = await world.create("new", parent_id=lead.id, delivery_mode="poll")
                    await world.send(lead, new, "welcome")

            group.start_soon(go_on)
            exports += [(await ran(shell.folder, "export")).said for _ in range(3)]
            group.cancel_scope.cancel()
    for number, text in enumerate(exports):
        # Every row that is referred to is there, else the import would refuse.
        done = await ran(tmp_path / f"copy-{number}", "import", "-", stdin=text.encode())
        assert done.code == 0, done.err
    assert all(calc.id in text for text in exports)
    assert len(exports) == 3
