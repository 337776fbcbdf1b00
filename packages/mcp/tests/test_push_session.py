"""Messages are pushed to a client that shows them, through a real process."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from tests.support.mcp_over_http import served

from .processes import INITIALIZE, INITIALIZED, SECONDS, lines, one, online, tool_call

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    import httpx
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


# --- over HTTP ----------------------------------------------------------------------------------------------------------------


class Listener:
    """A session over HTTP, and its stream while that is open."""

    def __init__(self, http: httpx.AsyncClient, session_id: str) -> None:
        self._http = http
        self._headers = {"mcp-session-id": session_id}

    async def call(self, tool: str, **arguments: Any) -> Any:
        answer = await self._http.post("/mcp", json=tool_call(7, tool, **arguments), headers=self._headers)
        (data,) = [line.removeprefix("data:") for line in answer.text.splitlines() if line.startswith("data:")]
        return json.loads(data)["result"]["structuredContent"]

    @asynccontextmanager
    async def stream(self) -> AsyncGenerator[AsyncGenerator[dict[str, Any]]]:
        """Open the session's stream; yields the notifications that are pushed on it."""

        async def pushed(lines: Any) -> AsyncGenerator[dict[str, Any]]:
            async for line in lines:
                if line.startswith("data:") and "/channel" in (message := json.loads(line[5:]))["method"]:
                    yield message

        async with self._http.stream("GET", "/mcp", headers=self._headers) as answer:
            assert answer.status_code == 200
            yield pushed(answer.aiter_lines())

    async def end(self) -> None:
        assert (await self._http.delete("/mcp", headers=self._headers)).status_code == 200


async def listener(http: httpx.AsyncClient, name: str) -> tuple[Listener, dict[str, Any]]:
    """Begin a session of a client of this name; returns it and what the server announces."""
    about = {"name": name, "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about}
    hello = await http.post("/mcp", json={**INITIALIZE, "params": params})
    session_id = hello.headers["mcp-session-id"]
    ready = await http.post("/mcp", json=INITIALIZED, headers={"mcp-session-id": session_id})
    assert ready.status_code == 202
    return Listener(http, session_id), hello.json()["result"]["capabilities"]


async def test_over_http_each_client_that_shows_a_channel_is_pushed_to_on_its_stream_and_the_others_are_not(
    acme: Tenant, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    # The variable is that of whoever started the process, which is no client of it.
    where = one(tmp_path / "p", acme.url, ours, CURSOR_TRACE_ID="t")
    async with served(where.environ, where.log) as running, running.http() as http:
        await online(acme, ours)
        claude, announced = await listener(http, "claude-code")
        assert announced["experimental"] == {"claude/channel": {}}
        hermes, _ = await listener(http, "hermes")
        other, _ = await listener(http, "inspector")
        with anyio.fail_after(SECONDS):
            async with claude.stream() as channel, other.stream():
                await acme.message(lead, ours, "look here")
                message = await anext(channel)
                assert message["method"] == "notifications/claude/channel"
                assert "look here" in message["params"]["content"]
            await claude.end()
            async with hermes.stream() as channel:
                await acme.message(lead, ours, "and here")
                message = await anext(channel)
                assert message["method"] == "notifications/hermes/channel"
                assert "and here" in message["params"]["content"]
        for text in ("look here", "and here"):
            found = await other.call("wait_for_message", timeout_secs=20)
            assert (found["text"], found["pushed"]) == (text, True)
            assert (await other.call("inbox_pop", activity_id=found["activity_id"]))["removed"] is True


async def test_over_http_a_session_that_has_ended_or_has_no_stream_takes_no_message(
    acme: Tenant, tmp_path: Path
) -> None:
    lead, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours)
    async with served(where.environ, where.log) as running, running.http() as http:
        await online(acme, ours)
        silent, _ = await listener(http, "claude-code")
        ended, _ = await listener(http, "claude-code")
        async with ended.stream():
            await ended.end()
        await acme.message(lead, ours, "for whom?")
        found = await silent.call("wait_for_message", timeout_secs=20)
        assert (found["text"], found.get("pushed")) == ("for whom?", None)
