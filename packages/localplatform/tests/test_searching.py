"""The search through what a workspace did looks through so much and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.localplatform.store.activity import MAX_PAGE_BYTES, MAX_SEARCHED_BYTES

if TYPE_CHECKING:
    from .support import Member, World

pytestmark = pytest.mark.anyio

LARGE = 900_000


async def happen(world: World, member: Member, summary: str, size: int = 0) -> None:
    body: dict[str, Any] = {"activity_type": "agent_log", "summary": summary}
    if size:
        body["request_body"] = {"text": "x" * size}
    answer = await world.http.post(f"/workspaces/{member.id}/activity", json=body, headers=member.auth)
    assert answer.status_code == 200, answer.text


async def found(world: World, member: Member, text: str, **query: Any) -> list[dict[str, Any]]:
    params = {"q": text, **query}
    answer = await world.http.get(f"/workspaces/{member.id}/session-search", params=params, headers=member.auth)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()
    return rows


async def test_a_search_ends_where_it_has_read_enough(world: World) -> None:
    alice = await world.create()
    await happen(world, alice, "the oldest")
    for _ in range(MAX_SEARCHED_BYTES // LARGE + 1):
        await happen(world, alice, "large", LARGE)
    await happen(world, alice, "the newest")
    assert [row["content"] for row in await found(world, alice, "the ")] == ["the newest"]
    # What nearly occurs everywhere is sought once, like anything else.
    assert await found(world, alice, "x" * 199 + "y") == []


async def test_an_answer_is_never_more_than_clients_read(world: World) -> None:
    alice = await world.create()
    for number in range(150):
        body = {"content": f"{number} owls " + "x" * 65_000, "scope": "LOCAL"}
        answer = await world.http.post(f"/workspaces/{alice.id}/memories", json=body, headers=alice.auth)
        assert answer.status_code == 201
    rows = await found(world, alice, "owls", limit=200)
    assert len(rows) > 100
    assert sum(len(row["content"]) for row in rows) <= MAX_PAGE_BYTES
