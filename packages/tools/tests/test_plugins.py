"""Plugins: install_plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.tenants import Http, Member, Tenant

from molecule_runtime.tools import Permissions, dispatch

from .support import context, done, refused

if TYPE_CHECKING:
    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

READ_ONLY = Permissions(("read-only",))
ALICE = Member("alice", "token-of-alice-0001")


async def test_a_plugin_is_installed_into_the_named_workspace_and_a_restart_is_told(
    scripted: Http, pools: ConnectionPools
) -> None:
    answer = {"status": "installed", "plugin": "search", "source": "local://search", "restarting": True}
    scripted.says((200, answer))
    said: list[str] = []

    async def progress(text: str) -> None:
        said.append(text)

    ctx = context(pools, (scripted.url, ALICE), (scripted.url, Member("bob", "token-of-bob-000001")))
    result = await dispatch(
        "install_plugin", {"source": "local://search", "workspace_id": "bob"}, ctx, progress=progress
    )
    assert result.text == "Plugin search is installed from local://search; the workspace restarts now"
    assert result.structured == {"plugin": "search", "source": "local://search", "restarting": True}
    assert said == ["installing local://search"]
    [request] = scripted.received
    assert (request.path, request.body) == ("/workspaces/bob/plugins", {"source": "local://search"})
    assert request.headers["authorization"] == "Bearer token-of-bob-000001"


async def test_what_the_platform_refuses_is_told_with_its_reason(
    acme: Tenant, scripted: Http, pools: ConnectionPools
) -> None:
    _, ours = await acme.family()
    assert "404" in await refused(context(pools, (acme.url, ours)), "install_plugin", source="local://nobody-has-it")

    ctx = context(pools, (scripted.url, ALICE))
    for answer, said in (
        ((403, {"error": "not on the allowlist", "source": "x"}), "local://x is not on the platform's list"),
        ((401, {"error": "no"}), "the platform does not let this process install into alice"),
        ((422, {"error": "external", "hint": "fetch it yourself"}), "fetch it yourself"),
    ):
        scripted.says(answer)
        assert said in await refused(ctx, "install_plugin", source="local://x")


@pytest.mark.parametrize("source", ["../x", "https://user:secret@host/x", "a b", "-x"])
async def test_a_source_that_is_none_is_refused_before_anything_is_sent(
    scripted: Http, pools: ConnectionPools, source: str
) -> None:
    text = await refused(context(pools, (scripted.url, ALICE)), "install_plugin", source=source)
    assert "is no source of plugins" in text
    assert "user:secret" not in text
    assert scripted.received == []


async def test_a_plugin_is_installed_although_no_role_allows_anything(scripted: Http, pools: ConnectionPools) -> None:
    # Contract `runtime.md` 6.2: not gated.
    scripted.says((200, {"status": "installed", "plugin": "x", "source": "x"}))
    ctx = context(pools, (scripted.url, ALICE), permissions=READ_ONLY)
    assert (await done(ctx, "install_plugin", source="x")).text == "Plugin x is installed from x"
