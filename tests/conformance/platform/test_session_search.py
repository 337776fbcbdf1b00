"""The search through what a workspace did and remembers (contract 7.4)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("7.4", era="april")
async def test_what_happened_and_what_is_remembered_are_found_together(site: Site) -> None:
    alice = await site.create("alice")
    word = f"w{uuid.uuid4().hex}"
    await site.post(alice, "activity", {"activity_type": "agent_log", "summary": f"saw {word} today"})
    await site.post(alice, "activity", {"activity_type": "agent_log", "summary": "saw nothing"})
    await site.post(alice, "memories", {"content": f"{word} matters", "scope": "LOCAL"}, status=201)
    found = await site.get(alice, "session-search", q=word)
    assert {(row["kind"], row["content"]) for row in found} == {
        ("activity", f"saw {word} today"),
        ("memory", f"{word} matters"),
    }
    assert all(row["workspace_id"] == alice.id for row in found)
    assert len(await site.get(alice, "session-search", q=word, limit=1)) == 1


@pytest.mark.contract("7.4", era="june")
async def test_signs_of_a_pattern_are_ordinary_signs(site: Site) -> None:
    alice = await site.create("alice")
    for summary in ("100% done", "1000 done", "snake_case", "snakeXcase", "back\\slash"):
        await site.post(alice, "activity", {"activity_type": "agent_log", "summary": summary})

    async def found(text: str) -> list[str]:
        return [row["content"] for row in await site.get(alice, "session-search", q=text)]

    assert await found("100%") == ["100% done"]
    assert await found("snake_case") == ["snake_case"]
    assert await found("back\\slash") == ["back\\slash"]
    assert await found("") == []


@pytest.mark.contract("7.4", era="june")
async def test_a_text_is_found_in_bodies_too_whatever_its_letters(site: Site) -> None:
    alice = await site.create("alice")
    body = {"activity_type": "agent_log", "summary": "s", "request_body": {"note": 'die Größe der 鳥 is "odd"'}}
    await site.post(alice, "activity", body)
    for text in ("Größe", "鳥", 'is "odd"', "IS"):
        (row,) = await site.get(alice, "session-search", q=text)
        assert row["request_body"] == body["request_body"]
    assert await site.get(alice, "session-search", q="u00f6x") == []


@pytest.mark.contract("7.4", era="june")
async def test_what_is_found_comes_newest_first_whatever_it_is(site: Site) -> None:
    alice = await site.create("alice")
    word = f"w{uuid.uuid4().hex}"
    for number in range(3):
        await site.post(alice, "activity", {"activity_type": "agent_log", "summary": f"{word} {number}"})
        await site.post(alice, "memories", {"content": f"{word} kept {number}", "scope": "LOCAL"}, status=201)
    found = await site.get(alice, "session-search", q=word)
    assert [row["kind"] for row in found] == ["memory", "activity"] * 3
    assert [row["created_at"] for row in found] == sorted((row["created_at"] for row in found), reverse=True)
    newest = await site.get(alice, "session-search", q=word, limit=3)
    assert [row["content"] for row in newest] == [f"{word} kept 2", f"{word} 2", f"{word} kept 1"]
