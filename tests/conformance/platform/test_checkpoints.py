"""Checkpoints of workflows (contract 13.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .site import refusal

if TYPE_CHECKING:
    from .site import Member, Site

pytestmark = pytest.mark.anyio


async def done(site: Site, member: Member, workflow: str, step: str, **fields: Any) -> dict[str, Any]:
    body = {"workflow_id": workflow, "step_name": step, **fields}
    made: dict[str, Any] = await site.post(member, "checkpoints", body, status=201)
    return made


@pytest.mark.contract("13.2", era="april")
async def test_steps_of_a_workflow_are_listed_from_the_last(site: Site) -> None:
    alice = await site.create("alice")
    refusal(await site.http.get(f"/workspaces/{alice.id}/checkpoints/latest", headers=alice.auth), 404)
    first = await done(site, alice, "wf", "fetch", step_index=1, payload={"rows": 3})
    assert (first["workspace_id"], first["workflow_id"], first["step_name"]) == (alice.id, "wf", "fetch")
    await done(site, alice, "wf", "store", step_index=2)
    rows = await site.get(alice, "checkpoints/wf")
    assert [(row["step_name"], row["step_index"], row["payload"]) for row in rows] == [
        ("store", 2, None),
        ("fetch", 1, {"rows": 3}),
    ]
    await done(site, alice, "other", "only", step_index=0)
    assert (await site.get(alice, "checkpoints/latest"))["workflow_id"] == "other"
    gone = await site.http.delete(f"/workspaces/{alice.id}/checkpoints/wf", headers=alice.auth)
    assert gone.json() == {"deleted": 2, "workflow_id": "wf"}
    refusal(await site.http.get(f"/workspaces/{alice.id}/checkpoints/wf", headers=alice.auth), 404)
    refusal(await site.http.delete(f"/workspaces/{alice.id}/checkpoints/wf", headers=alice.auth), 404)


@pytest.mark.contract("13.2", era="april")
async def test_a_step_that_is_done_again_replaces_itself(site: Site) -> None:
    alice = await site.create("alice")
    first = await done(site, alice, "wf", "fetch", step_index=1, payload=1)
    again = await done(site, alice, "wf", "fetch", step_index=4, payload=2)
    assert first["id"] == again["id"]
    assert [(row["step_index"], row["payload"]) for row in await site.get(alice, "checkpoints/wf")] == [(4, 2)]


@pytest.mark.contract("13.2", "23.16", era="april")
async def test_a_workflow_called_latest_is_stored_and_deleted_and_cannot_be_read(site: Site) -> None:
    alice = await site.create("alice")
    await done(site, alice, "latest", "hidden")
    await done(site, alice, "wf", "fetch")
    assert (await site.get(alice, "checkpoints/latest"))["step_name"] == "fetch"
    gone = await site.http.delete(f"/workspaces/{alice.id}/checkpoints/latest", headers=alice.auth)
    assert (gone.status_code, gone.json()) == (200, {"deleted": 1, "workflow_id": "latest"})
    assert (await site.get(alice, "checkpoints/latest"))["step_name"] == "fetch"


@pytest.mark.contract("13.2", "1.5", era="june")
async def test_checkpoints_are_of_one_workspace_only(site: Site) -> None:
    _, left, right = await site.family()
    await done(site, left, "wf", "fetch", payload="mine")
    for path in ("checkpoints/wf", "checkpoints/latest"):
        refusal(await site.http.get(f"/workspaces/{right.id}/{path}", headers=right.auth), 404)
        refusal(await site.http.get(f"/workspaces/{left.id}/{path}", headers=right.auth), 401)
    refusal(await site.http.delete(f"/workspaces/{right.id}/checkpoints/wf", headers=right.auth), 404)
    assert len(await site.get(left, "checkpoints/wf")) == 1


@pytest.mark.contract("13.2", era="april")
@pytest.mark.parametrize("body", [{}, {"workflow_id": "w"}, {"step_name": "s"}, {"workflow_id": 1, "step_name": "s"}])
async def test_an_incomplete_checkpoint_is_refused(site: Site, body: dict[str, Any]) -> None:
    alice = await site.create("alice")
    refusal(await site.http.post(f"/workspaces/{alice.id}/checkpoints", json=body, headers=alice.auth), 400)
