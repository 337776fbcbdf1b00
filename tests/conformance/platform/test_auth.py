"""Who may ask: the bearer of a workspace, of the admin, or none (contract 1.5, 24.11)."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from .site import refusal

if TYPE_CHECKING:
    import httpx

    from .site import Member, Site

pytestmark = pytest.mark.anyio

OWN_ROUTES = [
    ("GET", "activity"),
    ("POST", "activity"),
    ("POST", "notify"),
    ("POST", "delegate"),
    ("GET", "delegations"),
    ("POST", "delegations/record"),
    ("POST", f"delegations/{uuid.UUID(int=7)}/update"),
    ("GET", "tokens"),
    ("POST", "tokens"),
    ("DELETE", f"tokens/{uuid.UUID(int=7)}"),
    ("PATCH", ""),
]
"""Routes of a workspace that both eras have (WorkspaceAuth)."""


async def ask(
    site: Site, member: Member, method: str, route: str, headers: dict[str, str], content: bytes = b"{"
) -> httpx.Response:
    """Ask with a body that is no JSON: who may ask is checked before what is asked."""
    path = f"/workspaces/{member.id}/{route}".rstrip("/")
    return await site.http.request(
        method, path, headers=headers, content=b"" if method in {"GET", "DELETE"} else content
    )


@pytest.mark.contract("1.5", "28.1", era="april")
@pytest.mark.parametrize(("method", "route"), OWN_ROUTES)
async def test_a_bearer_that_is_not_the_workspaces_own_is_refused(site: Site, method: str, route: str) -> None:
    member, other = await site.create("own"), await site.create("other")
    for token in (other.token, "no-such-token", member.token[:-1], member.token.swapcase()):
        answer = await ask(site, member, method, route, {"Authorization": f"Bearer {token}"})
        refusal(answer, 401, "invalid workspace auth token")


@pytest.mark.contract("1.5", "24.11", era="june")
@pytest.mark.parametrize(("method", "route"), OWN_ROUTES)
async def test_without_a_bearer_nobody_is_let_in_whoever_it_says_it_is(site: Site, method: str, route: str) -> None:
    member = await site.create()
    for headers in (
        {},
        {"X-Workspace-ID": member.id},
        {"Authorization": member.token},
        {"Authorization": "Basic YTpi"},
    ):
        answer = await ask(site, member, method, route, headers)
        refusal(answer, 401, "missing workspace auth token")


@pytest.mark.contract("1.5", "24.13", era="april")
async def test_a_claimed_id_changes_nothing_where_the_bearer_decides(site: Site) -> None:
    member, other = await site.create("own"), await site.create("other")
    answer = await ask(site, member, "GET", "activity", {**other.auth, "X-Workspace-ID": member.id})
    refusal(answer, 401, "invalid workspace auth token")
    answer = await ask(site, member, "GET", "activity", {**member.auth, "X-Workspace-ID": other.id})
    assert answer.status_code == 200


@pytest.mark.contract("1.5", "24.13", era="april")
async def test_the_admin_may_ask_for_every_workspace(site: Site) -> None:
    member = await site.create()
    for route in ("activity", "delegations", "tokens"):
        assert (await ask(site, member, "GET", route, site.admin)).status_code == 200


@pytest.mark.contract("1.5", era="april")
async def test_every_live_token_of_a_workspace_counts(site: Site) -> None:
    member = await site.create()
    minted = (await site.post(member, "tokens", status=201))["auth_token"]
    for token in (member.token, minted):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await ask(site, member, "GET", "activity", headers)).status_code == 200


@pytest.mark.contract("1.5", era="april")
async def test_blanks_around_a_bearer_do_not_count(site: Site) -> None:
    member = await site.create()
    answer = await ask(site, member, "GET", "activity", {"Authorization": f"Bearer   {member.token}"})
    assert answer.status_code == 200, answer.text


@pytest.mark.contract("1.5", "ours", era="june")
async def test_the_word_bearer_may_be_written_in_any_case(site: Site) -> None:
    # The README: "the scheme word has no case (RFC 9110)".
    member = await site.create()
    for word in ("bearer", "BEARER"):
        answer = await ask(site, member, "GET", "activity", {"Authorization": f"{word} {member.token}"})
        assert answer.status_code == 200, answer.text


@pytest.mark.contract("1.5", era="june")
async def test_a_workspace_that_is_not_there_tells_nothing_to_strangers(site: Site) -> None:
    member = await site.create()
    for headers, status in ((member.auth, 401), ({}, 401), (site.admin, 404)):
        answer = await site.http.get(f"/workspaces/{uuid.uuid4()}/activity", headers=headers)
        refusal(answer, status)


@pytest.mark.contract("1.5", "14.4", era="june")
async def test_a_revoked_token_is_refused_at_once_everywhere(site: Site) -> None:
    _, member, peer = await site.family()
    row = (await site.get(member, "tokens"))["tokens"][0]
    # A second one, so that the workspace still has a live token.
    await site.post(member, "tokens", status=201)
    await site.http.delete(f"/workspaces/{member.id}/tokens/{row['id']}", headers=site.admin)
    asked: list[tuple[str, str, dict[str, str]]] = [
        ("GET", f"/workspaces/{member.id}/activity", {}),
        ("POST", f"/workspaces/{peer.id}/a2a", {"method": "message/send"}),
        ("POST", "/registry/heartbeat", {"workspace_id": member.id}),
        ("GET", f"/registry/{member.id}/peers", {}),
    ]
    for method, path, body in asked:
        refusal(await site.http.request(method, path, json=body, headers=member.auth), 401)
