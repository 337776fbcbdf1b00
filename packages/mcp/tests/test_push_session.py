"""Messages are pushed to a client that shows them, through a real process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .processes import INITIALIZE, INITIALIZED, lines, one

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.tenants import Tenant

pytestmark = pytest.mark.anyio


async def test_a_client_that_shows_a_channel_is_pushed_its_messages_and_takes_them_out_by_the_same_pop(
    acme: Tenant, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    await acme.register(ours)
    async with lines(one(tmp_path / "p", acme.url, ours, CLAUDECODE="1")) as process:
        await process.send(INITIALIZE)
        hello = (await process.answer(1))["result"]
        assert hello["capabilities"]["experimental"] == {"claude/channel": {}}
        await acme.message(lead, ours, "look here")
        # It is here, and is not pushed before the client is ready.
        await process.call(2, "inbox_peek")
        await process.answer(2)
        assert b"claude/channel" not in bytes(process.received).partition(b'"id":1')[2].partition(b"\n")[2]
        await process.send(INITIALIZED)
        pushed = await process.read()
        assert pushed["method"] == "notifications/claude/channel"
        assert "id" not in pushed
        meta = pushed["params"]["meta"]
        assert (meta["source"], meta["kind"], meta["peer_id"], meta["peer_name"]) == (
            "molecule",
            "peer_agent",
            lead.id,
            "team-lead",
        )
        assert "look here" in pushed["params"]["content"]
        await process.call(3, "inbox_pop", activity_id=meta["activity_id"])
        assert (await process.answer(3))["result"]["structuredContent"]["removed"] is True
        await process.call(4, "wait_for_message", timeout_secs=0)
        assert (await process.answer(4))["result"]["structuredContent"]["timeout"] is True
