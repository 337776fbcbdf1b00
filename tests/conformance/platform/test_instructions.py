"""Rules that the admin gives to every agent or to one (contract 11.5)."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .site import refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .site import Member, Site

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def rule(site: Site, **fields: Any) -> AsyncGenerator[str]:
    """A rule with a title of its own, which goes in the end."""
    body = {"scope": "global", "title": "a rule", "content": "Knock.", "priority": 0, "enabled": True, **fields}
    answer = await site.http.post("/instructions", json=body, headers=site.admin)
    assert answer.status_code == 201, answer.text
    instruction_id = str(answer.json()["id"])
    try:
        yield instruction_id
    finally:
        await site.http.delete(f"/instructions/{instruction_id}", headers=site.admin)


async def text_of(site: Site, member: Member) -> str:
    resolved = await site.get(member, "instructions/resolve")
    assert resolved["workspace_id"] == member.id
    return str(resolved["instructions"])


@pytest.mark.contract("11.5", era="april")
async def test_rules_for_all_and_for_a_workspace_are_one_text_by_priority(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    low, high, own = (f"{name} {uuid.uuid4().hex}" for name in ("low", "high", "own"))
    async with (
        rule(site, scope="workspace", scope_target=alice.id, title=own, content="Stir it."),
        rule(site, title=low, content="Wait.", priority=1),
        rule(site, title=high, content="Knock.", priority=2),
    ):
        text = await text_of(site, alice)
        others = await text_of(site, bob)
    assert text.startswith("\n")
    lines = text.split("\n")
    order = ["## Platform-Wide Rules", f"### {high}", f"### {low}", "## Role-Specific Rules", f"### {own}"]
    places = [lines.index(line) for line in order]
    assert places == sorted(places)
    for title, content in ((high, "Knock."), (low, "Wait."), (own, "Stir it.")):
        assert lines[lines.index(f"### {title}") + 1] == content
        assert lines[lines.index(f"### {title}") - 1] == ""
    assert f"### {high}" in others
    assert "Role-Specific" not in others
    assert own not in others


@pytest.mark.contract("11.5", era="april")
async def test_without_rules_of_its_own_a_workspace_reads_none_of_others(site: Site) -> None:
    alice = await site.create("alice")
    async with rule(site, scope="workspace", scope_target=alice.id, title=f"off {uuid.uuid4().hex}", enabled=False):
        assert "Role-Specific" not in await text_of(site, alice)


@pytest.mark.contract("11.5", era="june")
async def test_the_admin_keeps_the_rules(site: Site) -> None:
    alice = await site.create("alice")
    title = f"knock {uuid.uuid4().hex}"
    async with rule(site, scope="workspace", scope_target=alice.id, title=title) as instruction_id:
        listed = (await site.http.get("/instructions", headers=site.admin)).json()
        (row,) = [row for row in listed if row["id"] == instruction_id]
        assert (row["scope"], row["scope_target"], row["title"], row["enabled"]) == ("workspace", alice.id, title, True)
        body = {key: row[key] for key in ("scope", "scope_target", "title", "priority", "enabled")}
        answer = await site.http.put(
            f"/instructions/{instruction_id}", json={**body, "content": "Ring."}, headers=site.admin
        )
        assert answer.status_code == 200, answer.text
        assert "Ring." in await text_of(site, alice)
        deleted = await site.http.delete(f"/instructions/{instruction_id}", headers=site.admin)
        assert deleted.status_code == 200, deleted.text
        assert title not in await text_of(site, alice)
        refusal(await site.http.delete(f"/instructions/{instruction_id}", headers=site.admin), 404)
        refusal(await site.http.put(f"/instructions/{instruction_id}", json=body, headers=site.admin), 404)


@pytest.mark.contract("11.5", "21", era="april")
@pytest.mark.parametrize("change", [{"title": "x" * 201}, {"content": "x" * 8193}, {"scope": "team"}, {"title": ""}])
async def test_a_rule_that_is_none_is_refused(site: Site, change: dict[str, str]) -> None:
    body = {"scope": "global", "title": "a rule", "content": "Knock.", "priority": 0, **change}
    refusal(await site.http.post("/instructions", json=body, headers=site.admin), 400)


@pytest.mark.contract("11.5", "24.11", era="june")
async def test_rules_are_the_admins_business(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    body = {"scope": "global", "title": "mine", "content": "Obey me."}
    async with rule(site, scope="workspace", scope_target=alice.id) as instruction_id:
        path = f"/instructions/{instruction_id}"
        for headers in ({}, alice.auth):
            refusal(await site.http.get("/instructions", headers=headers), 401)
            refusal(await site.http.post("/instructions", json=body, headers=headers), 401)
            refusal(await site.http.put(path, json=body, headers=headers), 401)
            refusal(await site.http.delete(path, headers=headers), 401)
        for headers in ({}, bob.auth):
            refusal(await site.http.get(f"/workspaces/{alice.id}/instructions/resolve", headers=headers), 401)
        assert "Knock." in await text_of(site, alice)
