"""What else a workspace asks for at its start: shared files, a GitHub token, its configuration (contract 11.6 to 11.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from .site import http_answer, refusal

if TYPE_CHECKING:
    from .site import Agent, Received, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("11.6", era="april")
async def test_without_a_parent_nothing_is_shared(site: Site) -> None:
    assert await site.get(await site.create("alone"), "shared-context") == []


@pytest.mark.contract("11.6", "24.9", era="june")
async def test_a_parents_shared_files_are_read_from_its_agent(site: Site, agent: Agent) -> None:
    parent, left, right = await site.family()
    secret = (await site.register(parent, agent))["platform_inbound_secret"]
    files = {"/configs/plan.md": b"Plan \xe2\x9c\x93", "/workspace/notes.txt": b"Notes"}

    async def answer(request: Received) -> bytes:
        parts = urlsplit(request.path)
        assert (request.method, parts.path) == ("GET", "/internal/file/read")
        assert request.headers["authorization"] == f"Bearer {secret}"
        path = parse_qs(parts.query)["path"][0]
        return http_answer(files[path]) if path in files else http_answer({"error": "file not found"}, 404)

    agent.answer = answer
    body = {"shared_context": ["plan.md", "gone.md", "/workspace/notes.txt"]}
    patched = await site.http.patch(f"/workspaces/{parent.id}/config", json=body, headers=parent.auth)
    assert patched.status_code == 200, patched.text
    for child in (left, right):
        shared = await site.get(child, "shared-context")
        assert [(file["path"], file["content"]) for file in shared] == [
            ("plan.md", "Plan ✓"),
            ("/workspace/notes.txt", "Notes"),
        ]
    assert await site.get(parent, "shared-context") == []
    refusal(await site.http.get(f"/workspaces/{left.id}/shared-context", headers=right.auth), 401)


@pytest.mark.contract("11.6", era="june")
async def test_a_parent_that_cannot_be_read_shares_nothing(site: Site) -> None:
    parent, left, _ = await site.family()
    await site.register(parent)
    body = {"shared_context": ["plan.md"]}
    await site.http.patch(f"/workspaces/{parent.id}/config", json=body, headers=parent.auth)
    assert await site.get(left, "shared-context") == []


@pytest.mark.contract("11.7", era="april")
async def test_there_is_no_github_token(site: Site) -> None:
    """A server that has a provider answers with a token; without one both refusals mean none."""
    alice = await site.create("alice")
    paths = (
        (f"/workspaces/{alice.id}/github-installation-token", alice.auth),
        ("/admin/github-installation-token", site.admin),
    )
    for path, headers in paths:
        answer = await site.http.get(path, headers=headers)
        if answer.status_code == 200:
            assert {"token", "expires_at"} <= answer.json().keys()
        else:
            assert answer.status_code in {404, 500}
            assert answer.json()["error"]


@pytest.mark.contract("11.8", era="april")
async def test_the_configuration_is_merged_key_by_key(site: Site) -> None:
    alice = await site.create("alice")
    path = f"/workspaces/{alice.id}/config"
    assert await site.get(alice, "config") == {"data": {}}
    for change, expected in (
        ({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 2}, "d": [1]}),
        ({"a": {"b": 3}}, {"a": {"b": 3}, "d": [1]}),
        ({}, {"a": {"b": 3}, "d": [1]}),
    ):
        answer = await site.http.patch(path, json=change, headers=alice.auth)
        assert (answer.status_code, answer.json()) == (200, {"status": "updated"})
        assert await site.get(alice, "config") == {"data": expected}


@pytest.mark.contract("1.5", "11.8", era="june")
async def test_a_configuration_is_its_workspaces_own(site: Site) -> None:
    alice, bob = await site.create("alice"), await site.create("bob")
    path = f"/workspaces/{alice.id}/config"
    for headers in ({}, bob.auth):
        refusal(await site.http.get(path, headers=headers), 401)
        refusal(await site.http.patch(path, json={"a": 1}, headers=headers), 401)
    for body in (b"[1]", b'"a"', b"{", b"null"):
        refusal(await site.http.patch(path, content=body, headers=alice.auth), 400)
    assert await site.get(alice, "config") == {"data": {}}
