"""Tasks: getting, listing and cancelling them."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.mark.spec("1.0", "3.1.3", "5.1")
@pytest.mark.spec("0.3.0", "7.3")
async def test_a_task_is_the_same_through_every_binding_and_version(agent: Agent) -> None:
    sent = await agent.send("count 2")
    assert await agent.task(sent["id"]) == sent
    assert (await agent.rest("GET", f"/tasks/{sent['id']}")).json() == sent
    old = await agent.result("tasks/get", {"id": sent["id"]}, version="0.3")
    assert (old["id"], old["contextId"], old["status"]["state"]) == (sent["id"], sent["contextId"], "completed")
    assert old["artifacts"][0]["artifactId"] == sent["artifacts"][0]["artifactId"]


@pytest.mark.spec("1.0", "5.6.1")
async def test_times_are_of_utc_in_milliseconds(agent: Agent) -> None:
    for word in ("count 1", "ask", "fail"):
        task = await agent.send(word)
        assert TIMESTAMP.fullmatch(task["status"]["timestamp"]), task["status"]


@pytest.mark.spec("1.0", "3.1.3", "3.1.5", "3.1.6", "3.3.2", "5.4")
@pytest.mark.spec("0.3.0", "7.3", "7.4", "7.9", "8.2")
async def test_a_task_that_is_not_there_is_not_found_by_any_method(agent: Agent) -> None:
    missing = {"id": str(uuid.uuid4())}
    for method in ("GetTask", "CancelTask", "SubscribeToTask"):
        assert (await agent.error(method, missing))["code"] == -32001
    for method in ("tasks/get", "tasks/cancel", "tasks/resubscribe"):
        assert (await agent.error(method, missing, version="0.3"))["code"] == -32001


@pytest.mark.spec("1.0", "3.1.5")
@pytest.mark.spec("0.3.0", "7.4")
async def test_a_task_that_runs_is_cancelled_and_one_that_has_ended_cannot_be(agent: Agent) -> None:
    task = await agent.send("hold", now=True)
    cancelled = await agent.result("CancelTask", {"id": task["id"]})
    assert cancelled["id"] == task["id"]
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"
    assert (await agent.task(task["id"]))["status"]["state"] == "TASK_STATE_CANCELED"
    for ended in (task, await agent.send("count 1")):
        assert (await agent.error("CancelTask", {"id": ended["id"]}))["code"] == -32002
        assert (await agent.error("tasks/cancel", {"id": ended["id"]}, version="0.3"))["code"] == -32002


@pytest.mark.spec("1.0", "3.1.5")
async def test_a_task_that_waits_for_its_sender_is_cancelled(agent: Agent) -> None:
    asked = await agent.send("ask")
    assert (await agent.result("CancelTask", {"id": asked["id"]}))["status"]["state"] == "TASK_STATE_CANCELED"


async def listed(agent: Agent, **params: Any) -> list[str]:
    return [task["id"] for task in (await agent.result("ListTasks", params))["tasks"]]


@pytest.mark.spec("1.0", "3.1.4")
async def test_tasks_are_listed_in_pages_the_one_that_changed_last_first(agent: Agent) -> None:
    context = str(uuid.uuid4())
    tasks = [await agent.send("ask", contextId=context) for _ in range(5)]
    await agent.send("count 1", taskId=tasks[1]["id"])
    expected = [tasks[number]["id"] for number in (1, 4, 3, 2, 0)]

    found: list[str] = []
    token = ""
    while True:
        page = await agent.result("ListTasks", {"contextId": context, "pageSize": 2, "pageToken": token})
        assert page["totalSize"] == 5
        assert page["pageSize"] == 2
        assert len(page["tasks"]) <= 2
        found += [task["id"] for task in page["tasks"]]
        token = page["nextPageToken"]
        if not token:
            break
    assert found == expected
    stamps = [
        task["status"]["timestamp"] for task in (await agent.result("ListTasks", {"contextId": context}))["tasks"]
    ]
    assert stamps == sorted(stamps, reverse=True)


@pytest.mark.spec("1.0", "3.1.4")
async def test_tasks_are_listed_by_context_state_and_time(agent: Agent) -> None:
    context = str(uuid.uuid4())
    asked = await agent.send("ask", contextId=context)
    done = await agent.send("count 1", contextId=context)
    assert set(await listed(agent, contextId=context)) == {asked["id"], done["id"]}
    assert await listed(agent, contextId=context, status="TASK_STATE_INPUT_REQUIRED") == [asked["id"]]
    after = done["status"]["timestamp"]
    assert done["id"] in await listed(agent, contextId=context, statusTimestampAfter=after)
    assert asked["id"] not in await listed(agent, contextId=context, statusTimestampAfter=after)
    assert await listed(agent, contextId=context, statusTimestampAfter="2999-01-01T00:00:00Z") == []
    empty = await agent.result("ListTasks", {"contextId": str(uuid.uuid4())})
    assert empty["tasks"] == []
    assert empty["nextPageToken"] == ""
    assert empty["totalSize"] == 0


@pytest.mark.spec("1.0", "3.1.4")
async def test_artifacts_are_listed_when_they_are_asked_for_and_else_not_even_as_nothing(agent: Agent) -> None:
    task = await agent.send("count 1", contextId=str(uuid.uuid4()))
    (without,) = (await agent.result("ListTasks", {"contextId": task["contextId"]}))["tasks"]
    assert "artifacts" not in without
    (full,) = (await agent.result("ListTasks", {"contextId": task["contextId"], "includeArtifacts": True}))["tasks"]
    assert full["artifacts"] == task["artifacts"]


@pytest.mark.spec("1.0", "3.1.11", "3.3.4")
@pytest.mark.spec("0.3.0", "7.10", "8.2")
async def test_an_agent_without_an_extended_card_says_so(agent: Agent) -> None:
    card = await agent.card()
    assert not card["capabilities"].get("extendedAgentCard", False)
    assert not card.get("supportsAuthenticatedExtendedCard", False)
    assert (await agent.error("GetExtendedAgentCard", {}))["code"] == -32004
    assert (await agent.error("agent/getAuthenticatedExtendedCard", None, version="0.3"))["code"] == -32007
    assert (await agent.rest("GET", "/extendedAgentCard")).status_code == 400
