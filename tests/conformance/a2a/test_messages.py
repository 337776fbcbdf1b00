"""Sending messages: what answers them, contexts, tasks that go on, and how much history an answer has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .site import TERMINAL, message, old_message

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio


@pytest.mark.spec("1.0", "3.1.1", "3.4.1")
async def test_a_message_is_answered_with_a_message_that_has_a_context_of_its_own(agent: Agent) -> None:
    first, second = [(await agent.result("SendMessage", {"message": message("say hi")}))["message"] for _ in range(2)]
    for answer in (first, second):
        assert answer["messageId"]
        assert answer["role"] == "ROLE_AGENT"
        assert answer["contextId"]
    assert first["contextId"] != second["contextId"]


@pytest.mark.spec("1.0", "3.1.1", "3.2.2", "3.4.1")
async def test_a_message_is_answered_with_a_task_that_has_ended(agent: Agent) -> None:
    task = await agent.send("count 3")
    assert task["id"]
    assert task["contextId"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    (artifact,) = task["artifacts"]
    # What was appended is there in order; how many parts it makes is not said anywhere.
    assert "".join(part["text"] for part in artifact["parts"]) == "piece 0piece 1piece 2"


@pytest.mark.spec("0.3.0", "7.1", "6.1")
async def test_a_message_of_0_3_is_answered_with_a_task_in_the_words_of_0_3(agent: Agent) -> None:
    params = {"message": old_message("count 2"), "configuration": {"blocking": True}}
    task = await agent.result("message/send", params, version="0.3")
    assert task["kind"] == "task"
    assert task["status"]["state"] == "completed"
    parts = task["artifacts"][0]["parts"]
    assert {part["kind"] for part in parts} == {"text"}
    assert "".join(part["text"] for part in parts) == "piece 0piece 1"
    assert task["history"][0]["role"] == "user"


@pytest.mark.spec("1.0", "3.4.1")
async def test_the_context_that_a_client_chose_is_kept(agent: Agent) -> None:
    answer = await agent.result("SendMessage", {"message": message("say hi", contextId="of-the-client")})
    assert answer["message"]["contextId"] == "of-the-client"
    task = await agent.send("count 1", contextId="of-the-client-2")
    assert task["contextId"] == "of-the-client-2"


@pytest.mark.spec("1.0", "3.4.2")
@pytest.mark.spec("0.3.0", "9.4")
async def test_a_task_that_asked_goes_on_with_the_answer_in_the_context_that_it_has(agent: Agent) -> None:
    asked = await agent.send("ask")
    assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    done = await agent.send("this", taskId=asked["id"])
    assert (done["id"], done["contextId"]) == (asked["id"], asked["contextId"])
    assert done["status"]["state"] == "TASK_STATE_COMPLETED"
    said = [part["text"] for one in done["history"] for part in one["parts"]]
    assert said.index("ask") < said.index("which?") < said.index("this")


@pytest.mark.spec("1.0", "3.4.2")
async def test_a_context_that_is_not_the_one_of_the_task_is_refused(agent: Agent) -> None:
    asked = await agent.send("ask")
    error = await agent.error("SendMessage", {"message": message("this", taskId=asked["id"], contextId="another")})
    assert error["code"] == -32602
    assert (await agent.task(asked["id"]))["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"


@pytest.mark.spec("1.0", "3.1.1", "3.4.2", "5.4")
@pytest.mark.spec("0.3.0", "7.1", "8.2")
async def test_a_message_for_a_task_that_is_not_there_finds_none(agent: Agent) -> None:
    error = await agent.error("SendMessage", {"message": message("x", taskId="no-such-task")})
    assert error["code"] == -32001
    old = await agent.error("message/send", {"message": old_message("x", taskId="no-such-task")}, version="0.3")
    assert old["code"] == -32001
    response = await agent.rest("POST", "/message:send", {"message": message("x", taskId="no-such-task")})
    assert response.status_code == 404


@pytest.mark.spec("1.0", "3.1.1", "3.1.2")
@pytest.mark.spec("0.3.0", "6.1")
@pytest.mark.parametrize("word", ["count 1", "fail", "reject"])
async def test_a_task_that_has_ended_takes_no_message(agent: Agent, word: str) -> None:
    task = await agent.send(word)
    assert task["status"]["state"] in TERMINAL
    more = {"message": message("more", taskId=task["id"])}
    for method in ("SendMessage", "SendStreamingMessage"):
        assert (await agent.error(method, more))["code"] == -32004
    old = {"message": old_message("more", taskId=task["id"])}
    assert "error" in await agent.rpc("message/send", old, version="0.3")
    assert (await agent.rest("POST", "/message:send", more)).status_code == 400
    assert (await agent.task(task["id"]))["status"] == task["status"]


@pytest.mark.spec("1.0", "3.2.2")
async def test_who_does_not_want_to_wait_gets_the_task_at_once(agent: Agent) -> None:
    task = await agent.send("hold", now=True)
    assert task["status"]["state"] in {"TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"}
    await agent.result("CancelTask", {"id": task["id"]})


@pytest.mark.spec("0.3.0", "7.1")
async def test_in_0_3_who_does_not_want_to_wait_gets_the_task_at_once(agent: Agent) -> None:
    params = {"message": old_message("hold"), "configuration": {"blocking": False}}
    task = await agent.result("message/send", params, version="0.3")
    assert task["kind"] == "task"
    assert task["status"]["state"] in {"submitted", "working"}
    ended = await agent.result("tasks/cancel", {"id": task["id"]}, version="0.3")
    assert ended["status"]["state"] == "canceled"


@pytest.mark.spec("1.0", "3.2.4")
async def test_the_history_of_an_answer_is_as_long_as_was_asked(agent: Agent) -> None:
    asked = await agent.send("ask")
    whole = (await agent.task(asked["id"]))["history"]
    assert whole
    assert not (await agent.result("GetTask", {"id": asked["id"], "historyLength": 0})).get("history")
    assert (await agent.result("GetTask", {"id": asked["id"], "historyLength": 1}))["history"] == whole[-1:]
    assert (await agent.result("GetTask", {"id": asked["id"], "historyLength": 100}))["history"] == whole
    for length, expected in ((0, 0), (1, 1)):
        params = {"message": message("count 1"), "configuration": {"historyLength": length}}
        task = (await agent.result("SendMessage", params))["task"]
        assert len(task.get("history", [])) == expected
    page = await agent.result("ListTasks", {"historyLength": 0, "contextId": asked["contextId"]})
    assert [task.get("history", []) for task in page["tasks"]] == [[]]
    assert not (await agent.rest("GET", f"/tasks/{asked['id']}", historyLength=0)).json().get("history")


@pytest.mark.spec("0.3.0", "7.3")
async def test_the_history_of_an_answer_of_0_3_is_as_long_as_was_asked(agent: Agent) -> None:
    asked = await agent.send("ask")
    await agent.send("count 1", taskId=asked["id"])
    task = await agent.result("tasks/get", {"id": asked["id"], "historyLength": 1}, version="0.3")
    assert len(task["history"]) == 1


@pytest.mark.spec("1.0", "4.1.5", "4.1.6")
@pytest.mark.parametrize(
    "part",
    [
        {"data": {"a": [1, None, {"b": True}]}},
        {"raw": "aGVsbG8=", "filename": "hello.txt", "mediaType": "text/plain"},
        {"url": "https://example.com/x.png", "mediaType": "image/png"},
        {"text": "ünïcödé \U0001f600", "metadata": {"k": "v"}},
    ],
    ids=str,
)
async def test_every_kind_of_part_is_taken_and_kept_as_it_was(agent: Agent, part: dict[str, Any]) -> None:
    sent = message("ask")
    sent["parts"].append(part)
    task = (await agent.result("SendMessage", {"message": sent}))["task"]
    kept = next(one for one in task["history"] if one["messageId"] == sent["messageId"])
    assert kept["parts"][1] == part
    assert kept["taskId"] == task["id"]
    assert kept["contextId"] == task["contextId"]
