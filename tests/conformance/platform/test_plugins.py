"""Plugins (contract 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("3.3", "16.6", era="april")
async def test_what_plugins_there_are_is_public(site: Site) -> None:
    listed = await site.http.get("/plugins")
    assert (listed.status_code, isinstance(listed.json(), list)) == (200, True)
    sources = await site.http.get("/plugins/sources")
    assert (sources.status_code, "local" in sources.json()["schemes"]) == (200, True)


@pytest.mark.contract("16.1", "16.3", "16.4", "16.6", era="june")
async def test_a_plugin_that_is_not_there_is_neither_installed_nor_fetched(site: Site) -> None:
    alice = await site.create("alice")
    assert await site.get(alice, "plugins") == []
    assert isinstance(await site.get(alice, "plugins/available"), list)
    for source in ("local://no-such-plugin", "no-such-plugin"):
        refused = await site.post(alice, "plugins", {"source": source}, status=404)
        assert refused["source"] == source
    download = await site.http.get(f"/workspaces/{alice.id}/plugins/no-such-plugin/download", headers=alice.auth)
    assert download.status_code == 404
    removed = await site.http.delete(f"/workspaces/{alice.id}/plugins/no-such-plugin", headers=alice.auth)
    assert removed.status_code == 404


@pytest.mark.contract("16.1", era="june")
@pytest.mark.parametrize("source", ["", "../etc", "local://../x", "local://a/b", "ftp://a/b", "x" * 2000])
async def test_a_source_that_names_no_plugin_is_a_400(site: Site, source: str) -> None:
    alice = await site.create("alice")
    await site.post(alice, "plugins", {"source": source}, status=400)


@pytest.mark.contract("1.5", "16.4", era="june")
async def test_a_plugin_is_fetched_with_the_workspaces_own_token_only(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    path = f"/workspaces/{alice.id}/plugins/any/download"
    assert (await site.http.get(path)).status_code == 401
    assert (await site.http.get(path, headers=bob.auth)).status_code == 401
    assert (await site.http.get(path, headers=site.admin)).status_code == 401
