"""Secrets and the model (contract 11.1 to 11.4)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from .site import refusal

if TYPE_CHECKING:
    from .site import Member, Site

pytestmark = pytest.mark.anyio

HIDDEN = "tidal-7431-wave"


def fresh_key() -> str:
    """A key that no other test and nobody on a shared server uses."""
    return f"CONFORMANCE_{uuid.uuid4().hex}"


async def save(site: Site, member: Member, key: str, value: str) -> None:
    saved = await site.post(member, "secrets", {"key": key, "value": value})
    assert (saved["status"], saved["key"]) == ("saved", key)


@pytest.mark.contract("11.2", era="april")
async def test_a_secret_is_saved_listed_without_its_value_and_deleted(site: Site) -> None:
    alice = await site.create("alice")
    path, key = f"/workspaces/{alice.id}/secrets", fresh_key()
    await save(site, alice, key, HIDDEN)
    answer = await site.http.get(path, headers=alice.auth)
    (row,) = [row for row in answer.json() if row["key"] == key]
    assert (row["has_value"], row["scope"]) == (True, "workspace")
    assert {"created_at", "updated_at"} <= row.keys()
    assert HIDDEN not in answer.text
    replaced = await site.http.put(path, json={"key": key, "value": "other"}, headers=alice.auth)
    assert (replaced.status_code, replaced.json()["status"]) == (200, "saved")
    assert (await site.get(alice, "secrets/values"))[key] == "other"
    deleted = await site.http.delete(f"{path}/{key}", headers=alice.auth)
    assert (deleted.status_code, deleted.json()["status"], deleted.json()["key"]) == (200, "deleted", key)
    assert key not in await site.get(alice, "secrets/values")
    refusal(await site.http.delete(f"{path}/{key}", headers=alice.auth), 404, "secret not found")


@pytest.mark.contract("11.1", "11.4", era="april")
async def test_values_are_those_for_all_overlaid_by_the_workspaces_own(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    shared, own = fresh_key(), fresh_key()
    try:
        for key in (shared, own):
            body = {"key": key, "value": "for all"}
            assert (await site.http.post("/settings/secrets", json=body, headers=site.admin)).status_code == 200
        await save(site, alice, own, "alice's")
        values = await site.get(alice, "secrets/values")
        assert (values[shared], values[own]) == ("for all", "alice's")
        values = await site.get(bob, "secrets/values")
        assert (values[shared], values[own]) == ("for all", "for all")
        scopes = {row["key"]: row["scope"] for row in await site.get(alice, "secrets")}
        assert (scopes[shared], scopes[own]) == ("global", "workspace")
    finally:
        for key in (shared, own):
            await site.http.delete(f"/settings/secrets/{key}", headers=site.admin)
    values = await site.get(alice, "secrets/values")
    assert (shared in values, values[own]) == (False, "alice's")


@pytest.mark.contract("11.4", era="april")
@pytest.mark.parametrize("path", ["/settings/secrets", "/admin/secrets"])
async def test_the_admin_keeps_secrets_for_all_workspaces(site: Site, path: str) -> None:
    key = fresh_key()
    try:
        saved = await site.http.put(path, json={"key": key, "value": HIDDEN}, headers=site.admin)
        assert (saved.status_code, saved.json()["status"]) == (200, "saved")
        listed = await site.http.get(path, headers=site.admin)
        (row,) = [row for row in listed.json() if row["key"] == key]
        assert (row["has_value"], row["scope"]) == (True, "global")
        assert HIDDEN not in listed.text
    finally:
        deleted = await site.http.delete(f"{path}/{key}", headers=site.admin)
    assert (deleted.status_code, deleted.json()["status"]) == (200, "deleted")
    refusal(await site.http.delete(f"{path}/{key}", headers=site.admin), 404, "secret not found")


@pytest.mark.contract("11.4", "24.11", era="june")
async def test_secrets_for_all_are_the_admins_business(site: Site) -> None:
    alice = await site.create("alice")
    for path in ("/settings/secrets", "/admin/secrets"):
        assert (await site.http.get(path)).status_code == 401
        assert (await site.http.get(path, headers=alice.auth)).status_code == 401
        body = {"key": fresh_key(), "value": "x"}
        assert (await site.http.post(path, json=body, headers=alice.auth)).status_code == 401
        assert (await site.http.delete(f"{path}/{body['key']}", headers=alice.auth)).status_code == 401


@pytest.mark.contract("1.5", "11.1", "28.2", era="june")
async def test_values_are_for_the_workspace_itself(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    await save(site, alice, fresh_key(), HIDDEN)
    path = f"/workspaces/{alice.id}/secrets/values"
    for headers in ({}, bob.auth, site.admin, {"Authorization": "Bearer wrong"}):
        answer = await site.http.get(path, headers=headers)
        refusal(answer, 401)
        assert HIDDEN not in answer.text
    assert HIDDEN in (await site.get(alice, "secrets/values")).values()


@pytest.mark.contract("1.5", "11.2", era="june")
async def test_another_workspaces_token_neither_reads_nor_writes_secrets(site: Site) -> None:
    _, left, right = await site.family()
    key = fresh_key()
    await save(site, left, key, HIDDEN)
    path = f"/workspaces/{left.id}/secrets"
    body = {"key": key, "value": "mine"}
    for headers in ({}, right.auth):
        refusal(await site.http.get(path, headers=headers), 401)
        refusal(await site.http.put(path, json=body, headers=headers), 401)
        refusal(await site.http.delete(f"{path}/{key}", headers=headers), 401)
    assert (await site.get(left, "secrets/values"))[key] == HIDDEN


@pytest.mark.contract("11.2", era="june")
@pytest.mark.parametrize(
    "body", [{}, {"key": "KEY"}, {"value": HIDDEN}, {"key": "", "value": HIDDEN}, {"key": 7, "value": HIDDEN}, [HIDDEN]]
)
async def test_a_secret_that_is_none_is_refused_without_showing_it(site: Site, body: object) -> None:
    alice = await site.create("alice")
    answer = await site.http.post(f"/workspaces/{alice.id}/secrets", json=body, headers=alice.auth)
    refusal(answer, 400)
    assert HIDDEN not in answer.text


@pytest.mark.contract("11.3", era="april")
async def test_the_model_is_set_read_and_cleared(site: Site) -> None:
    alice = await site.create("alice")
    path = f"/workspaces/{alice.id}/model"
    assert await site.get(alice, "model") == {"model": "", "source": "default"}
    saved = await site.http.put(path, json={"model": "openai:gpt-x"}, headers=alice.auth)
    assert (saved.status_code, saved.json()) == (200, {"status": "saved", "model": "openai:gpt-x"})
    assert await site.get(alice, "model") == {"model": "openai:gpt-x", "source": "workspace_secrets"}
    cleared = await site.http.put(path, json={"model": ""}, headers=alice.auth)
    assert (cleared.status_code, cleared.json()) == (200, {"status": "cleared"})
    assert await site.get(alice, "model") == {"model": "", "source": "default"}


@pytest.mark.contract("11.3", "24.14", era="june")
async def test_the_model_is_the_secret_of_that_name(site: Site) -> None:
    alice = await site.create("alice")
    await site.http.put(f"/workspaces/{alice.id}/model", json={"model": "openai:gpt-x"}, headers=alice.auth)
    assert (await site.get(alice, "secrets/values"))["MODEL"] == "openai:gpt-x"
