"""What agents remember: its bounds, its end, its index, and what the API alone does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.localplatform.store import memories

if TYPE_CHECKING:
    import sqlite3

    import httpx

    from .support import Clock, Member, World

pytestmark = pytest.mark.anyio


async def remember(world: World, member: Member, content: str, scope: str = "LOCAL", **fields: Any) -> httpx.Response:
    body = {"content": content, "scope": scope, **fields}
    return await world.http.post(f"/workspaces/{member.id}/memories", json=body, headers=member.auth)


async def recalled(world: World, member: Member, **query: Any) -> list[str]:
    answer = await world.http.get(f"/workspaces/{member.id}/memories", params=query, headers=member.auth)
    assert answer.status_code == 200, answer.text
    return [row["content"] for row in answer.json()]


async def listed(world: World, member: Member, **query: Any) -> list[dict[str, Any]]:
    answer = await world.http.get(f"/workspaces/{member.id}/v2/memories", params=query, headers=member.auth)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["memories"]
    return rows


async def count(world: World, query: str) -> int:
    def read(connection: sqlite3.Connection) -> int:
        return int(connection.execute(query).fetchone()[0])

    return await world.platform.store.read(read)


async def test_a_content_has_64_kib_at_most_and_the_refusal_says_so(world: World) -> None:
    alice = await world.create()
    assert (await remember(world, alice, "x" * 65_536)).status_code == 201
    refused = await remember(world, alice, "ß" * 32_769)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid request body")
    assert "65536 bytes" in refused.json()["hint"]


async def test_a_memory_that_has_ended_is_neither_shown_nor_found_and_then_gone(world: World, clock: Clock) -> None:
    alice = await world.create()
    await remember(
        world, alice, "the gate is open", expires_at="2027-01-15T09:00:00Z"
    )  # an hour after the clock's start
    await remember(world, alice, "the gate is green")
    assert [row.get("expires_at") for row in await listed(world, alice)] == [None, "2027-01-15T09:00:00.000000Z"]
    clock.now += 3601
    assert await recalled(world, alice) == ["the gate is green"]
    assert await recalled(world, alice, q="gate") == ["the gate is green"]
    assert [row["content"] for row in await listed(world, alice, q="gate")] == ["the gate is green"]
    assert await count(world, "SELECT count(*) FROM memories") == 2
    await world.platform.sweep()
    assert await count(world, "SELECT count(*) FROM memories") == 1
    assert await count(world, "SELECT count(*) FROM memories_fts WHERE memories_fts MATCH 'gate'") == 1


@pytest.mark.parametrize("end", ["tomorrow", "2027-01-15", "2020-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00"])
async def test_an_end_is_a_moment_in_the_future_that_can_be_told(world: World, end: str) -> None:
    alice = await world.create()
    assert (await remember(world, alice, "x", expires_at=end)).status_code == 400
    assert await listed(world, alice) == []


async def test_the_index_follows_the_rows(world: World) -> None:
    parent = await world.create("parent")
    child = await world.create("child", parent_id=parent.id)
    await remember(world, child, "kestrels hover")
    forgotten = (await remember(world, parent, "kestrels nest")).json()["id"]
    await world.http.delete(f"/workspaces/{parent.id}/v2/memories/{forgotten}", headers=parent.auth)
    indexed = "SELECT count(*) FROM memories_fts WHERE memories_fts MATCH 'kestrel'"
    assert await count(world, indexed) == 1
    await world.http.delete(f"/workspaces/{child.id}?confirm=true&purge=true", headers=world.admin)
    assert await count(world, indexed) == 0

    def check(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO memories_fts (memories_fts, rank) VALUES ('integrity-check', 1)")

    await world.platform.store.write(check)


async def test_a_question_in_plain_words_is_found_by_the_words_that_say_something(world: World) -> None:
    alice = await world.create()
    await remember(world, alice, "Deployment day: Monday")
    await remember(world, alice, "The cafe\u0301 of Zürich is called İstanbul")
    assert await recalled(world, alice, q="What's the deployment day, and can you tell?") == []
    assert await recalled(world, alice, q="What's our deployment's day?") == ["Deployment day: Monday"]
    for text in ("café", "CAFE\u0301", "cafe", "zurich", "İSTANBUL"):
        assert len(await recalled(world, alice, q=text)) == 1, text
    assert await recalled(world, alice, q="don't you") == []
    assert await recalled(world, alice, q="___") == []
    assert await recalled(world, alice, q="day \x00 ___ \U0001f600") == ["Deployment day: Monday"]


async def test_the_best_match_comes_first(world: World) -> None:
    alice = await world.create()
    await remember(world, alice, "owl owl owl")
    await remember(world, alice, "an owl among many other birds that live in the old forest behind the mill")
    assert (await recalled(world, alice, q="owls"))[0] == "owl owl owl"
    scores = [row["score"] for row in await listed(world, alice, q="owls")]
    assert scores == sorted(scores, reverse=True)


async def test_another_organisations_memories_are_not_in_the_namespace_of_ones_own(world: World) -> None:
    one, two = await world.create("one"), await world.create("two")
    child = await world.create("child", parent_id=one.id)
    await remember(world, one, "the first rule", "GLOBAL")
    await remember(world, two, "the second rule", "GLOBAL")
    assert [(row["namespace"], row["content"]) for row in await listed(world, child, q="rule")] == [
        (f"org:{one.id}", "the first rule")
    ]
    assert len(await recalled(world, child, scope="GLOBAL")) == 2  # of the whole tenant (8.1)


async def test_a_workspace_is_created_with_all_its_memories_and_secrets_or_not_at_all(world: World) -> None:
    parent = await world.create("parent")
    secret = "ghp_" + "A1b2C3d4E5" * 4
    fine = {"content": f"the token is {secret}", "scope": "LOCAL"}

    async def create(**fields: Any) -> httpx.Response:
        body = {"name": "child", "external": True, "parent_id": parent.id, "secrets": {"KEY": "value"}, **fields}
        return await world.http.post("/workspaces", json=body, headers=world.admin)

    large = {"content": "x" * 65_537, "scope": "LOCAL"}
    for bad in ([fine, large], [fine] * 101, [{"content": "x", "scope": "OURS"}], [{"content": ""}]):
        refused = await create(initial_memories=bad)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid workspace fields")
    no_root = await create(initial_memories=[fine, {"content": "for all", "scope": "GLOBAL"}])
    assert no_root.status_code == 403
    bad_key = await create(secrets={"a-key": "hidden"}, initial_memories=[fine])
    assert (bad_key.status_code, "hidden" in bad_key.text) == (400, False)
    for table in ("memories", "secrets"):
        assert await count(world, f"SELECT count(*) FROM {table}") == 0  # noqa: S608 - two names
    assert await count(world, "SELECT count(*) FROM workspaces") == 1

    child = (await create(initial_memories=[fine])).json()
    headers = {"Authorization": f"Bearer {child['connection']['auth_token']}"}
    (row,) = (await world.http.get(f"/workspaces/{child['id']}/memories", headers=headers)).json()
    assert secret not in row["content"]
    assert row["content"].startswith("the token is [REDACTED:")


async def test_a_recall_reads_no_more_of_the_table_than_it_must(world: World) -> None:
    alice = await world.create()
    await remember(world, alice, "x", "GLOBAL")

    def plan(connection: sqlite3.Connection) -> str:
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        try:
            memories.search(connection, memories.Query(where=(memories.Where(scope="GLOBAL"),), now=0))
        finally:
            connection.set_trace_callback(None)
        rows = connection.execute(f"EXPLAIN QUERY PLAN {seen[0]}")
        return " ".join(row["detail"] for row in rows)

    assert "memories_global" in await world.platform.store.read(plan)


async def test_a_recall_of_the_latest_costs_the_same_however_much_there_is(world: World) -> None:
    parent = await world.create("parent")
    child = await world.create("child", parent_id=parent.id)
    recalls = {
        "its own": (memories.Where(owner=child.id),),
        "a team's": (memories.Where(scope="TEAM", team=parent.id),),
        "all namespaces": (
            memories.Where(scope="LOCAL", owner=child.id),
            memories.Where(scope="TEAM", team=parent.id),
            memories.Where(scope="GLOBAL", org=parent.id),
        ),
    }

    def fill(connection: sqlite3.Connection) -> None:
        scopes: tuple[memories.Scope, ...] = ("LOCAL", "TEAM")
        for number in range(500):
            for scope in scopes:
                new = memories.NewMemory(workspace_id=child.id, scope=scope, content=f"fact {number} " + "x" * 2000)
                memories.insert(connection, new, number)

    def steps(connection: sqlite3.Connection) -> dict[str, int]:
        counted: dict[str, int] = {}
        for name, where in recalls.items():
            taken = [0]

            def tick(taken: list[int] = taken) -> int:
                taken[0] += 1
                return 0

            connection.set_progress_handler(tick, 1)
            try:
                found = memories.search(connection, memories.Query(where=where, limit=20, now=1))
            finally:
                connection.set_progress_handler(None, 1)
            assert len(found) == 20
            counted[name] = taken[0]
        return counted

    await world.platform.store.write(fill)
    few = await world.platform.store.read(steps)
    for _ in range(4):
        await world.platform.store.write(fill)
    many = await world.platform.store.read(steps)
    assert all(many[name] < 2 * few[name] for name in recalls), (few, many)
