"""What a workspace is given at its start: secrets, model, instructions, its parent's files, its configuration."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from molecule_runtime.core.platform.wire import boot as wire
from molecule_runtime.localplatform import boot, configuration
from molecule_runtime.localplatform.store import instructions, secrets
from molecule_runtime.localplatform.store.database import migrations

from .support import FakeAgent, Member, Received, World, http_answer

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.anyio

HIDDEN = "tidal-7431-wave"


async def put_secret(world: World, member: Member, key: str, value: object) -> httpx.Response:
    body = {"key": key, "value": value}
    return await world.http.put(f"/workspaces/{member.id}/secrets", json=body, headers=member.auth)


async def values(world: World, member: Member) -> dict[str, str]:
    answer = await world.http.get(f"/workspaces/{member.id}/secrets/values", headers=member.auth)
    assert answer.status_code == 200, answer.text
    return cast("dict[str, str]", answer.json())


# Secrets


async def test_a_value_is_in_no_list_no_log_no_event_and_no_refusal(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await world.create("alice")
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    async with world.platform.bus.subscribe() as stream:
        for key, value in (("KEY", HIDDEN), ("not a key", HIDDEN), ("KEY", [HIDDEN]), ("KEY", HIDDEN + "\0")):
            texts.append((await put_secret(world, alice, key, value)).text)
        body = {"key": "ALL", "value": HIDDEN}
        texts.append((await world.http.post("/settings/secrets", json=body, headers=world.admin)).text)
        texts.append((await world.http.get("/settings/secrets", headers=world.admin)).text)
        texts.append((await world.http.get(f"/workspaces/{alice.id}/secrets", headers=alice.auth)).text)
        texts.append((await world.http.delete(f"/workspaces/{alice.id}/secrets/KEY", headers=alice.auth)).text)
        texts += [repr(frame) for frame in stream.take(100)]
    assert HIDDEN not in "".join(texts) + caplog.text
    assert await values(world, alice) == {"ALL": HIDDEN}


def test_shapes_do_not_show_values() -> None:
    shapes = [wire.SetSecretRequest(key="KEY", value=HIDDEN), wire.SecretValues({"KEY": HIDDEN})]
    assert HIDDEN not in repr(shapes) + str(shapes[0]) + str(shapes[1])


@pytest.mark.parametrize("key", ["", "1A", "A-B", "A B", "A\n", "Ä", "A" * 129, None, 7])
async def test_a_key_is_a_name_that_shells_take(world: World, key: object) -> None:
    alice = await world.create("alice")
    body = {"key": key, "value": "x"}
    answer = await world.http.post(f"/workspaces/{alice.id}/secrets", json=body, headers=alice.auth)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid request body")
    assert "a key has 1 to 128 letters" in answer.json()["hint"]


async def test_a_value_is_bounded_in_bytes(world: World) -> None:
    alice = await world.create("alice")
    for value, status in (
        ("", 400),
        ("a\0b", 400),
        ("x" * wire.MAX_SECRET_BYTES, 200),
        ("ä" * (wire.MAX_SECRET_BYTES // 2), 200),
        ("ä" * (wire.MAX_SECRET_BYTES // 2) + "x", 400),
        ("line\nline 🌊", 200),
    ):
        assert (await put_secret(world, alice, "KEY", value)).status_code == status
    assert await values(world, alice) == {"KEY": "line\nline 🌊"}


async def test_a_scope_has_a_bounded_number_of_secrets(world: World) -> None:
    alice = await world.create("alice")
    many = {f"KEY_{number}": "x" for number in range(secrets.MAX_KEYS)}
    await world.platform.store.write(secrets.put, alice.id, many, 1)
    refused = await put_secret(world, alice, "ONE_MORE", "x")
    assert (refused.status_code, refused.json()["error"]) == (409, "too many secrets")
    assert (await put_secret(world, alice, "KEY_0", "y")).status_code == 200
    found = await values(world, alice)
    assert ("ONE_MORE" not in found, found["KEY_0"], len(found)) == (True, "y", secrets.MAX_KEYS)


async def test_secrets_go_with_their_workspace(world: World) -> None:
    alice = await world.create("alice")
    await put_secret(world, alice, "KEY", HIDDEN)
    await world.http.delete(f"/workspaces/{alice.id}?purge=true", headers=world.admin)

    def left(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM secrets").fetchone()[0])

    assert await world.platform.store.read(left) == 0


class Runner:
    """A provisioner that writes down what it is told."""

    def __init__(self, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        self.restarted: list[str] = []

    def folder(self, workspace_id: str) -> Path:
        raise NotImplementedError

    def knows(self, workspace_id: str) -> bool:
        return workspace_id == self.workspace_id

    async def start(self, workspace_id: str) -> None:
        raise AssertionError(workspace_id)

    async def stop(self, workspace_id: str) -> None:
        raise AssertionError(workspace_id)

    async def restart(self, workspace_id: str) -> None:
        self.restarted.append(workspace_id)


async def test_a_process_that_runs_here_begins_anew_with_its_changed_secrets(world: World) -> None:
    alice, bob = await world.create("alice"), await world.create("bob")
    runner = Runner(alice.id)
    world.platform.hosting.attach(runner)
    await put_secret(world, bob, "KEY", "x")
    await put_secret(world, alice, "bad key", "x")
    assert runner.restarted == []
    await put_secret(world, alice, "KEY", "x")
    await world.http.put(f"/workspaces/{alice.id}/model", json={"model": "a:b"}, headers=alice.auth)
    await world.http.delete(f"/workspaces/{alice.id}/secrets/KEY", headers=alice.auth)
    assert runner.restarted == [alice.id] * 3
    await world.http.delete(f"/workspaces/{alice.id}/secrets/KEY", headers=alice.auth)
    assert len(runner.restarted) == 3


def test_a_model_that_was_chosen_before_becomes_the_secret() -> None:
    connection = sqlite3.connect(":memory:")
    for _, script in migrations():
        if "CREATE TABLE secrets" in script:
            connection.execute(
                "INSERT INTO workspaces (id, name, model, inbound_secret, created_at, updated_at)"
                " VALUES ('a', 'a', 'x:y', 's', 1, 1), ('b', 'b', '', 's', 1, 1)"
            )
            connection.commit()
        connection.executescript(script)
    connection.row_factory = sqlite3.Row
    assert secrets.values_for(connection, "a") == {"MODEL": "x:y"}
    assert secrets.values_for(connection, "b") == {}
    connection.close()


# Instructions


async def test_rules_are_one_text(world: World) -> None:
    alice, bob = await world.create("alice"), await world.create("bob")
    rules: list[dict[str, Any]] = [
        {"scope": "workspace", "scope_target": alice.id, "title": "Soup", "content": "Stir it."},
        {"scope": "global", "title": "Later", "content": "Wait.", "priority": 1},
        {"scope": "global", "title": "First", "content": "Knock.\nThen enter.", "priority": 9},
        {"scope": "workspace", "scope_target": bob.id, "title": "Bread", "content": "Knead it."},
        {"scope": "global", "title": "Off", "content": "Never.", "enabled": False},
    ]
    for rule in rules:
        answer = await world.http.post("/instructions", json=rule, headers=world.admin)
        assert answer.status_code == 201, answer.text
    answer = await world.http.get(f"/workspaces/{alice.id}/instructions/resolve", headers=alice.auth)
    text = (
        "\n## Platform-Wide Rules\n\n### First\nKnock.\nThen enter.\n\n### Later\nWait.\n\n"
        "\n## Role-Specific Rules\n\n### Soup\nStir it.\n\n"
    )
    assert answer.json() == {"workspace_id": alice.id, "instructions": text}


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "team"},
        {"scope": "other"},
        {"scope": "workspace"},
        {"scope": "workspace", "scope_target": "nobody"},
        {"scope_target": "nobody"},
        {"title": ""},
        {"title": "x" * 201},
        {"title": "two\nlines"},
        {"content": "x" * 8193},
        {"content": None},
        {"priority": "high"},
        {"priority": 2**31},
    ],
)
async def test_a_rule_that_is_none_is_refused(world: World, change: dict[str, Any]) -> None:
    rule = {"scope": "global", "title": "x" * 200, "content": "y" * 8192}
    refused = await world.http.post("/instructions", json={**rule, **change}, headers=world.admin)
    assert refused.status_code == 400, refused.text
    made = await world.http.post("/instructions", json=rule, headers=world.admin)
    if change.get("content", "") is not None:
        refused = await world.http.put(f"/instructions/{made.json()['id']}", json=change, headers=world.admin)
        assert refused.status_code == 400, refused.text
    assert len((await world.http.get("/instructions", headers=world.admin)).json()) == 1


async def test_a_rule_moves_between_scopes(world: World) -> None:
    alice = await world.create("alice")
    rule = {"scope": "global", "title": "Knock", "content": "Always."}
    path = f"/instructions/{(await world.http.post('/instructions', json=rule, headers=world.admin)).json()['id']}"
    for change, target in (
        ({"scope": "workspace", "scope_target": alice.id}, alice.id),
        ({"priority": 3}, alice.id),
        ({"scope": "global"}, None),
    ):
        assert (await world.http.put(path, json=change, headers=world.admin)).status_code == 200
        (row,) = (await world.http.get("/instructions", headers=world.admin)).json()
        assert (row["scope"], row["scope_target"]) == ("workspace" if target else "global", target)


async def test_there_is_a_bounded_number_of_rules(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "MAX_ROWS", 1)
    rule = {"scope": "global", "title": "Knock", "content": "Always."}
    assert (await world.http.post("/instructions", json=rule, headers=world.admin)).status_code == 201
    assert (await world.http.post("/instructions", json=rule, headers=world.admin)).status_code == 409


# Shared context


async def family(world: World, agent: FakeAgent, files: dict[str, bytes]) -> tuple[Member, Member]:
    """A parent whose agent has these files, and a child."""

    async def answer(request: Received) -> bytes:
        path = parse_qs(urlsplit(request.path).query)["path"][0]
        return http_answer(files[path]) if path in files else http_answer({"error": "file not found"}, 404)

    agent.answer = answer
    parent = await world.create("parent")
    await world.register(parent, agent)
    return parent, await world.create("child", parent_id=parent.id)


async def share(world: World, parent: Member, listed: object) -> None:
    path = f"/workspaces/{parent.id}/config"
    assert (await world.http.patch(path, json={"shared_context": listed}, headers=parent.auth)).status_code == 200


async def context(world: World, child: Member) -> list[tuple[str, str]]:
    answer = await world.http.get(f"/workspaces/{child.id}/shared-context", headers=child.auth)
    assert answer.status_code == 200, answer.text
    return [(file["path"], file["content"]) for file in answer.json()]


async def test_shared_files_are_asked_for_with_the_parents_inbound_secret(world: World, agent: FakeAgent) -> None:
    parent, child = await family(
        world, agent, {"/configs/docs/plan.md": b"Plan \xe2\x9c\x93", "/workspace/b.txt": b"B"}
    )
    secret = (await world.register(parent, agent))["platform_inbound_secret"]
    await share(world, parent, ["docs/plan.md", "/workspace/b.txt"])
    assert await context(world, child) == [("docs/plan.md", "Plan ✓"), ("/workspace/b.txt", "B")]
    assert {(request.method, urlsplit(request.path).path) for request in agent.received} == {
        ("GET", "/internal/file/read")
    }
    assert {request.headers["authorization"] for request in agent.received} == {f"Bearer {secret}"}


async def test_without_a_list_on_the_platform_the_parents_own_config_counts(world: World, agent: FakeAgent) -> None:
    files = {"/configs/config.yaml": b"name: parent\nshared_context:\n  - plan.md\n", "/configs/plan.md": b"Plan"}
    parent, child = await family(world, agent, files)
    assert await context(world, child) == [("plan.md", "Plan")]
    await share(world, parent, [])
    assert await context(world, child) == []


@pytest.mark.parametrize(
    "config",
    [
        b"shared_context: [plan.md",
        b"- plan.md",
        b"",
        b"\xff\xfe",
        b"shared_context: {a: b}",
        b"shared_context: [[plan.md], {a: b}]",
        b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n, n, n - 1, n - 1) for n in range(98, 122)),
        b"a: &a {x: x}\n" + b"".join(b"%c: &%c {<<: [*%c, *%c]}\n" % (n, n, n - 1, n - 1) for n in range(98, 122)),
        b"[" * 1_000,
        b"shared_context: [plan.md]\n#" + b"x" * boot.MAX_CONFIG_BYTES,
    ],
)
async def test_a_config_of_the_parent_that_is_none_shares_nothing(
    world: World, agent: FakeAgent, config: bytes
) -> None:
    _, child = await family(world, agent, {"/configs/config.yaml": config, "/configs/plan.md": b"Plan"})
    assert await context(world, child) == []


async def test_files_that_cannot_be_had_are_left_out_with_a_note(
    world: World, agent: FakeAgent, caplog: pytest.LogCaptureFixture
) -> None:
    files = {
        "/configs/large.md": b"x" * (boot.MAX_FILE_BYTES + 1),
        "/configs/picture.png": b"\x89PNG",
        "/configs/good.md": b"good",
        "/etc/passwd": b"root",
        "/configs/../etc/passwd": b"root",
    }
    parent, child = await family(world, agent, files)
    listed = [
        "gone.md",
        "large.md",
        "picture.png",
        "../etc/passwd",
        "a/../../etc/passwd",
        "good.md",
        "good.md",
        7,
        "",
        "//x",
    ]
    await share(world, parent, listed)
    assert await context(world, child) == [("good.md", "good")]
    for note in ("gone.md' is left out (HTTP 404)", "large.md' is left out", "picture.png' is left out", "is no path"):
        assert note in caplog.text
    assert "PNG" not in caplog.text


async def test_all_files_together_are_bounded(world: World, agent: FakeAgent) -> None:
    names = [f"{number}.md" for number in range(boot.MAX_FILES + 5)]
    parent, child = await family(world, agent, {f"/configs/{name}": b"x" * 1024 for name in names})
    await share(world, parent, names)
    assert [path for path, _ in await context(world, child)] == names[: boot.MAX_FILES]
    large = {f"/configs/{name}": b"x" * boot.MAX_FILE_BYTES for name in names}

    async def answer(request: Received) -> bytes:
        return http_answer(large[parse_qs(urlsplit(request.path).query)["path"][0]])

    agent.answer = answer
    assert [path for path, _ in await context(world, child)] == names[: boot.MAX_CONTEXT_BYTES // boot.MAX_FILE_BYTES]


async def test_what_does_not_arrive_in_time_is_left_out(
    world: World, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "CONTEXT_SECONDS", 0.5)

    async def answer(request: Received) -> bytes:
        if "slow" in request.path:
            await asyncio.get_running_loop().create_future()
        return http_answer(b"fast")

    parent, child = await family(world, agent, {})
    agent.answer = answer
    await share(world, parent, ["slow.md", "fast.md"])
    assert await context(world, child) == [("fast.md", "fast")]


async def test_nothing_is_shared_without_an_agent_that_may_be_called(world: World) -> None:
    polling = await world.create("polling")
    await world.register(polling)
    foreign = await world.http.post(
        "/workspaces", json={"name": "foreign", "external": True, "url": "http://10.0.0.1/"}, headers=world.admin
    )
    for parent_id in (None, polling.id, foreign.json()["id"]):
        child = await world.create("child", parent_id=parent_id)
        assert await context(world, child) == []


# Configuration


async def test_a_configuration_is_bounded(world: World) -> None:
    alice = await world.create("alice")
    path = f"/workspaces/{alice.id}/config"
    half = "x" * (configuration.MAX_BYTES // 2)
    assert (await world.http.patch(path, json={"a": half}, headers=alice.auth)).status_code == 200
    assert (await world.http.patch(path, json={"b": half}, headers=alice.auth)).status_code == 413
    assert (await world.http.patch(path, json={"a": half + half}, headers=alice.auth)).status_code == 413
    assert (await world.http.get(path, headers=alice.auth)).json() == {"data": {"a": half}}
    assert (await world.http.patch(path, json={"a": None}, headers=alice.auth)).status_code == 200
    assert (await world.http.get(path, headers=alice.auth)).json() == {"data": {"a": None}}
