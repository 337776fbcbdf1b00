"""Values by key and checkpoints: their bounds and their ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.localplatform.checkpoints import MAX_PAYLOAD_BYTES
from molecule_runtime.localplatform.keyvalue import MAX_VALUE_BYTES
from molecule_runtime.localplatform.store import checkpoints, key_values
from molecule_runtime.localplatform.web import MAX_NESTING

if TYPE_CHECKING:
    import sqlite3

    import httpx

    from .support import Clock, Member, World

pytestmark = pytest.mark.anyio

DEEPEST = MAX_NESTING - 1
"""Of a value, since its body is one level more."""


async def put(world: World, member: Member, key: str, value: object, **fields: Any) -> httpx.Response:
    body = {"key": key, "value": value, **fields}
    return await world.http.post(f"/workspaces/{member.id}/memory", json=body, headers=member.auth)


async def keys(world: World, member: Member) -> list[str]:
    answer = await world.http.get(f"/workspaces/{member.id}/memory", headers=member.auth)
    assert answer.status_code == 200, answer.text
    return [row["key"] for row in answer.json()]


async def done(world: World, member: Member, step: str, payload: object = None, **fields: Any) -> httpx.Response:
    body = {"workflow_id": "wf", "step_name": step, "payload": payload, **fields}
    return await world.http.post(f"/workspaces/{member.id}/checkpoints", json=body, headers=member.auth)


async def test_a_value_that_has_ended_is_not_there_and_its_key_begins_anew(world: World, clock: Clock) -> None:
    alice = await world.create()
    await put(world, alice, "k", 1)
    await put(world, alice, "k", 2, ttl_seconds=60)
    await put(world, alice, "stays", 1)
    clock.now += 61
    assert await keys(world, alice) == ["stays"]
    missing = await world.http.get(f"/workspaces/{alice.id}/memory/k", headers=alice.auth)
    assert (missing.status_code, missing.json()["error"]) == (404, "key not found")
    conflict = await put(world, alice, "k", 3, if_match_version=2)
    assert (conflict.status_code, conflict.json()["current_version"]) == (409, None)
    assert (await put(world, alice, "k", 3, if_match_version=0, ttl_seconds=60)).json()["version"] == 1
    clock.now += 61
    await world.platform.sweep()

    def left(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM key_values").fetchone()[0])

    assert await world.platform.store.read(left) == 1


async def test_the_end_of_values_is_found_without_reading_them(world: World) -> None:
    def plan(connection: sqlite3.Connection) -> str:
        (row,) = connection.execute("EXPLAIN QUERY PLAN DELETE FROM key_values WHERE expires_at <= 1")
        return str(row["detail"])

    assert "key_values_by_end" in await world.platform.store.read(plan)


@pytest.mark.parametrize(
    "fields",
    [{"ttl_seconds": -1}, {"ttl_seconds": 1.5}, {"ttl_seconds": 10**12}, {"if_match_version": -1}, {"key": "k" * 257}],
)
async def test_wrong_fields_are_refused_by_name(world: World, fields: dict[str, Any]) -> None:
    alice = await world.create()
    body = {"key": "k", "value": 1, **fields}
    refused = await world.http.post(f"/workspaces/{alice.id}/memory", json=body, headers=alice.auth)
    assert refused.status_code == 400
    assert next(iter(fields)) in refused.json()["hint"]
    assert await keys(world, alice) == []


async def test_a_value_has_256_kib_at_most(world: World) -> None:
    alice = await world.create()
    assert (await put(world, alice, "k", "x" * (MAX_VALUE_BYTES - 2))).status_code == 200
    refused = await put(world, alice, "k", "x" * (MAX_VALUE_BYTES - 1))
    assert (refused.status_code, refused.json()["max_bytes"]) == (413, MAX_VALUE_BYTES)
    assert (await put(world, alice, "k" * 256, 1)).status_code == 200


async def test_all_values_of_a_workspace_fit_into_one_answer(world: World, clock: Clock) -> None:
    alice = await world.create()
    large = "ß" * (MAX_VALUE_BYTES // 2 - 1)
    many = key_values.MAX_BYTES // MAX_VALUE_BYTES
    for number in range(many):
        assert (await put(world, alice, f"k{number}", large, ttl_seconds=60)).status_code == 200
    refused = await put(world, alice, "one more", large)
    assert (refused.status_code, refused.json()["error"]) == (409, "too many values")
    assert (await put(world, alice, "k0", large)).status_code == 200  # in the place of another
    assert len(await keys(world, alice)) == many
    clock.now += 61
    assert (await put(world, alice, "one more", large)).status_code == 200
    assert await keys(world, alice) == ["k0", "one more"]


async def test_a_workspace_has_1000_keys_at_most(world: World, clock: Clock) -> None:
    alice = await world.create()

    def fill(connection: sqlite3.Connection) -> None:
        for number in range(key_values.MAX_KEYS):
            key_values.put(connection, alice.id, f"k{number}", "1", version=1, expires_at=None, now=0)

    await world.platform.store.write(fill)
    assert (await put(world, alice, "one more", 1)).status_code == 409
    assert (await put(world, alice, "k7", 2)).json()["version"] == 2


async def test_a_payload_and_all_payloads_of_a_workflow_are_bounded(world: World) -> None:
    alice = await world.create()
    refused = await done(world, alice, "s", "x" * (MAX_PAYLOAD_BYTES - 1))
    assert (refused.status_code, refused.json()["max_bytes"]) == (413, MAX_PAYLOAD_BYTES)
    large = "x" * (MAX_PAYLOAD_BYTES - 2)
    for number in range(checkpoints.MAX_BYTES // MAX_PAYLOAD_BYTES):
        assert (await done(world, alice, f"s{number}", large, step_index=number)).status_code == 201
    refused = await done(world, alice, "one more", large)
    assert (refused.status_code, refused.json()["error"]) == (409, "too many steps")
    assert (await done(world, alice, "s0", large)).status_code == 201  # in the place of another
    assert (await done(world, alice, "one more", large, workflow_id="another")).status_code == 201
    answer = await world.http.get(f"/workspaces/{alice.id}/checkpoints/wf", headers=alice.auth)
    assert [row["step_index"] for row in json.loads(answer.content)] == [7, 6, 5, 4, 3, 2, 1, 0]


async def test_a_slash_in_a_key_or_in_the_id_of_a_workflow_is_part_of_it(world: World) -> None:
    alice = await world.create()
    base = f"/workspaces/{alice.id}"
    await put(world, alice, "a/b c", 1)
    await done(world, alice, "s", workflow_id="repo/run/1")
    for path in ("memory/a%2Fb%20c", "memory/a%2fb c", "checkpoints/repo%2Frun%2F1"):
        answer = await world.http.get(f"{base}/{path}", headers=alice.auth)
        assert answer.status_code == 200, path
    assert (await world.http.get(f"{base}/memory/a/b c", headers=alice.auth)).status_code == 404
    await world.http.delete(f"{base}/memory/a%2Fb%20c", headers=alice.auth)
    assert await keys(world, alice) == []
    gone = await world.http.delete(f"{base}/checkpoints/repo%2Frun%2F1", headers=alice.auth)
    assert gone.json() == {"deleted": 1, "workflow_id": "repo/run/1"}


@pytest.mark.parametrize(("opening", "inside", "closing"), [("[", "", "]"), ("[", "1", "]"), ('{"a":', "{}", "}")])
async def test_what_is_nested_too_deeply_is_refused_and_spoils_no_list(
    world: World, opening: str, inside: str, closing: str
) -> None:
    alice = await world.create()
    base = f"/workspaces/{alice.id}"

    async def keep(depth: int) -> list[int]:
        outer = depth - (inside == "{}")
        value = opening * outer + inside + closing * outer
        bodies = {
            "memory": f'{{"key": "k{depth}", "value": {value}}}',
            "checkpoints": f'{{"workflow_id": "wf", "step_name": "s{depth}", "payload": {value}}}',
        }
        answers = [
            await world.http.post(f"{base}/{path}", content=body, headers=alice.auth) for path, body in bodies.items()
        ]
        assert all("nested" in answer.json()["hint"] for answer in answers if answer.status_code == 400)
        return [answer.status_code for answer in answers]

    assert await keep(DEEPEST) == [200, 201]
    # From there to where the reader of JSON gives up, which is a little behind where the writer does.
    for depth in (DEEPEST + 1, 500, *range(900, 1000)):
        assert await keep(depth) == [400, 400], depth
    assert await keys(world, alice) == [f"k{DEEPEST}"]
    (step,) = (await world.http.get(f"{base}/checkpoints/wf", headers=alice.auth)).json()
    assert step["step_name"] == f"s{DEEPEST}"


async def test_values_and_checkpoints_go_with_their_workspace(world: World) -> None:
    alice = await world.create()
    await put(world, alice, "k", 1)
    await done(world, alice, "s")
    await world.http.delete(f"/workspaces/{alice.id}?confirm=true&purge=true", headers=world.admin)

    def left(connection: sqlite3.Connection) -> list[int]:
        tables = ("key_values", "checkpoints")
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]  # noqa: S608 - two names

    assert await world.platform.store.read(left) == [0, 0]
