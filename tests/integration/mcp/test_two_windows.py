"""Two `molecule-mcp` processes of one workspace, as two windows of an editor start them."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from packages.mcp.tests.processes import SECONDS, Lines, lines, one
from tests.support.tenants import tenant

from molecule_runtime.mcp.listing import list_mailboxes
from molecule_runtime.mcp.opening import INBOX_FILE
from molecule_runtime.mcp.store import InboxStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

BEFORE = 40
AFTER = 20


class Window:
    """An agent behind one of the processes."""

    def __init__(self, process: Lines) -> None:
        self.process = process
        self.handled: list[str] = []
        self.held: str | None = None
        self._number = 10

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self._number += 1
        await self.process.call(self._number, tool, **arguments)
        result = (await self.process.answer(self._number))["result"]
        assert not result["isError"], result
        return dict(json.loads(result["content"][0]["text"]))

    async def take(self) -> str:
        message = await self.call("wait_for_message", timeout_secs=40)
        assert "timeout" not in message, "nothing came"
        return str(message["activity_id"])

    async def handle(self, count: int) -> None:
        for _ in range(count):
            activity_id = await self.take()
            assert (await self.call("inbox_pop", activity_id=activity_id))["removed"] is True
            self.handled.append(activity_id)


async def polled_by(path: Path, *pids: int) -> int:
    """Return which of the processes polls, once one of them does."""
    store = await anyio.to_thread.run_sync(InboxStore, path)
    try:
        with anyio.fail_after(SECONDS):
            while True:
                (state,) = await anyio.to_thread.run_sync(list_mailboxes, store) or (None,)
                if state is not None and state.polled_by in pids:
                    return state.polled_by
                await anyio.sleep(0.1)
    finally:
        store.close()


@pytest.mark.timeout(240)
async def test_two_windows_share_an_inbox_and_one_goes_on_when_the_other_is_killed(tmp_path: Path) -> None:
    async with tenant(tmp_path / "acme") as acme:
        lead, ours = await acme.family()
        await acme.register(ours)
        place = one(tmp_path / "p", acme.url, ours, MOLECULE_MCP_PUSH="off")
        async with lines(place) as first, lines(place) as second:
            first.patience = second.patience = 90.0
            async with anyio.create_task_group() as group:
                group.start_soon(first.hello)
                group.start_soon(second.hello)
            windows = {process.process.pid: Window(process) for process in (first, second)}
            poller = await polled_by(place.state / INBOX_FILE, *windows)
            doomed = windows.pop(poller)
            (other,) = windows.values()

            # Both get messages, of which only one process fetched any.
            async with anyio.create_task_group() as group:
                group.start_soon(doomed.handle, BEFORE // 2)
                group.start_soon(other.handle, BEFORE // 2)
                for number in range(BEFORE):
                    await acme.message(lead, ours, f"before {number}")

            # The poller dies while its agent is at work on a message; the other window gets that one, and what comes later.
            await acme.message(lead, ours, "in the hands of a window that dies")
            held = await doomed.take()
            doomed.process.process.kill()
            await doomed.process.end()
            async with anyio.create_task_group() as group:
                group.start_soon(other.handle, AFTER + 1)
                for number in range(AFTER):
                    await acme.message(lead, ours, f"after {number}")
            assert await polled_by(place.state / INBOX_FILE, *windows) != poller
            rest = await other.call("wait_for_message", timeout_secs=0)
        counted = Counter(doomed.handled + other.handled)
        assert len(counted) == BEFORE + AFTER + 1
        assert set(counted.values()) == {1}
        assert held in other.handled
        assert rest["timeout"] is True
