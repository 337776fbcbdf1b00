"""Push notifications: their configurations, and what a client's webhook is sent."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .site import message, old_message

if TYPE_CHECKING:
    from .site import Agent, Hook, Webhook

pytestmark = pytest.mark.anyio


@pytest.mark.spec("1.0", "3.1.7", "3.1.8", "3.1.9", "3.1.10")
async def test_a_configuration_is_made_got_listed_and_deleted(agent: Agent, webhook: Webhook) -> None:
    task = await agent.send("ask")
    whose = {"taskId": task["id"]}
    shown = {"scheme": "Bearer", "credentials": "mine"}
    made = await agent.result(
        "CreateTaskPushNotificationConfig", {**whose, "url": webhook.url, "token": "t", "authentication": shown}
    )
    assert made["id"]
    assert (made["taskId"], made["url"], made["token"]) == (task["id"], webhook.url, "t")
    named = await agent.result("CreateTaskPushNotificationConfig", {**whose, "id": "named", "url": webhook.url})
    assert named["id"] == "named"
    assert await agent.result("GetTaskPushNotificationConfig", {**whose, "id": made["id"]}) == made
    page = await agent.result("ListTaskPushNotificationConfigs", whose)
    assert page["configs"] == [made, named]
    for _ in range(2):
        await agent.result("DeleteTaskPushNotificationConfig", {**whose, "id": made["id"]})
    assert (await agent.error("GetTaskPushNotificationConfig", {**whose, "id": made["id"]}))["code"] == -32001
    assert (await agent.result("ListTaskPushNotificationConfigs", whose))["configs"] == [named]


@pytest.mark.spec("0.3.0", "7.5", "7.6", "7.7", "7.8")
async def test_a_configuration_of_0_3_is_set_got_listed_and_deleted(agent: Agent, webhook: Webhook) -> None:
    async def call(method: str, **params: Any) -> Any:
        return await agent.result(f"tasks/pushNotificationConfig/{method}", params, version="0.3")

    task_id = (await agent.send("ask"))["id"]
    made = await call("set", taskId=task_id, pushNotificationConfig={"url": webhook.url, "token": "t"})
    assert made["taskId"] == task_id
    assert made["pushNotificationConfig"]["url"] == webhook.url
    config_id = made["pushNotificationConfig"]["id"]
    assert await call("get", id=task_id) == made
    assert await call("get", id=task_id, pushNotificationConfigId=config_id) == made
    assert await call("list", id=task_id) == [made]
    assert await call("delete", id=task_id, pushNotificationConfigId=config_id) is None
    assert await call("list", id=task_id) == []


@pytest.mark.spec("1.0", "11.3", "5.3")
async def test_a_configuration_is_made_got_listed_and_deleted_through_the_http_binding(
    agent: Agent, webhook: Webhook
) -> None:
    task = await agent.send("ask")
    path = f"/tasks/{task['id']}/pushNotificationConfigs"
    made = (await agent.rest("POST", path, {"url": webhook.url})).json()
    assert made["id"]
    assert (await agent.rest("GET", f"{path}/{made['id']}")).json() == made
    assert (await agent.rest("GET", path)).json()["configs"] == [made]
    assert (await agent.rest("DELETE", f"{path}/{made['id']}")).is_success
    assert (await agent.rest("GET", f"{path}/{made['id']}")).status_code == 404


@pytest.mark.spec("1.0", "3.1.7", "3.1.8", "3.1.9", "3.1.10")
async def test_configurations_of_a_task_that_is_not_there_are_not_found(agent: Agent, webhook: Webhook) -> None:
    whose = {"taskId": str(uuid.uuid4())}
    for method, more in (
        ("CreateTaskPushNotificationConfig", {"url": webhook.url}),
        ("GetTaskPushNotificationConfig", {"id": "x"}),
        ("ListTaskPushNotificationConfigs", {}),
        ("DeleteTaskPushNotificationConfig", {"id": "x"}),
    ):
        assert (await agent.error(method, {**whose, **more}))["code"] == -32001


def ended(hooks: list[Hook]) -> bool:
    states = [about["status"]["state"] for hook in hooks for about in hook.body.values() if "status" in about]
    return bool(states) and states[-1] in {"TASK_STATE_COMPLETED", "TASK_STATE_CANCELED"}


@pytest.mark.spec("1.0", "3.2.2", "4.3.3")
async def test_a_webhook_is_sent_each_event_of_a_task_as_in_a_stream(agent: Agent, webhook: Webhook) -> None:
    config = {
        "url": f"{webhook.url}?q=1",
        "token": "tok",
        "authentication": {"scheme": "Bearer", "credentials": "mine"},
    }
    params = {"message": message("count 2"), "configuration": {"taskPushNotificationConfig": config}}
    task = (await agent.result("SendMessage", params))["task"]
    hooks = await webhook.until(ended)
    assert [next(iter(hook.body)) for hook in hooks] == [
        "task", "statusUpdate", "artifactUpdate", "artifactUpdate", "statusUpdate",
    ]  # fmt: skip
    for hook in hooks:
        assert len(hook.body) == 1
        assert hook.path == "/hook?q=1"
        assert hook.headers["authorization"] == "Bearer mine"
        assert hook.headers["x-a2a-notification-token"] == "tok"
        assert hook.headers["content-type"] in {"application/a2a+json", "application/json"}
        about = next(iter(hook.body.values()))
        assert task["id"] in {about.get("id"), about.get("taskId")}


@pytest.mark.spec("0.3.0", "9.5", "6.8")
async def test_a_webhook_of_0_3_is_sent_the_task(agent: Agent, webhook: Webhook) -> None:
    config = {"url": webhook.url, "token": "tok"}
    params = {
        "message": old_message("count 1"),
        "configuration": {"blocking": True, "pushNotificationConfig": config},
    }
    task = await agent.result("message/send", params, version="0.3")
    hooks = await webhook.until(lambda hooks: bool(hooks) and hooks[-1].body["status"]["state"] == "completed")
    assert all((hook.body["kind"], hook.body["id"]) == ("task", task["id"]) for hook in hooks)
    assert hooks[-1].headers["x-a2a-notification-token"] == "tok"
    assert hooks[-1].headers["content-type"] == "application/json"
    assert hooks[-1].body["artifacts"]


@pytest.mark.spec("1.0", "3.1.10", "3.1.7")
async def test_a_webhook_that_was_added_later_is_told_of_what_follows_and_a_deleted_one_is_not(
    agent: Agent, webhook: Webhook
) -> None:
    task = await agent.send("hold", now=True)
    whose = {"taskId": task["id"]}
    await agent.result("CreateTaskPushNotificationConfig", {**whose, "id": "kept", "url": f"{webhook.url}?kept"})
    await agent.result("CreateTaskPushNotificationConfig", {**whose, "id": "gone", "url": f"{webhook.url}?gone"})
    await agent.result("DeleteTaskPushNotificationConfig", {**whose, "id": "gone"})
    await agent.result("CancelTask", {"id": task["id"]})
    hooks = await webhook.until(ended)
    assert {hook.path for hook in hooks} == {"/hook?kept"}


@pytest.mark.spec("1.0", "13.2")
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/x", "http://10.0.0.1/x", "http://[::1]/x", "file:///etc/passwd", "not a url"]
)
async def test_a_webhook_inside_the_agents_own_network_is_refused(agent: Agent, url: str) -> None:
    task = await agent.send("ask")
    assert (await agent.error("CreateTaskPushNotificationConfig", {"taskId": task["id"], "url": url}))["code"] == -32602
    config = {"taskPushNotificationConfig": {"url": url}}
    error = await agent.error("SendMessage", {"message": message("count 1"), "configuration": config})
    assert error["code"] == -32602
