"""What anyone may ask, and what every answer has (contract 1, 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .site import refusal

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("3.1", era="april")
async def test_health_answers_without_credentials(site: Site) -> None:
    answer = await site.http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.contract("1.1", era="april")
async def test_every_answer_carries_the_security_headers(site: Site) -> None:
    for path in ("/health", "/no/such/route", "/workspaces/Not_An_Id"):
        headers = (await site.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["content-security-policy"] == "default-src 'self'"
        assert "referrer-policy" in headers
        assert "permissions-policy" in headers


@pytest.mark.contract("1.3", "1.6", era="april")
async def test_every_answer_says_how_much_more_may_be_asked(site: Site) -> None:
    for path in ("/health", "/no/such/route"):
        headers = (await site.http.get(path)).headers
        if headers["x-ratelimit-limit"] != "unlimited":
            assert int(headers["x-ratelimit-remaining"]) < int(headers["x-ratelimit-limit"])
            assert int(headers["x-ratelimit-reset"]) >= 0


@pytest.mark.contract("1.2", "28.1", era="april")
async def test_an_unknown_route_is_a_404(site: Site) -> None:
    member = await site.create()
    for path in ("/no/such/route", f"/workspaces/{member.id}/no-such-route"):
        assert (await site.http.get(path, headers=member.auth)).status_code == 404


@pytest.mark.contract("1.1", "28.1", era="april")
async def test_a_page_of_another_origin_is_refused_without_a_body(site: Site) -> None:
    for method, path in (("GET", "/health"), ("POST", "/registry/heartbeat"), ("GET", "/workspaces")):
        answer = await site.http.request(method, path, headers={"Origin": "https://elsewhere.example"})
        assert (answer.status_code, answer.content) == (403, b"")


@pytest.mark.contract("1.1", "1.4", "24.13", "28.1", era="april")
async def test_clients_may_send_the_platforms_own_origin(site: Site) -> None:
    member = await site.create()
    origin = {"Origin": site.server.url}
    assert (await site.http.get("/health", headers=origin)).status_code == 200
    answer = await site.http.get(f"/workspaces/{member.id}/activity", headers={**member.auth, **origin})
    assert answer.status_code == 200


@pytest.mark.contract("1.2", era="june")
async def test_a_method_that_a_route_does_not_have_is_refused(site: Site) -> None:
    answer = await site.http.delete("/health")
    refusal(answer, 405)
    assert "GET" in answer.headers["allow"]


@pytest.mark.contract("ours", era="june")
async def test_the_server_describes_itself(site: Site) -> None:
    document = (await site.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "/registry/register" in document["paths"]
