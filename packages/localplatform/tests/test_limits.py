"""How often one may ask, for whom a tenant is there, and which agents may be called: as the server does it (contract 1.3, 1.4, 20)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from molecule_runtime.localplatform import LocalSettings, serve
from molecule_runtime.localplatform.gate import ORG_EXEMPT, SECURITY_HEADERS
from molecule_runtime.localplatform.limits import MAX_CLIENTS, RateLimiter

from .support import Clock, World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from molecule_runtime.localplatform.urls import UrlRule

    from .support import Member

pytestmark = pytest.mark.anyio

ORG = "5e0c7ad2-21de-4c73-9a8a-5a8f5a1d3f11"
ORG_HEADER = {"X-Molecule-Org-Id": ORG}


@asynccontextmanager
async def running(settings: LocalSettings, **changes: Any) -> AsyncGenerator[World]:
    async with serve(replace(settings, **changes)) as platform, client_of(platform.url) as http:
        yield World(platform, http, Clock())


def client_of(url: str, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, **options)


async def test_whoever_asks_more_often_than_allowed_is_told_when_to_ask_again(settings: LocalSettings) -> None:
    async with running(settings, rate_limit=5) as world:
        for remaining in (4, 3, 2, 1, 0):
            answer = await world.http.get("/health")
            assert answer.status_code == 200
            assert answer.headers["x-ratelimit-limit"] == "5"
            assert answer.headers["x-ratelimit-remaining"] == str(remaining)
            assert 0 < int(answer.headers["x-ratelimit-reset"]) <= 60
        for path in ("/health", "/workspaces", "/no/such/route"):
            answer = await world.http.get(path, headers=world.admin)
            body = answer.json()
            assert (answer.status_code, body["error"]) == (429, "rate limit exceeded")
            assert 1 <= body["retry_after"] <= 12
            assert answer.headers["retry-after"] == str(body["retry_after"])
            assert answer.headers["x-ratelimit-remaining"] == "0"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert body["hint"]


async def test_what_is_refused_or_unknown_counts_too(settings: LocalSettings) -> None:
    async with running(settings, rate_limit=4) as world:
        statuses = [(await world.http.get(path)).status_code for path in ("/workspaces", "/nope", "/a/b/c")]
        statuses.append((await world.http.post("/registry/heartbeat", content=b"{")).status_code)
        assert statuses == [401, 404, 404, 400]
        assert (await world.http.get("/health")).status_code == 429


async def test_a_websocket_counts_as_a_request(settings: LocalSettings) -> None:
    async with running(settings, rate_limit=2) as world:
        url = world.platform.url.replace("http://", "ws://") + "/ws"
        async with connect(url, additional_headers=world.admin, proxy=None) as socket:
            assert socket.response is not None
            assert socket.response.headers["X-RateLimit-Remaining"] == "1"
        await world.http.get("/health")
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, additional_headers=world.admin, proxy=None):
                pass
        assert caught.value.response.status_code == 429
        assert caught.value.response.headers["Retry-After"]


async def test_agents_of_this_machine_are_not_limited_unless_it_is_asked_for(world: World) -> None:
    for _ in range(3):
        answer = await world.http.get("/health")
        assert answer.headers["x-ratelimit-limit"] == "unlimited"
        assert "x-ratelimit-remaining" not in answer.headers


async def test_a_header_that_names_another_client_is_not_believed(settings: LocalSettings) -> None:
    async with running(settings, rate_limit=2) as world:
        for number in range(2):
            forwarded = {"X-Forwarded-For": f"203.0.113.{number}", "X-Real-IP": f"203.0.113.{number}"}
            assert (await world.http.get("/health", headers=forwarded)).status_code == 200
        assert (await world.http.get("/health", headers={"X-Forwarded-For": "203.0.113.9"})).status_code == 429


def test_a_bucket_fills_up_as_time_goes_by() -> None:
    clock = Clock(0.0)
    limiter = RateLimiter(60, clock)
    assert [limiter.take("a").allowed for _ in range(61)] == [True] * 60 + [False]
    assert limiter.take("b").allowed
    clock.now = 2.5
    assert [limiter.take("a").allowed for _ in range(3)] == [True, True, False]
    verdict = limiter.take("a")
    assert (verdict.remaining, verdict.retry_after) == (0, 1)
    clock.now = 10_000.0
    assert limiter.take("a").remaining == 59


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    clock = Clock(100.0)
    limiter = RateLimiter(60, clock)
    limiter.take("a")
    clock.now = 0.0
    assert limiter.take("a").remaining == 58


def test_the_limiter_forgets_whom_it_has_not_seen_for_longest() -> None:
    limiter = RateLimiter(60, Clock(0.0))
    for number in range(MAX_CLIENTS):
        limiter.take(str(number))
    limiter.take("0")
    limiter.take("one more")
    assert limiter.take("0").remaining == 57
    assert limiter.take("1").remaining == 59


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Molecule-Org-Id", "")],
        [("X-Molecule-Org-Id", ORG.upper())],
        [("X-Molecule-Org-Id", ORG[:-1])],
        [("X-Molecule-Org-Id", ORG), ("X-Molecule-Org-Id", "another")],
        [("X-Molecule-Org-Id", ORG), ("X-Molecule-Org-Id", ORG)],
        [("X-Molecule-Org-Slug", ORG)],
    ],
)
async def test_a_tenant_is_not_there_for_those_who_do_not_name_it(
    settings: LocalSettings, headers: list[tuple[str, str]]
) -> None:
    async with running(settings, org_id=ORG) as world:
        sent = [*headers, *world.admin.items()]
        for path in ("/workspaces", "/openapi.json", "/no/such/route", "/workspaces/x/activity", "/registry/x/peers"):
            answer = await world.http.get(path, headers=sent)
            assert (path, answer.status_code, answer.content) == (path, 404, b"")
            assert not {name.decode() for name, _ in SECURITY_HEADERS} & answer.headers.keys()
        for path in ("/registry/update-card", "/registry/check-access"):
            assert (await world.http.post(path, json={}, headers=headers)).status_code == 404


async def test_those_who_name_the_tenant_find_it(settings: LocalSettings) -> None:
    async with running(settings, org_id=ORG) as world:
        answer = await world.http.get("/workspaces", headers={**world.admin, **ORG_HEADER})
        assert (answer.status_code, answer.json()) == (200, [])
        assert answer.headers["x-content-type-options"] == "nosniff"
        answer = await world.http.get("/no/such/route", headers=ORG_HEADER)
        assert (answer.status_code, answer.json()["error"]) == (404, "not found")
        assert (await world.http.get("/workspaces", headers=ORG_HEADER)).status_code == 401


async def test_health_register_and_heartbeat_need_no_tenant(settings: LocalSettings) -> None:
    async with running(settings, org_id=ORG) as world:
        for path in ORG_EXEMPT - {"/registry/register", "/registry/heartbeat"}:
            assert (await world.http.get(path)).status_code == 200
        body = {"id": "agent-1", "agent_card": {"name": "x"}, "delivery_mode": "poll"}
        token = (await world.http.post("/registry/register", json=body)).json()["auth_token"]
        own = {"Authorization": f"Bearer {token}"}
        beat = {"workspace_id": "agent-1"}
        assert (await world.http.post("/registry/heartbeat", json=beat, headers=own)).status_code == 200
        # The exempt paths are exact.
        for path in ("/registry/register/", "/registry//register", "/health/", "/registry/register/x", "//health"):
            answer = await world.http.post(path, json=body, headers=own)
            assert (path, answer.status_code, answer.content) == (path, 404, b"")
        assert (await world.http.get("/workspaces/agent-1/activity", headers=own)).status_code == 404
        assert (await world.http.get("/workspaces/agent-1/activity", headers={**own, **ORG_HEADER})).status_code == 200


async def test_a_websocket_needs_the_tenant_too(settings: LocalSettings) -> None:
    async with running(settings, org_id=ORG) as world:
        url = world.platform.url.replace("http://", "ws://") + "/ws"
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, additional_headers=world.admin, proxy=None):
                pass
        assert (caught.value.response.status_code, caught.value.response.body) == (404, b"")
        async with connect(url, additional_headers={**world.admin, **ORG_HEADER}, proxy=None):
            pass


async def test_a_page_of_somebody_else_stays_out_of_a_tenant(settings: LocalSettings) -> None:
    async with running(settings, org_id=ORG) as world:
        foreign = {"Origin": "http://evil.example"}
        assert (await world.http.get("/health", headers=foreign)).status_code == 403
        assert (await world.http.get("/workspaces", headers=foreign)).status_code == 404


LOOPBACK = ("http://127.0.0.1:9/", "http://localhost:9/", "http://[::1]:9/", "http://127.7.7.7:9/")
PRIVATE = ("http://10.0.0.5:8000/", "http://192.168.1.7/", "http://172.16.0.9/", "http://[fd00::1]/")
NEVER = (
    "http://169.254.169.254/",
    "http://0.0.0.0/",
    "http://[fe80::1]/",
    "http://224.0.0.1/",
    "ftp://localhost/",
    "localhost",
)
PUBLIC = ("http://1.1.1.1/", "https://[2606:4700:4700::1111]/")


@pytest.mark.parametrize(
    ("rule", "admitted"),
    [
        ("local", {*LOOPBACK, *PUBLIC}),
        ("private", {*LOOPBACK, *PRIVATE, *PUBLIC}),
        ("strict", set(PUBLIC)),
    ],
)
async def test_the_rule_for_urls_decides_who_may_register(
    settings: LocalSettings, rule: UrlRule, admitted: set[str]
) -> None:
    async with running(settings, url_rule=rule) as world:
        alice = await world.create()
        taken: set[str] = set()
        for url in (*LOOPBACK, *PRIVATE, *NEVER, *PUBLIC):
            answer = await register(world, alice, url=url)
            if answer.status_code == 200:
                taken.add(url)
                assert await url_of(world, alice) == url
            else:
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid request body")
                assert answer.json()["hint"]
                assert await url_of(world, alice) != url
        assert taken == admitted


@pytest.mark.parametrize("rule", ["local", "private", "strict"])
async def test_the_url_in_a_card_keeps_the_same_rule(settings: LocalSettings, rule: UrlRule) -> None:
    async with running(settings, url_rule=rule) as world:
        alice = await world.create()
        for url in (LOOPBACK[0], PRIVATE[0], NEVER[0], PUBLIC[0]):
            answer = await register(world, alice, delivery_mode="push", agent_card={"name": "x", "url": url})
            allowed = (
                url == PUBLIC[0] or (url == LOOPBACK[0] and rule != "strict") or (url, rule) == (PRIVATE[0], "private")
            )
            if allowed:
                assert answer.status_code == 200
            else:
                assert (answer.status_code, answer.json()["error"]) == (400, "workspace agent_card URL not allowed")


async def test_a_url_that_was_admitted_under_a_laxer_rule_is_not_called(settings: LocalSettings) -> None:
    async with running(settings) as world:
        _, left, right = await world.family()
        assert (await register(world, right, url="http://127.0.0.1:9/", delivery_mode="push")).status_code == 200
    async with running(settings, url_rule="strict") as world:
        answer = await world.send(left, right)
        assert (answer.status_code, answer.json()["error"]) == (502, "workspace URL is not publicly routable")


async def register(world: World, member: Member, **fields: Any) -> httpx.Response:
    body = {"id": member.id, "agent_card": {"name": "x"}, **fields}
    return await world.http.post("/registry/register", json=body, headers=member.auth)


async def url_of(world: World, member: Member) -> str:
    return str((await world.http.get(f"/workspaces/{member.id}")).json()["url"])
