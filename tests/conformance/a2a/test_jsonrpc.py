"""The JSON-RPC binding: the envelope, its errors, and what comes before a method is called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .site import ERROR_INFO, V1, message, old_message

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio

MISSING = {"id": "no-such-task"}


def request_of(**changes: Any) -> str:
    body = {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": MISSING, **changes}
    return json.dumps({key: value for key, value in body.items() if value is not ...})


@pytest.mark.spec("1.0", "9.1")
@pytest.mark.spec("0.3.0", "3.2.1")
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_is_not_declared_as_json_is_refused_before_it_is_read(agent: Agent, kind: str) -> None:
    for body in (request_of(), "{not json"):
        response = await agent.http.post("/", content=body, headers={**V1, "Content-Type": kind})
        assert response.status_code == 415
        assert response.json()["error"]["code"] == -32600


@pytest.mark.spec("1.0", "9.1")
async def test_json_with_parameters_and_any_case_of_its_name_is_json(agent: Agent) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        response = await agent.http.post("/", content=request_of(), headers={**V1, "Content-Type": kind})
        assert response.json()["error"]["code"] == -32001


@pytest.mark.spec("1.0", "9.5")
@pytest.mark.spec("0.3.0", "8.1")
@pytest.mark.spec("json-rpc", "5.1")
@pytest.mark.parametrize("version", ["1.0", "0.3"])
@pytest.mark.parametrize("body", [b"{", b"", b"\xff\xfe", b'{"jsonrpc": "2.0", "id": 1, "method": NaN}'])
async def test_what_is_no_json_is_a_parse_error_without_an_id(agent: Agent, body: bytes, version: str) -> None:
    answer = (await agent.post(body, **{"A2A-Version": version})).json()
    assert answer["error"]["code"] == -32700
    assert answer["id"] is None
    assert answer["jsonrpc"] == "2.0"


@pytest.mark.spec("1.0", "9.5")
@pytest.mark.spec("0.3.0", "6.11.1", "8.1")
@pytest.mark.spec("json-rpc", "4", "5.1")
@pytest.mark.parametrize("version", ["1.0", "0.3"])
@pytest.mark.parametrize(
    "change",
    [{"jsonrpc": ...}, {"jsonrpc": "1.0"}, {"method": ...}, {"method": 7}, {"id": {"a": 1}}, {"id": [1]}, {"id": True}],
    ids=str,
)
async def test_what_is_no_request_is_an_invalid_request(agent: Agent, change: dict[str, Any], version: str) -> None:
    answer = (await agent.post(request_of(**change), **{"A2A-Version": version})).json()
    assert answer["error"]["code"] == -32600, answer
    assert answer["id"] == (None if "id" in change else 1)


@pytest.mark.spec("json-rpc", "5.1", "6")
@pytest.mark.parametrize("body", ["[]", "[1]", "1", '"text"', "null", f"[{request_of()}]"])
async def test_a_batch_or_a_scalar_is_an_invalid_request(agent: Agent, body: str) -> None:
    answer = (await agent.post(body, **V1)).json()
    assert isinstance(answer, dict)
    assert answer["error"]["code"] == -32600
    assert answer["id"] is None


@pytest.mark.spec("1.0", "9.5")
@pytest.mark.spec("0.3.0", "8.1")
@pytest.mark.parametrize("version", ["1.0", "0.3"])
@pytest.mark.parametrize("name", ["NoSuchMethod", "sendmessage", "__init__", ""])
async def test_an_unknown_method_is_not_found(agent: Agent, name: str, version: str) -> None:
    assert (await agent.error(name, {}, version=version))["code"] == -32601


@pytest.mark.spec("1.0", "5.3")
@pytest.mark.spec("0.3.0", "7.1")
async def test_each_version_knows_only_its_own_method_names(agent: Agent) -> None:
    assert (await agent.error("tasks/get", MISSING, version="1.0"))["code"] == -32601
    assert (await agent.error("GetTask", MISSING, version="0.3"))["code"] == -32601


BAD_PARAMS_1_0: list[tuple[str, Any]] = [
    ("SendMessage", {}),
    ("SendMessage", []),
    ("SendMessage", {"message": "text"}),
    ("SendMessage", {"message": {"role": "ROLE_USER", "parts": [{"text": "x"}]}}),
    ("SendMessage", {"message": {**message("x"), "role": "user"}}),
    ("SendMessage", {"message": {**message("x"), "parts": []}}),
    ("SendMessage", {"message": {**message("x"), "parts": [{}]}}),
    ("SendMessage", {"message": {**message("x"), "parts": [{"text": "a", "url": "http://b"}]}}),
    ("SendMessage", {"message": message("x"), "configuration": {"historyLength": "many"}}),
    ("SendMessage", {"message": message("x"), "configuration": {"historyLength": -1}}),
    ("SendStreamingMessage", {}),
    ("GetTask", {}),
    ("GetTask", {"id": 7}),
    ("GetTask", {"id": "x", "historyLength": -1}),
    ("CancelTask", {}),
    ("SubscribeToTask", {}),
    ("ListTasks", {"pageSize": 0}),
    ("ListTasks", {"pageSize": 101}),
    ("ListTasks", {"pageToken": "never given out"}),
    ("ListTasks", {"status": "sleeping"}),
    ("ListTasks", {"statusTimestampAfter": "yesterday"}),
    ("CreateTaskPushNotificationConfig", {"taskId": "x"}),
    ("GetTaskPushNotificationConfig", {"taskId": "x"}),
    ("DeleteTaskPushNotificationConfig", {"taskId": "x"}),
]


@pytest.mark.spec("1.0", "3.3.2", "9.5")
async def test_parameters_that_do_not_fit_are_invalid_in_1_0(agent: Agent) -> None:
    assert await unfitting(agent, BAD_PARAMS_1_0, "1.0") == []


BAD_PARAMS_0_3: list[tuple[str, Any]] = [
    ("message/send", {}),
    ("message/send", []),
    ("message/send", {"message": {**old_message("x"), "role": "nobody"}}),
    ("message/send", {"message": {**old_message("x"), "parts": [{"kind": "text"}]}}),
    ("message/stream", {}),
    ("tasks/get", {}),
    ("tasks/get", {"id": 7}),
    ("tasks/cancel", {}),
    ("tasks/resubscribe", {}),
    ("tasks/pushNotificationConfig/set", {"taskId": "x"}),
    ("tasks/pushNotificationConfig/get", {}),
    ("tasks/pushNotificationConfig/list", {}),
    ("tasks/pushNotificationConfig/delete", {"id": "x"}),
]


@pytest.mark.spec("0.3.0", "8.1")
async def test_parameters_that_do_not_fit_are_invalid_in_0_3(agent: Agent) -> None:
    assert await unfitting(agent, BAD_PARAMS_0_3, "0.3") == []


async def unfitting(agent: Agent, calls: list[tuple[str, Any]], version: str) -> list[str]:
    """Return the calls that are not answered with an error of invalid parameters in words of the agent's own."""
    problems: list[str] = []
    for method, params in calls:
        answer = await agent.rpc(method, params, version=version)
        text = json.dumps(answer).lower()
        of_a_library = any(
            word in text for word in ("pydantic", "protobuf", "traceback", "input_value", "validation error")
        )
        if answer.get("error", {}).get("code") != -32602 or of_a_library:
            problems.append(f"{method} {json.dumps(params)} -> {json.dumps(answer)}")
    return problems


