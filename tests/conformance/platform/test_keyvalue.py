"""Values by key (contract 8.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .site import refusal

if TYPE_CHECKING:
    import httpx

    from .site import Member, Site

pytestmark = pytest.mark.anyio


async def put(site: Site, member: Member, **body: Any) -> httpx.Response:
    return await site.http.post(f"/workspaces/{member.id}/memory", json=body, headers=member.auth)


@pytest.mark.contract("8.2", era="april")
async def test_a_value_is_kept_read_and_deleted(site: Site) -> None:
    alice = await site.create("alice")
    for version, value in enumerate([{"a": [1, None]}, "text", None, 7], start=1):
        saved = await put(site, alice, key="state", value=value)
        assert (saved.status_code, saved.json()) == (200, {"status": "ok", "key": "state", "version": version})
        row = await site.get(alice, "memory/state")
        assert (row["value"], row["version"]) == (value, version)
    await put(site, alice, key="another/key with spaces", value=True)
    assert [row["key"] for row in await site.get(alice, "memory")] == ["another/key with spaces", "state"]
    for _ in range(2):
        gone = await site.http.delete(f"/workspaces/{alice.id}/memory/state", headers=alice.auth)
        assert (gone.status_code, gone.json()["status"]) == (200, "deleted")
    missing = await site.http.get(f"/workspaces/{alice.id}/memory/state", headers=alice.auth)
    refusal(missing, 404, "key not found")


@pytest.mark.contract("8.2", era="april")
async def test_a_write_that_expects_another_version_is_a_conflict(site: Site) -> None:
    alice = await site.create("alice")
    conflict = await put(site, alice, key="k", value=1, if_match_version=3)
    body = refusal(conflict, 409)
    assert (body["expected_version"], body["current_version"]) == (3, None)
    assert (await put(site, alice, key="k", value=1, if_match_version=0)).json()["version"] == 1
    again = refusal(await put(site, alice, key="k", value=2, if_match_version=0), 409)
    assert (again["expected_version"], again["current_version"]) == (0, 1)
    assert (await put(site, alice, key="k", value=2, if_match_version=1)).json()["version"] == 2
    assert (await site.get(alice, "memory/k"))["value"] == 2


@pytest.mark.contract("8.2", era="april")
async def test_a_key_is_required(site: Site) -> None:
    alice = await site.create("alice")
    refusal(await put(site, alice, value=1), 400, "key is required")
    refusal(await put(site, alice, key="", value=1), 400, "key is required")


@pytest.mark.contract("8.2", era="june")
async def test_a_value_may_end_with_time(site: Site) -> None:
    alice = await site.create("alice")
    await put(site, alice, key="k", value=1, ttl_seconds=3600)
    assert "expires_at" in await site.get(alice, "memory/k")
    await put(site, alice, key="k", value=2)
    assert "expires_at" not in await site.get(alice, "memory/k")
    refusal(await put(site, alice, key="k", value=1, ttl_seconds=0), 400)


@pytest.mark.contract("8.2", "1.5", era="june")
async def test_values_are_of_one_workspace_only(site: Site) -> None:
    _, left, right = await site.family()
    await put(site, left, key="k", value="mine")
    assert await site.get(right, "memory") == []
    foreign = await site.http.get(f"/workspaces/{left.id}/memory/k", headers=right.auth)
    assert foreign.status_code == 401
