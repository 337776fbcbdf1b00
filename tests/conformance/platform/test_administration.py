"""What admins do: org tokens, tokens of workspaces, the ledger of delegations (contract 1.5, 14.4, 24.6, 24.11)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

import pytest

from .site import Member, envelope, refusal

if TYPE_CHECKING:
    import httpx

    from .site import Agent, Site

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"


async def mint(site: Site, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = await site.http.post("/org/tokens", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return cast("dict[str, Any]", answer.json())


async def revoke(site: Site, token_id: str) -> httpx.Response:
    return await site.http.delete(f"/org/tokens/{token_id}", headers=site.admin)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def may_read(site: Site, member: Member) -> bool:
    answer = await site.http.get(f"/workspaces/{member.id}/activity", headers=member.auth)
    assert answer.status_code in {200, 401}, answer.text
    return answer.status_code == 200


@pytest.mark.contract("14.4", "1.5", era="june")
async def test_an_org_token_opens_what_the_admin_token_opens_until_it_is_revoked(site: Site) -> None:
    alice = await site.create("alice")
    name = f"ci {uuid.uuid4().hex}"
    made = await mint(site, site.admin, name=name)
    try:
        assert made.keys() >= {"id", "prefix", "name", "auth_token", "warning"}
        assert made["name"] == name
        token: str = made["auth_token"]
        assert token.startswith(made["prefix"])
        answer = await site.http.get("/org/tokens", headers=site.admin)
        listed = answer.json()
        rows = cast("list[dict[str, Any]]", listed["tokens"] if isinstance(listed, dict) else listed)
        (row,) = [row for row in rows if row["id"] == made["id"]]
        assert (row["name"], row["prefix"]) == (name, made["prefix"])
        assert token not in answer.text
        for path in ("/workspaces", "/org/tokens", "/events", f"/workspaces/{alice.id}/activity", "/requests/pending"):
            assert (await site.http.get(path, headers=bearer(token))).status_code == 200, path
    finally:
        revoked = await revoke(site, made["id"])
    assert (revoked.status_code, revoked.json()["status"]) == (200, "revoked")
    refusal(await site.http.get("/workspaces", headers=bearer(token)), 401, "invalid admin auth token")
    path = f"/workspaces/{alice.id}/activity"
    refusal(await site.http.get(path, headers=bearer(token)), 401, "invalid workspace auth token")
    refusal(await revoke(site, made["id"]), 404)


@pytest.mark.contract("14.4", "24.5", era="june")
async def test_an_org_token_speaks_for_the_person(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent)
    made = await mint(site, site.admin)
    try:
        path = f"/workspaces/{alice.id}/a2a"
        answer = await site.http.post(path, json=envelope("hi"), headers=bearer(made["auth_token"]))
        assert answer.status_code == 200, answer.text
        (row,) = await site.get(alice, "activity", type="a2a_receive")
        assert row["source_id"] is None
    finally:
        assert (await revoke(site, made["id"])).status_code == 200


@pytest.mark.contract("14.4", "1.5", era="june")
async def test_org_tokens_are_for_the_admin(site: Site) -> None:
    alice = await site.create("alice")
    for method, path in (("GET", "/org/tokens"), ("POST", "/org/tokens"), ("DELETE", f"/org/tokens/{NOBODY}")):
        refusal(await site.http.request(method, path), 401, "admin auth required")
        refusal(await site.http.request(method, path, headers=alice.auth), 401, "invalid admin auth token")
    refusal(await revoke(site, NOBODY), 404)


@pytest.mark.contract("14.4", era="june")
@pytest.mark.parametrize("body", [{"name": "x" * 101}, {"name": 7}, []])
async def test_the_name_of_an_org_token_is_short(site: Site, body: object) -> None:
    refusal(await site.http.post("/org/tokens", json=body, headers=site.admin), 400)


@pytest.mark.contract("24.11", "1.5", era="june")
async def test_the_admin_mints_and_revokes_tokens_of_a_workspace(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    path = f"/admin/workspaces/{alice.id}"
    answer = await site.http.post(f"{path}/tokens", json={"label": "laptop"}, headers=site.admin)
    assert answer.status_code == 201, answer.text
    second = Member(alice.id, alice.name, answer.json()["auth_token"])
    assert await may_read(site, second)
    assert await may_read(site, alice)
    assert not await may_read(site, Member(bob.id, "", second.token))
    answer = await site.http.post(f"{path}/revoke-auth-tokens", headers=site.admin)
    assert answer.status_code == 200, answer.text
    assert not await may_read(site, second)
    assert not await may_read(site, alice)
    assert await may_read(site, bob)
    for verb in ("tokens", "revoke-auth-tokens"):
        refusal(await site.http.post(f"{path}/{verb}"), 401, "admin auth required")
        refusal(await site.http.post(f"{path}/{verb}", headers=bob.auth), 401, "invalid admin auth token")
        refusal(await site.http.post(f"/admin/workspaces/{NOBODY}/{verb}", headers=site.admin), 404)


@pytest.mark.contract("24.11", "14.5", era="june")
async def test_an_external_workspace_rotates_its_token(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    path = f"/workspaces/{alice.id}/external"
    shown = await site.get(alice, "external/connection")
    assert shown["connection"]["workspace_id"] == alice.id
    assert shown["connection"]["auth_token"] == ""
    assert alice.token not in str(shown)
    rotated = await site.post(alice, "external/rotate")
    fresh = Member(alice.id, alice.name, rotated["connection"]["auth_token"])
    assert fresh.token != alice.token
    assert await may_read(site, fresh)
    assert not await may_read(site, alice)
    assert not await may_read(site, Member(bob.id, "", fresh.token))
    for method, verb in (("POST", "rotate"), ("GET", "connection")):
        refusal(await site.http.request(method, f"{path}/{verb}"), 401, "missing workspace auth token")
        refusal(await site.http.request(method, f"{path}/{verb}", headers=bob.auth), 401)
    assert await may_read(site, fresh)


@pytest.mark.contract("24.6", "6.1", era="june")
async def test_the_admin_reads_the_ledger_of_all_delegations(site: Site, agent: Agent) -> None:
    _, left, right = await site.family()
    await site.register(right, agent)
    made = await site.post(left, "delegate", {"target_id": right.id, "task": "count to ten"}, status=202)

    async def completed() -> list[dict[str, Any]]:
        answer = await site.http.get("/admin/delegations", params={"limit": 200}, headers=site.admin)
        assert answer.status_code == 200, answer.text
        rows = cast("list[dict[str, Any]]", answer.json())
        return [row for row in rows if row["delegation_id"] == made["delegation_id"] and row["status"] == "completed"]

    (row,) = await site.eventually(completed)
    assert (row["source_id"], row["target_id"]) == (left.id, right.id)
    answer = await site.http.get("/admin/delegations/stats", headers=site.admin)
    assert answer.status_code == 200, answer.text
    assert answer.json()["completed"] >= 1
    for path in ("/admin/delegations", "/admin/delegations/stats"):
        refusal(await site.http.get(path), 401, "admin auth required")
        refusal(await site.http.get(path, headers=left.auth), 401, "invalid admin auth token")