@pytest.mark.spec("json-rpc", "5")
@pytest.mark.spec("0.3.0", "6.11.2")
@pytest.mark.parametrize("identifier", ["r-1", "", 0, 7, -3, 2**53])
async def test_the_id_of_a_request_comes_back_as_it_was(agent: Agent, identifier: Any) -> None:
    for method, params in (("GetTask", MISSING), ("ListTasks", {})):
        answer = await agent.rpc(method, params, request_id=identifier)
        assert answer["id"] == identifier
        assert type(answer["id"]) is type(identifier)


@pytest.mark.spec("json-rpc", "4", "5")
async def test_an_id_of_null_comes_back_as_null(agent: Agent) -> None:
    answer = await agent.rpc("ListTasks", {}, request_id=None)
    assert answer["id"] is None
    assert "result" in answer


@pytest.mark.spec("json-rpc", "4.1")
async def test_a_notification_is_not_answered(agent: Agent) -> None:
    response = await agent.post(request_of(id=..., method="ListTasks", params={}), **V1)
    assert response.status_code in {202, 204}
    assert response.content == b""


@pytest.mark.spec("1.0", "9.5")
async def test_errors_of_1_0_say_what_they_are_in_error_info(agent: Agent) -> None:
    error = await agent.error("GetTask", MISSING)
    assert error["code"] == -32001
    (info,) = [one for one in error["data"] if one["@type"] == ERROR_INFO]
    assert info["reason"] == "TASK_NOT_FOUND"
    assert info["domain"] == "a2a-protocol.org"


@pytest.mark.spec("1.0", "5.7")
async def test_fields_that_nobody_knows_do_not_matter(agent: Agent) -> None:
    params: dict[str, Any] = {"message": {**message("say hi"), "newInLater": 1}, "newInLater": {"a": []}}
    assert (await agent.result("SendMessage", params))["message"]["parts"][0]["text"] == "hi"
