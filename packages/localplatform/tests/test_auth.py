"""Who may do what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.localplatform import LocalSettings
from molecule_runtime.localplatform.routes import ROUTES

from .conftest import opened
from .support import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .support import Member, World

pytestmark = pytest.mark.anyio

MISSING = "missing workspace auth token"
INVALID = "invalid workspace auth token"

GUARDED = [
    (route.method, route.path)
    for route in ROUTES
    if route.path.startswith("/workspaces/{id}/") and (route.access == "workspace" or "queue_id" in route.path)
]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass(frozen=True)
class Neighbours:
    """Two workspaces that are asked for much and get nothing, so that all may ask the same two."""

    world: World
    alice: Member
    bob: Member


@pytest.fixture(scope="module")
async def neighbours(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncGenerator[Neighbours]:
    clock = Clock()
    settings = LocalSettings(data=tmp_path_factory.mktemp("auth") / "data", port=0, clock=clock, sweep_interval=3600)
    async with opened(settings, clock) as world:
        yield Neighbours(world, await world.create("alice"), await world.create("bob"))


def fill(path: str, workspace_id: str) -> str:
    return re.sub(r"{\w+}", "x", path.replace("{id}", workspace_id))


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_workspace_route_refuses_a_missing_and_a_foreign_token(
    neighbours: Neighbours, method: str, path: str
) -> None:
    world, bob = neighbours.world, neighbours.bob
    url = fill(path, neighbours.alice.id)
    missing = await world.http.request(method, url, json={})
    unknown = await world.http.request(method, url, json={}, headers={"Authorization": "Bearer not-a-token"})
    assert (missing.status_code, missing.json()["error"]) == (401, MISSING)
    assert (unknown.status_code, unknown.json()["error"]) == (401, INVALID)
    foreign = await world.http.request(method, url, json={}, headers=bob.auth)
    if "queue_id" in path:
        # Sender and target of a queued message may both ask, so whose token it is decides about the row, which is not there.
        assert foreign.status_code == 404
    else:
        assert (foreign.status_code, foreign.json()["error"]) == (401, INVALID)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_bearer_scheme_counts_in_any_case(world: World, scheme: str) -> None:
    alice = await world.create()
    answer = await world.http.get(
        f"/workspaces/{alice.id}/activity", headers={"Authorization": f"{scheme} {alice.token}"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "value",
    [b"Bearer \xff\xfe\x80", b"Bearer", b"Basic YTpi", b"\xc3\x28", b"Bearer " + b"A" * 5000, b"Bearer a b c"],
)
async def test_malformed_authorization_bytes_are_a_401(world: World, value: bytes) -> None:
    alice = await world.create()
    for path in (f"/workspaces/{alice.id}/activity", "/workspaces", f"/registry/{alice.id}/peers"):
        answer = await world.http.get(path, headers={b"Authorization": value})
        assert answer.status_code == 401
    answer = await world.http.post(f"/workspaces/{alice.id}/a2a", json={}, headers={b"Authorization": value})
    assert answer.status_code == 401


async def test_two_authorization_headers_are_refused_though_one_is_right(world: World) -> None:
    alice = await world.create()
    headers = [("Authorization", f"Bearer {alice.token}"), ("Authorization", "Bearer x")]
    answer = await world.http.get(f"/workspaces/{alice.id}/activity", headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (401, MISSING)


async def test_admin_routes_take_the_admin_token_only(world: World) -> None:
    alice = await world.create()
    for method, path in (("GET", "/workspaces"), ("POST", "/workspaces"), ("DELETE", f"/workspaces/{alice.id}")):
        nobody = await world.http.request(method, path)
        workspace = await world.http.request(method, path, headers=alice.auth)
        assert (nobody.status_code, nobody.json()["error"]) == (401, "admin auth required")
        assert (workspace.status_code, workspace.json()["error"]) == (401, "invalid admin auth token")
    assert (await world.http.get("/workspaces", headers=world.admin)).status_code == 200


async def test_the_admin_token_opens_every_workspace(world: World) -> None:
    alice = await world.create()
    assert (await world.http.get(f"/workspaces/{alice.id}/activity", headers=world.admin)).json() == []
    unknown = await world.http.get("/workspaces/no-such/activity", headers=world.admin)
    assert unknown.status_code == 404


async def test_a_revoked_token_is_dead_at_once(world: World) -> None:
    alice = await world.create()
    made = (await world.http.post(f"/workspaces/{alice.id}/tokens", headers=alice.auth)).json()
    second = {"Authorization": f"Bearer {made['auth_token']}"}
    listed = (await world.http.get(f"/workspaces/{alice.id}/tokens", headers=second)).json()
    assert listed["count"] == 2
    assert all(len(row["prefix"]) == 8 and "auth_token" not in row for row in listed["tokens"])
    token_id = next(row["id"] for row in listed["tokens"] if alice.token.startswith(row["prefix"]))
    revoked = await world.http.delete(f"/workspaces/{alice.id}/tokens/{token_id}", headers=second)
    assert revoked.json() == {"status": "revoked"}
    assert (await world.http.get(f"/workspaces/{alice.id}/activity", headers=alice.auth)).json()["error"] == INVALID
    again = await world.http.delete(f"/workspaces/{alice.id}/tokens/{token_id}", headers=second)
    assert again.status_code == 404


async def test_a_workspace_holds_at_most_fifty_live_tokens(world: World) -> None:
    alice = await world.create()
    for _ in range(49):
        assert (await world.http.post(f"/workspaces/{alice.id}/tokens", headers=alice.auth)).status_code == 201
    assert (await world.http.post(f"/workspaces/{alice.id}/tokens", headers=alice.auth)).status_code == 429


async def test_a_token_shows_when_it_was_last_used(world: World) -> None:
    alice = await world.create()
    await world.activity(alice)
    (row,) = (await world.http.get(f"/workspaces/{alice.id}/tokens", headers=world.admin)).json()["tokens"]
    assert row["last_used_at"] is not None


async def test_the_sender_of_a_message_is_the_owner_of_the_token(world: World) -> None:
    parent, left, right = await world.family()
    await world.register(right)
    url = f"/workspaces/{right.id}/a2a"
    disagreeing = await world.http.post(url, json={}, headers={**left.auth, "X-Workspace-ID": parent.id})
    assert (disagreeing.status_code, disagreeing.json()["error"]) == (401, "invalid caller auth token")
    anonymous = await world.http.post(url, json={})
    assert (anonymous.status_code, anonymous.json()["error"]) == (401, "missing caller auth token")
    claiming = await world.http.post(url, json={}, headers={"X-Workspace-ID": left.id})
    assert claiming.json()["error"] == "missing caller auth token"
    admin_as_workspace = await world.http.post(url, json={}, headers={**world.admin, "X-Workspace-ID": left.id})
    assert admin_as_workspace.json()["error"] == "invalid caller auth token"
    agreeing = await world.http.post(
        url, json={"method": "message/send"}, headers={**left.auth, "X-Workspace-ID": left.id}
    )
    human = await world.http.post(url, json={"method": "message/send"}, headers=world.admin)
    assert agreeing.status_code == human.status_code == 200
    assert [row["source_id"] for row in await world.activity(right)] == [None, left.id]


@pytest.mark.parametrize("prefix", ["webhook:", "system:", "test:", "channel:"])
async def test_reserved_caller_ids_are_forbidden(world: World, prefix: str) -> None:
    alice = await world.create()
    answer = await world.http.post(
        f"/workspaces/{alice.id}/a2a", json={}, headers={**alice.auth, "X-Workspace-ID": f"{prefix}x"}
    )
    assert (answer.status_code, answer.json()["error"]) == (403, "invalid caller ID")
