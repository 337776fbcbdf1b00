"""Plugins that lie in the data folder: installed for workspaces that run here, packed for those that do not."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .support import Member, World

pytestmark = pytest.mark.anyio

FILES = {
    "plugin.yaml": b"name: greeter\nversion: 1.2.0\ndescription: Says hello.\nskills: [greet]\nruntimes: [claude_code]\n",
    "skills/greet/SKILL.md": b"---\nname: greet\n---\nSay hello.\n",
    "setup.sh": b"#!/bin/sh\n",
}


class Landlord:
    """Whoever runs a workspace here; it notes what it was told."""

    def __init__(self, workspace_id: str, folder: Path) -> None:
        self.workspace_id = workspace_id
        self.home = folder
        self.restarted = 0

    def knows(self, workspace_id: str) -> bool:
        return workspace_id == self.workspace_id

    def folder(self, workspace_id: str) -> Path:
        assert workspace_id == self.workspace_id
        return self.home

    async def start(self, workspace_id: str) -> None:
        raise NotImplementedError

    async def stop(self, workspace_id: str) -> None:
        raise NotImplementedError

    async def restart(self, workspace_id: str) -> None:
        assert workspace_id == self.workspace_id
        self.restarted += 1


def put_plugin(world: World, name: str = "greeter", **files: bytes) -> Path:
    folder = world.platform.settings.data / "plugins" / name
    for relative, content in {**FILES, **files}.items():
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        (folder / relative).write_bytes(content)
    (folder / "setup.sh").chmod(0o755)
    return folder


async def hosted(world: World, tmp_path: Path) -> tuple[Member, Landlord]:
    alice = await world.create("alice")
    await world.http.patch(f"/workspaces/{alice.id}", json={"runtime": "claude-code"}, headers=world.admin)
    landlord = Landlord(alice.id, tmp_path / "seat")
    world.platform.hosting.attach(landlord)
    return alice, landlord


async def install(world: World, member: Member, **body: Any) -> tuple[int, Any]:
    answer = await world.http.post(f"/workspaces/{member.id}/plugins", json=body, headers=member.auth)
    return answer.status_code, answer.json()


async def test_a_plugin_is_copied_to_the_workspace_and_the_workspace_started_anew(world: World, tmp_path: Path) -> None:
    put_plugin(world)
    alice, landlord = await hosted(world, tmp_path)
    status, body = await install(world, alice, source="local://greeter")
    assert (status, body) == (
        200,
        {"status": "installed", "plugin": "greeter", "source": "local://greeter", "restarting": True},
    )
    copy = landlord.home / "plugins" / "greeter"
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == set(FILES)
    assert ((copy / "setup.sh").stat().st_mode & 0o777, (copy / "plugin.yaml").stat().st_mode & 0o777) == (0o700, 0o600)
    assert landlord.restarted == 1
    listed = await world.http.get(f"/workspaces/{alice.id}/plugins", headers=alice.auth)
    assert [(row["name"], row["version"], row["supported_on_runtime"]) for row in listed.json()] == [
        ("greeter", "1.2.0", True)
    ]
    removed = await world.http.delete(f"/workspaces/{alice.id}/plugins/greeter", headers=alice.auth)
    assert (removed.json()["status"], copy.exists(), landlord.restarted) == ("uninstalled", False, 2)


async def test_a_plugin_that_changed_replaces_its_older_copy_whole(world: World, tmp_path: Path) -> None:
    folder = put_plugin(world)
    alice, landlord = await hosted(world, tmp_path)
    await install(world, alice, source="greeter")
    (folder / "setup.sh").unlink()
    await install(world, alice, source="greeter")
    assert not (landlord.home / "plugins" / "greeter" / "setup.sh").exists()
    assert [path.name for path in (landlord.home / "plugins").iterdir()] == ["greeter"]


async def test_what_is_not_the_wanted_plugin_is_not_installed(world: World, tmp_path: Path) -> None:
    put_plugin(world)
    alice, landlord = await hosted(world, tmp_path)
    right = hashlib.sha256(b"".join(name.encode() + b"\0" + FILES[name] for name in sorted(FILES))).hexdigest()
    assert (await install(world, alice, source="greeter", sha256="0" * 64))[0] == 422
    assert (landlord.restarted, (landlord.home / "plugins").exists()) == (0, False)
    assert (await install(world, alice, source="greeter", sha256=right))[0] == 200


async def test_a_plugin_for_another_runtime_is_refused(world: World, tmp_path: Path) -> None:
    put_plugin(world, "other", **{"plugin.yaml": b"runtimes: [codex]\n"})
    alice, _ = await hosted(world, tmp_path)
    status, body = await install(world, alice, source="other")
    assert (status, body["source"]) == (422, "other")
    names = [row["name"] for row in (await world.http.get("/plugins", params={"runtime": "claude-code"})).json()]
    assert (names, len((await world.http.get("/plugins")).json())) == ([], 1)


async def test_a_link_out_of_the_plugin_is_refused_and_nothing_is_left(world: World, tmp_path: Path) -> None:
    folder = put_plugin(world)
    (folder / "skills" / "token").symlink_to(world.platform.settings.data / "admin_token")
    alice, landlord = await hosted(world, tmp_path)
    status, body = await install(world, alice, source="greeter")
    assert (status, "skills/token" in body["error"]) == (422, True)
    assert list((landlord.home / "plugins").iterdir()) == []


async def test_a_workspace_that_runs_elsewhere_is_told_to_fetch_it_and_can(world: World) -> None:
    put_plugin(world)
    alice = await world.create("alice")
    status, body = await install(world, alice, source="greeter")
    assert (status, "/plugins/greeter/download" in body["hint"]) == (422, True)
    path = f"/workspaces/{alice.id}/plugins/greeter/download"
    answer = await world.http.get(path, headers=alice.auth)
    assert (answer.headers["x-plugin-name"], answer.headers["content-type"]) == ("greeter", "application/gzip")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert {entry.name for entry in archive} == {f"greeter/{name}" for name in FILES}
    again = await world.http.get(path, headers=alice.auth)
    assert again.content == answer.content
