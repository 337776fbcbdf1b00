"""Which version of A2A a request is answered in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .site import ERROR_INFO, message, old_message

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio


@pytest.mark.spec("1.0", "3.6.2")
@pytest.mark.parametrize("version", ["", "0.3"])
async def test_a_request_without_a_version_is_of_0_3(agent: Agent, version: str) -> None:
    result = await agent.result("message/send", {"message": old_message("say hi")}, version=version)
    assert result["kind"] == "message"
    assert result["role"] == "agent"
    assert result["parts"] == [{"kind": "text", "text": "hi"}]


@pytest.mark.spec("1.0", "3.6.2")
@pytest.mark.parametrize("version", ["1.0", "1.0.7"])
async def test_the_patch_number_of_a_version_does_not_matter(agent: Agent, version: str) -> None:
    result = await agent.result("SendMessage", {"message": message("say hi")}, version=version)
    assert result["message"]["role"] == "ROLE_AGENT"
    assert result["message"]["parts"] == [{"text": "hi"}]


@pytest.mark.spec("1.0", "3.6.1")
async def test_a_version_may_be_a_parameter_of_the_url(agent: Agent) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("say hi")}}
    response = await agent.http.post("/", params={"A2A-Version": "1.0"}, json=body)
    assert response.json()["result"]["message"]["parts"] == [{"text": "hi"}]
    response = await agent.http.get("/tasks", params={"A2A-Version": "1.0"})
    assert response.status_code == 200


@pytest.mark.spec("1.0", "3.6.2", "5.4")
@pytest.mark.parametrize("version", ["0.1", "0.2.5", "2.0", "11.0", "one"])
async def test_another_version_is_not_supported(agent: Agent, version: str) -> None:
    error = await agent.error("SendMessage", {"message": message("say hi")}, version=version)
    assert error["code"] == -32009
    assert next(one for one in error["data"] if one["@type"] == ERROR_INFO)["reason"] == "VERSION_NOT_SUPPORTED"
    response = await agent.http.get("/tasks", headers={"A2A-Version": version})
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["reason"] == "VERSION_NOT_SUPPORTED"


@pytest.mark.spec("1.0", "3.6.2", "11.2")
async def test_the_binding_of_1_0_alone_refuses_a_request_without_a_version(agent: Agent) -> None:
    response = await agent.http.get("/tasks")
    assert response.status_code == 400
    assert response.json()["error"]["details"][0]["reason"] == "VERSION_NOT_SUPPORTED"


@pytest.mark.spec("1.0", "4.6.3")
@pytest.mark.spec("0.3.0", "3.2.1")
@pytest.mark.parametrize("header", ["A2A-Extensions", "X-A2A-Extensions"])
async def test_an_extension_that_the_agent_does_not_have_is_left_aside(agent: Agent, header: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("say hi")}}
    response = await agent.http.post(
        "/", json=body, headers={"A2A-Version": "1.0", header: "https://example.com/never/v1, https://example.com/v2"}
    )
    assert response.json()["result"]["message"]["parts"] == [{"text": "hi"}]
    assert "example.com" not in response.headers.get(header, "")
