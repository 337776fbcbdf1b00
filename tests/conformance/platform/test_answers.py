"""What becomes of an agent's answer on its way to the sender (contract 5.4, 24.5)."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from .site import MIB, agent_on, answering, http_answer, refusal, says

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .site import Agent, Received, Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("5.4", "28.1", era="april")
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [(500, {"error": "boom"}, "boom"), (404, {"error": "no such skill"}, "no such skill"), (503, b"not json", None), (429, b"", None)],
)  # fmt: skip
async def test_an_agents_own_error_status_is_passed_on_with_its_text(
    site: Site, agent: Agent, status: int, body: Any, error: str | None
) -> None:
    sender, target = await site.pair(agent)
    agent.answer = answering(http_answer(body, status))
    refusal(await site.send(sender, target), status, error)
    assert len(agent.received) == 1


@pytest.mark.contract("5.7", "23.3", era="april")
async def test_a_json_rpc_error_passes_as_the_answer_that_it_is(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    said = {"jsonrpc": "2.0", "id": "7", "error": {"code": -32601, "message": "Method not found"}}
    agent.answer = answering(http_answer(said))
    answer = await site.send(sender, target)
    assert (answer.status_code, answer.json()) == (200, said)


@pytest.mark.contract("5.4", era="april")
async def test_another_success_status_of_the_agent_stays(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    agent.answer = answering(http_answer(says("made"), 201))
    answer = await site.send(sender, target)
    assert (answer.status_code, answer.json()["result"]["parts"][0]["text"]) == (201, "made")


@pytest.mark.contract("5.4", "28.1", era="april")
async def test_an_agent_that_nobody_reaches_is_a_502(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://{site.server.agent_host}:{unused.getsockname()[1]}/"
        await site.register(target, agent, url=url)
        refusal(await site.send(sender, target), 502, "failed to reach workspace agent")


@pytest.mark.contract("5.4", "28.1", era="april")
@pytest.mark.parametrize(("status", "confirmed"), [(200, True), (500, False)])
async def test_an_answer_that_is_cut_off_says_whether_the_work_was_done(
    site: Site, agent: Agent, status: int, confirmed: bool
) -> None:
    sender, target = await site.pair(agent)
    whole = http_answer(says("much longer than what arrives"), status)
    agent.answer = answering(whole[:-10])
    body = refusal(await site.send(sender, target), 502, "failed to read agent response")
    assert body["delivery_confirmed"] is confirmed


@pytest.mark.contract("24.5", "24.6", era="june")
async def test_an_answer_without_a_body_is_a_failure(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    agent.answer = answering(http_answer(b""))
    refusal(await site.send(sender, target), 502, "workspace agent returned empty response")


@pytest.mark.contract("24.5", "21", era="june")
async def test_an_answer_that_is_too_large_is_a_failure(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    agent.answer = answering(http_answer(says("x" * (10 * MIB + 1))))
    assert refusal(await site.send(sender, target), 502)["truncated"] is True


@pytest.mark.contract("5.4", "21", era="april")
async def test_an_answer_of_several_mebibytes_is_passed_on(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    said = says("x" * (6 * MIB))
    agent.answer = answering(http_answer(said))
    assert (await site.send(sender, target)).json() == said


@pytest.mark.contract("5.4", "5.6", "28.1", era="april")
async def test_an_agent_that_ends_the_connection_without_an_answer_counts_as_busy(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    agent.answer = answering(None)
    answer = await site.send(sender, target)
    body = answer.json()
    assert (answer.status_code, body["queued"]) == (202, True)
    assert str(uuid.UUID(body["queue_id"])) == body["queue_id"]
    assert body["queue_depth"] == 1
    assert body["message"]
    assert "result" not in body


@asynccontextmanager
async def resetting(host: str) -> AsyncGenerator[str]:
    """Listen, and reset each connection once a request has begun to come; returns the URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    listener = await asyncio.start_server(connected, "127.0.0.1" if host == "localhost" else "0.0.0.0", 0)  # noqa: S104
    async with listener:
        yield f"http://{host}:{listener.sockets[0].getsockname()[1]}/"


@pytest.mark.contract("5.4", "28.1", era="april")
async def test_an_agent_that_resets_the_connection_counts_as_busy(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    async with resetting(site.server.agent_host) as url:
        await site.register(target, agent, url=url)
        answer = await site.send(sender, target)
    assert (answer.status_code, answer.json()["queued"]) == (202, True)


@pytest.mark.contract("5.4", "5.6", era="april")
async def test_a_person_is_told_as_well_that_the_agent_is_busy(site: Site, agent: Agent) -> None:
    _, target = await site.pair(agent)
    agent.answer = answering(None)
    answer = await site.send(None, target)
    assert (answer.status_code, answer.json()["queued"]) == (202, True)


@pytest.mark.contract("4.2", "5.3", "28.1", era="april")
async def test_an_agent_that_gives_no_sign_of_life_counts_as_busy(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    await site.beat(target, runtime_metadata={"capabilities": {}, "idle_timeout_seconds": 1})
    release = asyncio.Event()

    async def late(_: Received) -> bytes:
        await release.wait()
        return http_answer(says("late"))

    agent.answer = late
    answer = await site.send(sender, target)
    release.set()
    assert (answer.status_code, answer.json()["queued"]) == (202, True)


@pytest.mark.contract("4.2", "5.4", "28.1", era="april")
async def test_an_agent_with_sessions_of_its_own_is_busy_and_nothing_is_queued(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    await site.beat(target, runtime_metadata={"capabilities": {"session": True}})
    agent.answer = answering(None)
    answer = await site.send(sender, target)
    body = refusal(answer, 503)
    assert (body["busy"], body["native_session"], body["retry_after"]) == (True, True, 30)
    assert answer.headers["retry-after"] == "30"


@pytest.mark.contract("5.3", "28.1", era="april")
async def test_heartbeats_keep_a_turn_alive_that_is_longer_than_the_idle_time(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    metadata = {"idle_timeout_seconds": 2}
    await site.beat(target, runtime_metadata=metadata)

    async def long(_: Received) -> bytes:
        for _beat in range(9):
            # A turn of more than the idle time, in which the agent goes on with its heartbeats.
            await anyio.sleep(0.3)
            await site.beat(target, active_tasks=1, runtime_metadata=metadata)
        return http_answer(says("at last"))

    agent.answer = long
    answer = await site.send(sender, target)
    assert (answer.status_code, answer.json()["result"]["parts"][0]["text"]) == (200, "at last")


@pytest.mark.contract("5.3", "5.4", era="april")
async def test_an_answer_in_chunks_is_passed_on_whole(site: Site, agent: Agent) -> None:
    sender, target = await site.pair(agent)
    said = says("bit by bit")
    body = json.dumps(said).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    agent.answer = answering(head + chunks + b"0\r\n\r\n")
    answer = await site.send(sender, target)
    assert (answer.status_code, answer.json()) == (200, said)


@pytest.mark.contract("5.4", "ours", era="june")
@pytest.mark.parametrize("status", [302, 307])
async def test_an_agent_sends_nobody_elsewhere(site: Site, agent: Agent, status: int) -> None:
    # The README: "Redirects of agents are not followed."
    sender, target = await site.pair(agent)
    async with agent_on(site.server.agent_host) as elsewhere:
        agent.answer = answering(http_answer({}, status, headers=f"Location: {elsewhere.url}\r\n"))
        answer = await site.send(sender, target)
    refusal(answer, status)
    assert "location" not in answer.headers
    assert elsewhere.received == []
