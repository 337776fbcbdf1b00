"""An agent that asks for a token and neither streams nor sends push notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from .site import V1, WAIT_SECONDS, message, old_message

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio


@pytest.mark.spec("1.0", "3.3.2", "7.4")
@pytest.mark.spec("0.3.0", "4.4")
@pytest.mark.parametrize("credentials", ["", "Bearer wrong", "Basic eDp5", "Bearer"])
async def test_a_request_without_the_token_is_refused_with_what_is_asked_for(guarded: Agent, credentials: str) -> None:
    headers = {**V1, **({"Authorization": credentials} if credentials else {})}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("say hi")}}
    async with httpx.AsyncClient(base_url=guarded.url, timeout=WAIT_SECONDS, trust_env=False) as anybody:
        for response in (
            await anybody.post("/", json=body, headers=headers),
            await anybody.post("/message:send", json=body["params"], headers=headers),
            await anybody.get("/tasks", headers=headers),
        ):
            assert response.status_code == 401
            assert response.headers["www-authenticate"].lower().startswith("bearer")


@pytest.mark.spec("1.0", "3.3.2")
async def test_a_request_with_the_token_is_served(guarded: Agent) -> None:
    assert (await guarded.result("SendMessage", {"message": message("say hi")}))["message"]["parts"] == [{"text": "hi"}]
    assert (await guarded.rest("GET", "/tasks")).status_code == 200


@pytest.mark.spec("1.0", "3.1.2", "3.1.6", "3.3.4", "5.4")
@pytest.mark.spec("0.3.0", "7.2", "7.9", "8.2")
async def test_without_streaming_streams_are_unsupported(guarded: Agent) -> None:
    task = await guarded.send("ask")
    assert (await guarded.error("SendStreamingMessage", {"message": message("say hi")}))["code"] == -32004
    assert (await guarded.error("SubscribeToTask", {"id": task["id"]}))["code"] == -32004
    assert (await guarded.error("message/stream", {"message": old_message("say hi")}, version="0.3"))["code"] == -32004
    assert (await guarded.error("tasks/resubscribe", {"id": task["id"]}, version="0.3"))["code"] == -32004
    response = await guarded.rest("POST", "/message:stream", {"message": message("say hi")})
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["reason"] == "UNSUPPORTED_OPERATION"


@pytest.mark.spec("1.0", "3.1.7", "3.1.8", "3.1.9", "3.1.10", "3.3.4", "5.4")
@pytest.mark.spec("0.3.0", "7.5", "7.6", "7.7", "7.8", "8.2")
async def test_without_push_notifications_their_methods_are_not_supported(guarded: Agent) -> None:
    task_id = (await guarded.send("ask"))["id"]
    url = "https://example.com/hook"
    for method, params in (
        ("CreateTaskPushNotificationConfig", {"taskId": task_id, "url": url}),
        ("GetTaskPushNotificationConfig", {"taskId": task_id, "id": "x"}),
        ("ListTaskPushNotificationConfigs", {"taskId": task_id}),
        ("DeleteTaskPushNotificationConfig", {"taskId": task_id, "id": "x"}),
    ):
        assert (await guarded.error(method, params))["code"] == -32003
    for method, params in (
        ("set", {"taskId": task_id, "pushNotificationConfig": {"url": url}}),
        ("get", {"id": task_id}),
        ("list", {"id": task_id}),
        ("delete", {"id": task_id, "pushNotificationConfigId": "x"}),
    ):
        error = await guarded.error(f"tasks/pushNotificationConfig/{method}", params, version="0.3")
        assert error["code"] == -32003
    path = f"/tasks/{task_id}/pushNotificationConfigs"
    response = await guarded.rest("POST", path, {"url": url})
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["reason"] == "PUSH_NOTIFICATION_NOT_SUPPORTED"


@pytest.mark.spec("1.0", "3.3.4")
@pytest.mark.spec("0.3.0", "8.2")
async def test_without_push_notifications_a_message_that_asks_for_them_is_refused(guarded: Agent) -> None:
    config = {"taskPushNotificationConfig": {"url": "https://example.com/hook"}}
    error = await guarded.error("SendMessage", {"message": message("say hi"), "configuration": config})
    assert error["code"] == -32003


@pytest.mark.spec("1.0", "3.3.4", "4.4.1", "7.1")
async def test_an_agent_that_can_do_less_says_so_in_its_card_to_anybody(guarded: Agent) -> None:
    async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as anybody:
        card = (await anybody.get(f"{guarded.url}/.well-known/agent-card.json")).json()
    assert not card["capabilities"].get("streaming", False)
    assert not card["capabilities"].get("pushNotifications", False)
    assert card["securitySchemes"]
    assert card.get("securityRequirements") or card.get("security")
