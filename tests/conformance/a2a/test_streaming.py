"""Streams: how they begin, in which order they go on, and that they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from .site import TERMINAL, V1, WAIT_SECONDS, all_of, events_of, first_of, message, old_message

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio


@pytest.mark.spec("1.0", "3.1.2", "9.4.2")
async def test_a_stream_of_a_message_has_that_message_alone(agent: Agent) -> None:
    async with agent.stream("SendStreamingMessage", {"message": message("say hi")}) as events:
        (event,) = await all_of(events)
    assert event["result"]["message"]["parts"] == [{"text": "hi"}]
    assert list(event["result"]) == ["message"]


@pytest.mark.spec("1.0", "3.1.2", "3.2.3", "3.5.2", "9.4.2")
async def test_a_stream_of_a_task_begins_with_it_goes_on_in_order_and_ends_with_it(agent: Agent) -> None:
    async with agent.stream("SendStreamingMessage", {"message": message("count 5")}, request_id="mine") as events:
        seen = await all_of(events)
    assert all(event["jsonrpc"] == "2.0" and event["id"] == "mine" for event in seen)
    assert all(len(event["result"]) == 1 for event in seen)
    results = [event["result"] for event in seen]
    task = results[0]["task"]
    pieces = [one["artifactUpdate"] for one in results if "artifactUpdate" in one]
    assert [piece["artifact"]["parts"][0]["text"] for piece in pieces] == [f"piece {number}" for number in range(5)]
    assert [piece.get("append", False) for piece in pieces] == [False, True, True, True, True]
    assert pieces[-1]["lastChunk"]
    assert all((one["taskId"], one["contextId"]) == (task["id"], task["contextId"]) for one in pieces)
    states = [one["statusUpdate"]["status"]["state"] for one in results if "statusUpdate" in one]
    assert states == ["TASK_STATE_WORKING", "TASK_STATE_COMPLETED"]
    assert "statusUpdate" in results[-1]
    assert "final" not in results[-1]["statusUpdate"]


@pytest.mark.spec("0.3.0", "7.2", "7.2.1", "9.3")
async def test_a_stream_of_0_3_is_of_its_kinds_and_its_last_event_is_final(agent: Agent) -> None:
    params = {"message": old_message("count 2")}
    async with agent.stream("message/stream", params, version="", request_id=7) as events:
        seen = await all_of(events)
    assert all(event["id"] == 7 for event in seen)
    results: list[dict[str, Any]] = [event["result"] for event in seen]
    assert [one["kind"] for one in results] == [
        "task",
        "status-update",
        "artifact-update",
        "artifact-update",
        "status-update",
    ]
    assert [one["final"] for one in results if one["kind"] == "status-update"] == [False, True]
    assert results[-1]["status"]["state"] == "completed"
    assert results[2]["artifact"]["parts"] == [{"kind": "text", "text": "piece 0"}]


@pytest.mark.spec("1.0", "11.7")
async def test_a_stream_of_the_http_binding_has_the_same_events_without_an_envelope(agent: Agent) -> None:
    body = {"message": message("count 2")}
    async with agent.http.stream("POST", "/message:stream", json=body, headers=V1) as response:
        seen = await all_of(events_of(response))
    assert [next(iter(event)) for event in seen] == [
        "task",
        "statusUpdate",
        "artifactUpdate",
        "artifactUpdate",
        "statusUpdate",
    ]


@pytest.mark.spec("1.0", "3.1.2")
@pytest.mark.spec("0.3.0", "9.4")
async def test_a_stream_ends_when_the_task_waits_for_its_sender(agent: Agent) -> None:
    async with agent.stream("SendStreamingMessage", {"message": message("ask")}) as events:
        seen = await all_of(events)
    assert seen[-1]["result"]["statusUpdate"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


@pytest.mark.spec("1.0", "3.1.2", "3.3.2")
async def test_what_is_wrong_with_a_message_is_said_instead_of_a_stream(agent: Agent) -> None:
    assert (await agent.error("SendStreamingMessage", {"message": message("x", taskId="none")}))["code"] == -32001
    response = await agent.rest("POST", "/message:stream", {"message": message("x", taskId="none")})
    assert response.status_code == 404
    assert response.json()["error"]["status"] == "NOT_FOUND"


@pytest.mark.spec("1.0", "3.1.6", "3.5.2")
@pytest.mark.spec("0.3.0", "7.9")
async def test_all_who_follow_a_task_see_it_and_then_the_same_until_it_ends(agent: Agent) -> None:
    async with agent.stream("SendStreamingMessage", {"message": message("hold")}) as events:
        task_id = (await first_of(events))["result"]["task"]["id"]
        subscribe = {"id": task_id}
        async with (
            agent.stream("SubscribeToTask", subscribe) as one,
            agent.stream("SubscribeToTask", subscribe) as two,
            agent.stream("tasks/resubscribe", subscribe, version="0.3") as old,
            agent.http.stream("POST", f"/tasks/{task_id}:subscribe", headers=V1) as response,
        ):
            rest = events_of(response)
            firsts = [await first_of(stream) for stream in (one, two)]
            assert all(event["result"]["task"]["id"] == task_id for event in firsts)
            assert (await first_of(old))["result"]["kind"] == "task"
            assert (await first_of(rest))["task"]["id"] == task_id
            await agent.result("CancelTask", {"id": task_id})
            ends = [(await all_of(stream))[-1]["result"] for stream in (one, two, events)]
            assert ends[0] == ends[1] == ends[2]
            assert ends[0]["statusUpdate"]["status"]["state"] == "TASK_STATE_CANCELED"
            last = (await all_of(old))[-1]["result"]
            assert (last["status"]["state"], last["final"]) == ("canceled", True)
            assert (await all_of(rest))[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.spec("1.0", "3.5.2")
async def test_a_task_does_not_end_with_the_stream_of_one_who_leaves(agent: Agent) -> None:
    async with agent.stream("SendStreamingMessage", {"message": message("hold")}) as events:
        task_id = (await first_of(events))["result"]["task"]["id"]
    assert (await agent.task(task_id))["status"]["state"] not in TERMINAL
    async with agent.stream("SubscribeToTask", {"id": task_id}) as again:
        assert (await first_of(again))["result"]["task"]["id"] == task_id
        await agent.result("CancelTask", {"id": task_id})
        with anyio.fail_after(WAIT_SECONDS):
            assert await all_of(again)


@pytest.mark.spec("1.0", "3.1.6")
@pytest.mark.spec("0.3.0", "7.9")
async def test_a_task_that_has_ended_cannot_be_followed(agent: Agent) -> None:
    task = await agent.send("count 1")
    assert (await agent.error("SubscribeToTask", {"id": task["id"]}))["code"] == -32004
    assert "error" in await agent.rpc("tasks/resubscribe", {"id": task["id"]}, version="0.3")
    assert (await agent.rest("POST", f"/tasks/{task['id']}:subscribe")).status_code == 400
