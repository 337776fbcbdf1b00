"""Messages to people: send_message_to_user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from tests.support.tenants import WAIT_SECONDS, Http, Member, Tenant

from molecule_runtime.tools import Permissions

from .support import context, done, refused

if TYPE_CHECKING:
    from molecule_runtime.core.platform.pools import ConnectionPools

pytestmark = pytest.mark.anyio

ALICE = Member("alice", "token-of-alice")


async def test_a_message_with_uploaded_files_reaches_the_person(acme: Tenant, pools: ConnectionPools) -> None:
    _, ours = await acme.family()
    files = [
        {"uri": "workspace:/a.png", "name": "a.png", "mimeType": "image/png", "size": 3},
        {"uri": "https://x/b", "name": "b", "mime_type": "text/plain"},
    ]
    ctx = context(pools, (acme.url, ours))
    async with acme.platform.bus.subscribe() as frames:
        result = await done(ctx, "send_message_to_user", message="look", attachments=files)
        with anyio.fail_after(WAIT_SECONDS):
            frame = await anext(frames)
            while frame.event != "AGENT_MESSAGE":
                frame = await anext(frames)
    assert result.text == "Message sent to user with 2 attachments"
    assert frame.workspace_id == ours.id
    assert frame.payload["message"] == "look"
    assert frame.payload["attachments"] == [
        {"uri": "workspace:/a.png", "name": "a.png", "mimeType": "image/png", "size": 3},
        {"uri": "https://x/b", "name": "b", "mimeType": "text/plain"},
    ]


async def test_a_message_alone_and_one_file_are_said_as_they_are(acme: Tenant, pools: ConnectionPools) -> None:
    _, ours = await acme.family()
    ctx = context(pools, (acme.url, ours))
    assert (await done(ctx, "send_message_to_user", message="hi")).text == "Message sent to user"
    one = await done(ctx, "send_message_to_user", message="hi", attachments=[{"uri": "workspace:/a", "name": "a"}])
    assert one.text == "Message sent to user with 1 attachment"


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "javascript:alert(1)", "data:text/html,x"])
async def test_an_address_that_is_no_uploaded_file_is_refused_and_nothing_is_sent(
    scripted: Http, pools: ConnectionPools, uri: str
) -> None:
    attachments = [{"uri": "workspace:/ok", "name": "ok"}, {"uri": uri, "name": "x"}]
    ctx = context(pools, (scripted.url, ALICE))
    text = await refused(ctx, "send_message_to_user", message="look", attachments=attachments)
    assert text.startswith("attachments[1]: 'uri' must be the address of a file that is already uploaded")
    assert scripted.received == []


async def test_a_broadcast_reaches_the_workspaces_of_the_organisation_where_it_is_enabled(
    acme: Tenant, pools: ConnectionPools
) -> None:
    parent, ours = await acme.family()
    ctx = context(pools, (acme.url, ours))
    assert (await refused(ctx, "broadcast_message", message="hi")).startswith("broadcasting is not enabled")
    enabled = {"broadcast_enabled": True}
    answer = await acme.http.patch(f"/workspaces/{ours.id}/abilities", json=enabled, headers=acme.admin)
    assert answer.status_code == 200
    assert (await done(ctx, "broadcast_message", message="noon")).text == "Broadcast sent to 1 workspace(s)"
    rows = [row for row in await acme.activity(parent) if row["activity_type"] == "broadcast_receive"]
    assert [row["request_body"]["message"] for row in rows] == ["noon"]


async def test_a_role_that_may_not_delegate_does_not_broadcast(scripted: Http, pools: ConnectionPools) -> None:
    ctx = context(pools, (scripted.url, ALICE), permissions=Permissions(("no-delegation",)))
    assert "action 'delegate' denied" in await refused(ctx, "broadcast_message", message="hi")
    assert scripted.received == []


async def test_an_attachment_that_names_no_file_is_an_argument_error(scripted: Http, pools: ConnectionPools) -> None:
    ctx = context(pools, (scripted.url, ALICE))
    text = await refused(ctx, "send_message_to_user", message="look", attachments=[{"name": "x"}])
    assert text.startswith("send_message_to_user: the arguments are not usable:")
    assert await refused(ctx, "send_message_to_user", message="  ")
    assert scripted.received == []


async def test_a_workspace_that_may_not_talk_to_the_user_is_sent_to_its_parent(
    scripted: Http, pools: ConnectionPools
) -> None:
    scripted.says((403, {"error": "talk_to_user_disabled", "hint": "route through your parent"}))
    text = await refused(context(pools, (scripted.url, ALICE)), "send_message_to_user", message="hi")
    assert (
        text == "this workspace may not talk to the user; delegate the message to your parent (list_peers), which may"
    )


async def test_another_refusal_is_told_as_it_is(scripted: Http, pools: ConnectionPools) -> None:
    scripted.says((403, {"error": "no"}))
    text = await refused(context(pools, (scripted.url, ALICE)), "send_message_to_user", message="hi")
    assert "403 no" in text
    assert ALICE.token not in text
