"""The HTTP+JSON binding: its paths, its media types and its errors."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from .site import ERROR_INFO, V1, message

if TYPE_CHECKING:
    import httpx

    from .site import Agent

pytestmark = pytest.mark.anyio


def error_of(response: httpx.Response, status: int, name: str, reason: str | None = None) -> dict[str, Any]:
    """Return the error of an answer, which has the form of AIP-193."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].split(";")[0] in {"application/a2a+json", "application/json"}
    error: dict[str, Any] = response.json()["error"]
    assert error["code"] == status
    assert error["status"] == name
    assert error["message"]
    if reason is not None:
        (info,) = [one for one in error["details"] if one["@type"] == ERROR_INFO]
        assert (info["reason"], info["domain"]) == (reason, "a2a-protocol.org")
    return error


@pytest.mark.spec("1.0", "11.1", "11.3.1")
async def test_a_message_is_answered_in_the_media_type_of_the_protocol(agent: Agent) -> None:
    response = await agent.rest("POST", "/message:send", {"message": message("say hi")})
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] == "application/a2a+json"
    assert response.json()["message"]["parts"] == [{"text": "hi"}]


@pytest.mark.spec("1.0", "11.1")
@pytest.mark.parametrize("kind", ["application/a2a+json", "application/json", "application/a2a+json; charset=utf-8"])
async def test_a_body_may_be_of_either_media_type(agent: Agent, kind: str) -> None:
    content = (
        b'{"message": {"messageId": "%s", "role": "ROLE_USER", "parts": [{"text": "say hi"}]}}'
        % uuid.uuid4().hex.encode()
    )
    response = await agent.http.post("/message:send", content=content, headers={**V1, "Content-Type": kind})
    assert response.json()["message"]["parts"] == [{"text": "hi"}]


@pytest.mark.spec("1.0", "5.4", "11.6")
async def test_a_body_of_another_media_type_is_refused_before_it_is_read(agent: Agent) -> None:
    for body in (b"{}", b"{not json"):
        response = await agent.http.post("/message:send", content=body, headers={**V1, "Content-Type": "text/plain"})
        # The table has 415 for it (5.4), AIP-193 has 400 for its gRPC status; the body must say the same as the answer.
        assert response.status_code in {400, 415}
        error_of(response, response.status_code, "INVALID_ARGUMENT", "CONTENT_TYPE_NOT_SUPPORTED")


@pytest.mark.spec("1.0", "11.6")
@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff"])
async def test_a_body_that_is_no_object_is_a_bad_request(agent: Agent, body: bytes) -> None:
    headers = {**V1, "Content-Type": "application/json"}
    error_of(await agent.http.post("/message:send", content=body, headers=headers), 400, "INVALID_ARGUMENT")


@pytest.mark.spec("1.0", "11.6")
async def test_what_does_not_fit_is_a_bad_request_that_names_the_field(agent: Agent) -> None:
    missing = {"message": {"role": "ROLE_USER", "parts": [{"text": "x"}]}}
    error = error_of(await agent.rest("POST", "/message:send", missing), 400, "INVALID_ARGUMENT")
    assert "messageId" in str(error)
    for params in ({"pageSize": "0"}, {"pageSize": "101"}, {"pageSize": "x"}, {"status": "x"}, {"pageToken": "x"}):
        error_of(await agent.rest("GET", "/tasks", **params), 400, "INVALID_ARGUMENT")
    error_of(await agent.rest("GET", "/tasks/x", historyLength="-1"), 400, "INVALID_ARGUMENT")


@pytest.mark.spec("1.0", "5.4", "11.6")
async def test_errors_of_the_protocol_have_their_own_status_and_reason(agent: Agent) -> None:
    missing = str(uuid.uuid4())
    for verb, path in (
        ("GET", f"/tasks/{missing}"),
        ("POST", f"/tasks/{missing}:cancel"),
        ("POST", f"/tasks/{missing}:subscribe"),
        ("GET", f"/tasks/{missing}/pushNotificationConfigs"),
    ):
        error_of(await agent.rest(verb, path), 404, "NOT_FOUND", "TASK_NOT_FOUND")
    done = await agent.send("count 1")
    response = await agent.rest("POST", f"/tasks/{done['id']}:cancel")
    assert response.status_code in {400, 409}
    error_of(response, response.status_code, "FAILED_PRECONDITION", "TASK_NOT_CANCELABLE")
    more = {"message": message("more", taskId=done["id"])}
    response = await agent.rest("POST", "/message:send", more)
    assert error_of(response, 400, response.json()["error"]["status"], "UNSUPPORTED_OPERATION")


@pytest.mark.spec("1.0", "11.3.2", "11.5")
async def test_tasks_are_got_listed_and_cancelled(agent: Agent) -> None:
    context = str(uuid.uuid4())
    asked = await agent.send("ask", contextId=context)
    done = await agent.send("count 1", contextId=context)
    page = (await agent.rest("GET", "/tasks", contextId=context, pageSize=1)).json()
    assert [task["id"] for task in page["tasks"]] == [done["id"]]
    assert page["totalSize"] == 2
    assert "artifacts" not in page["tasks"][0]
    second = (await agent.rest("GET", "/tasks", contextId=context, pageSize=1, pageToken=page["nextPageToken"])).json()
    assert [task["id"] for task in second["tasks"]] == [asked["id"]]
    assert second["nextPageToken"] == ""
    full = (
        await agent.rest("GET", "/tasks", contextId=context, status="TASK_STATE_COMPLETED", includeArtifacts="true")
    ).json()
    assert full["tasks"][0]["artifacts"] == done["artifacts"]
    cancelled = (await agent.rest("POST", f"/tasks/{asked['id']}:cancel")).json()
    assert cancelled["status"]["state"] == "TASK_STATE_CANCELED"


@pytest.mark.spec("1.0", "11.3")
async def test_a_path_or_a_verb_that_is_none_of_the_binding_is_refused(agent: Agent) -> None:
    assert (await agent.rest("GET", "/nothing/here")).status_code == 404
    assert (await agent.rest("DELETE", "/tasks")).status_code in {404, 405}
    assert (await agent.rest("GET", "/message:send")).status_code == 405
