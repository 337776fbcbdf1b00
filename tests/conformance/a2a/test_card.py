"""The agent card: what it must say, that it is true, and how it is cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .site import WAIT_SECONDS, message, old_message

if TYPE_CHECKING:
    from .site import Agent

pytestmark = pytest.mark.anyio

CARD = "/.well-known/agent-card.json"


@pytest.mark.spec("1.0", "4.4.1", "4.4.5", "8.2")
@pytest.mark.spec("0.3.0", "5.5", "5.6.1", "5.6.4")
async def test_the_card_has_all_that_both_versions_require(agent: Agent) -> None:
    response = await agent.http.get(CARD)
    assert response.headers["content-type"].split(";")[0] == "application/json"
    card: dict[str, Any] = response.json()
    for name in ("name", "description", "version"):
        assert isinstance(card[name], str), name
        assert card[name], name
    assert card["defaultInputModes"]
    assert card["defaultOutputModes"]
    assert card["capabilities"]["streaming"] is True
    assert card["capabilities"]["pushNotifications"] is True
    assert card["skills"]
    for skill in card["skills"]:
        assert all(skill[name] for name in ("id", "name", "description", "tags"))
    for interface in card["supportedInterfaces"]:
        assert interface["url"].startswith(("http://", "https://"))
        assert interface["protocolBinding"] in {"JSONRPC", "HTTP+JSON"}
        assert interface["protocolVersion"] in {"1.0", "0.3"}
    assert card["url"]
    assert card["preferredTransport"] == "JSONRPC"
    assert card["protocolVersion"].startswith("0.3")


@pytest.mark.spec("1.0", "5.2", "8.3.1")
async def test_every_interface_of_the_card_works_and_none_is_missing(agent: Agent) -> None:
    card = await agent.card()
    declared = {
        (one["protocolBinding"], one["protocolVersion"]): one["url"].rstrip("/") for one in card["supportedInterfaces"]
    }
    assert set(declared) == {("JSONRPC", "1.0"), ("JSONRPC", "0.3"), ("HTTP+JSON", "1.0")}
    body = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message("say hi")}}
    old = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": old_message("say hi")}}
    async with httpx.AsyncClient(timeout=WAIT_SECONDS, trust_env=False) as http:
        new_headers = {"A2A-Version": "1.0"}
        answer = await http.post(f"{declared['JSONRPC', '1.0']}/", json=body, headers=new_headers)
        assert "message" in answer.json()["result"]
        answer = await http.post(f"{declared['JSONRPC', '0.3']}/", json=old)
        assert answer.json()["result"]["kind"] == "message"
        rest = {"message": message("say hi")}
        answer = await http.post(f"{declared['HTTP+JSON', '1.0']}/message:send", json=rest, headers=new_headers)
        assert "message" in answer.json()


@pytest.mark.spec("1.0", "8.6.1")
async def test_the_card_can_be_cached_and_asked_for_again_by_its_tag(agent: Agent) -> None:
    first = await agent.http.get(CARD)
    assert "max-age=" in first.headers["cache-control"]
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await agent.http.get(CARD, headers={"If-None-Match": known})
        assert again.status_code == 304, known
        assert again.content == b""
        assert again.headers["etag"] == tag
    changed = await agent.http.get(CARD, headers={"If-None-Match": '"other"'})
    assert changed.json() == first.json()
