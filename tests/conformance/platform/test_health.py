"""What anyone may ask (contract 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.anyio


@pytest.mark.contract("3.1", era="april")
async def test_health_answers_without_credentials(site: Site) -> None:
    answer = await site.http.get("/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.contract("1.1", era="june")
async def test_every_answer_carries_the_security_headers(site: Site) -> None:
    for path in ("/health", "/no/such/route"):
        headers = (await site.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


@pytest.mark.contract("1.2", era="april")
async def test_an_unknown_route_is_a_404(site: Site) -> None:
    assert (await site.http.get("/no/such/route")).status_code == 404


@pytest.mark.contract("ours", era="june")
async def test_the_server_describes_itself(site: Site) -> None:
    document = (await site.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "/registry/register" in document["paths"]
