"""The transcript that a workspace's agent gives (contract 18.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .site import http_answer, refusal

if TYPE_CHECKING:
    from .site import Agent, Received, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("18", "18.1", era="june")
async def test_a_transcript_is_read_from_the_agent_with_the_callers_bearer(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    await site.register(alice, agent, agent_card={"name": alice.name, "url": agent.url})

    async def lines(request: Received) -> bytes:
        return http_answer({"lines": ["a", "b"], "asked": request.path}, 203)

    agent.answer = lines
    query = {"since": "3", "limit": "2", "x": "y"}
    answer = await site.http.get(f"/workspaces/{alice.id}/transcript", params=query, headers=alice.auth)
    assert (answer.status_code, answer.json()["lines"]) == (203, ["a", "b"])
    (request,) = agent.received
    assert (request.method, request.path) == ("GET", "/transcript?since=3&limit=2")
    assert request.headers["authorization"] == alice.auth["Authorization"]


@pytest.mark.contract("18.1", era="june")
async def test_an_agent_that_cannot_be_asked_is_said(site: Site, agent: Agent) -> None:
    alice = await site.create("alice")
    path = f"/workspaces/{alice.id}/transcript"
    refusal(await site.http.get(path, headers=alice.auth), 404)
    await site.register(alice, agent_card={"name": alice.name, "url": ""})
    refusal(await site.http.get(path, headers=alice.auth), 503)
    await site.register(alice, agent_card={"name": alice.name, "url": "http://169.254.169.254/"})
    refusal(await site.http.get(path, headers=alice.auth), 400, "workspace URL not allowed")

    async def gone(request: Received) -> bytes | None:
        del request
        return None

    agent.answer = gone
    await site.register(alice, agent, agent_card={"name": alice.name, "url": agent.url})
    refusal(await site.http.get(path, headers=alice.auth), 502, "workspace unreachable")
