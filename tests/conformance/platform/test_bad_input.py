"""What any server must withstand: bodies, ids and headers that no well-meaning client sends.

Nothing of it may change anything, reach what is not the sender's, be answered with an error of the server's own, or end the server.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .raw import alive, exchange, harmless, request
from .site import envelope, refusal

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.anyio

NOBODY = "00000000-0000-4000-8000-000000000000"

BODIES = [
    ("POST", "activity"),
    ("POST", "notify"),
    ("POST", "delegate"),
    ("POST", "delegations/record"),
    ("POST", f"delegations/{NOBODY}/update"),
    ("POST", "approvals"),
    ("POST", "schedules"),
    ("POST", "secrets"),
    ("PUT", "model"),
    ("PATCH", ""),
]
"""Routes of a workspace with a JSON body, in both eras."""

LATER_BODIES = [
    ("POST", "requests"),
    ("POST", f"requests/{NOBODY}/respond"),
    ("POST", f"requests/{NOBODY}/messages"),
    ("POST", "activity/ack"),
    ("PATCH", "config"),
]
"""Those that came later, or where the April server was laxer."""

NO_OBJECTS = {
    "empty": b"",
    "cut off": b'{"a": "b',
    "array": b"[]",
    "text": b'"text"',
    "number": b"7",
    "null": b"null",
    "not UTF-8": b"\xff\xfe\xfa",
    "NUL": b"\0\0\0\0",
    "NaN": b'{"message": NaN}',
    "single quotes": b"{'message': 'x'}",
    "form": b"message=x&title=y",
}

NOTHING_REQUIRED = {"", "model", "config"}
"""Where no key must be there, null may count as an object without any."""

DEEP = 40_000


@pytest.mark.contract("1.2", "1.7", era="april")
@pytest.mark.parametrize(("method", "route"), BODIES)
async def test_a_body_that_is_no_json_object_is_a_400(site: Site, method: str, route: str) -> None:
    await check_bodies(site, method, route)


@pytest.mark.contract("1.2", "1.7", era="june")
@pytest.mark.parametrize(("method", "route"), LATER_BODIES)
async def test_a_body_that_is_no_json_object_is_a_400_on_later_routes_too(site: Site, method: str, route: str) -> None:
    await check_bodies(site, method, route)


async def check_bodies(site: Site, method: str, route: str) -> None:
    member = await site.create()
    path = f"/workspaces/{member.id}/{route}".rstrip("/")
    for name, body in NO_OBJECTS.items():
        if name == "null" and route in NOTHING_REQUIRED:
            continue
        answer = await site.http.request(method, path, content=body, headers=member.auth)
        assert (name, answer.status_code) == (name, 400)
        refusal(answer, 400)
    assert (await site.read(member))["name"] == member.name
    assert await alive(site)


@pytest.mark.contract("4.1", "4.2", "4.3", "4.6", era="april")
@pytest.mark.parametrize("route", ["register", "heartbeat", "update-card", "check-access"])
async def test_a_body_that_is_no_json_object_is_a_400_in_the_registry(site: Site, route: str) -> None:
    for name, body in NO_OBJECTS.items():
        answer = await site.http.post(f"/registry/{route}", content=body)
        assert (name, answer.status_code) == (name, 400)
        refusal(answer, 400)
    assert await alive(site)


@pytest.mark.contract("1.2", "1.7", era="june")
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("closed", [True, False])
async def test_json_that_is_nested_without_end_is_a_400(
    site: Site, opening: bytes, closing: bytes, closed: bool
) -> None:
    member = await site.create()
    deep = opening * DEEP + b"1" + closing * (DEEP if closed else 0)
    for path, body in (
        ("activity", b'{"activity_type": "agent_log", "metadata": ' + deep + b"}"),
        ("notify", b'{"message": ' + deep + b"}"),
        ("a2a", b'{"method": "message/send", "params": ' + deep + b"}"),
        ("config", b'{"deep": ' + deep + b"}"),
    ):
        method = "PATCH" if path == "config" else "POST"
        answer = await site.http.request(
            method, f"/workspaces/{member.id}/{path}", content=body, headers=member.identity
        )
        refusal(answer, 400)
    assert await site.get(member, "activity") == []
    assert await alive(site)


@pytest.mark.contract("7.2", "6.1", "4.2", era="june")
@pytest.mark.parametrize(
    "value",
    [7, "text", [], {}, True, [None], {"a": {}}, 10**30, -1, "\0", "\ud83d", "x" * 100_000],
    ids=lambda value: repr(value)[:20],
)
async def test_values_of_another_type_never_are_an_error_of_the_servers_own(site: Site, value: object) -> None:
    member = await site.create()
    keys = {
        "activity": ("activity_type", "method", "summary", "target_id", "source_id", "status", "duration_ms"),
        "delegate": ("target_id", "task", "idempotency_key", "metadata"),
        "notify": ("message", "attachments"),
        "approvals": ("action", "reason", "task_id", "context"),
        "requests": ("kind", "recipient_type", "recipient_id", "title", "detail", "priority"),
        "schedules": ("cron_expr", "prompt", "name", "timezone", "enabled"),
    }
    right: dict[str, Any] = {
        "activity_type": "agent_log", "target_id": NOBODY, "task": "x", "message": "x", "action": "x", "kind": "task",
        "recipient_type": "user", "title": "x", "cron_expr": "0 0 1 1 *", "prompt": "x",
    }  # fmt: skip
    for path, names in keys.items():
        for name in names:
            body = {**{key: right[key] for key in names if key in right}, name: value}
            content = json.dumps(body).encode()
            answer = await site.http.post(f"/workspaces/{member.id}/{path}", content=content, headers=member.auth)
            assert answer.status_code < 300 or harmless(answer), (path, name, answer.text[:200])
    for name in (
        "error_rate",
        "active_tasks",
        "uptime_seconds",
        "current_task",
        "monthly_spend",
        "runtime_state",
        "runtime_metadata",
    ):
        content = json.dumps({"workspace_id": member.id, name: value}).encode()
        answer = await site.http.post("/registry/heartbeat", content=content, headers=member.auth)
        assert answer.status_code == 200 or harmless(answer), (name, answer.text[:200])
    await site.beat(member)
    assert await alive(site)


LONG = ["a" * 129, "a" * 10_000, NOBODY + "0" * 93]
WRONG = [
    "UPPER",
    "a_b",
    "a.b",
    "a b",
    "-a",
    "ä",
    "名",
    "'; DROP TABLE workspaces; --",
    "{{7*7}}",
    "$(id)",
    "a\nb",
    "%s%n",
    "*",
]


@pytest.mark.contract("14.1", "1.5", "23.10", era="june")
@pytest.mark.parametrize("identifier", [*LONG, *WRONG], ids=lambda text: repr(text[:20]) + str(len(text)))
async def test_what_is_no_id_of_a_workspace_is_refused_wherever_it_stands(site: Site, identifier: str) -> None:
    member = await site.create()
    quoted = httpx.QueryParams({"": identifier}).__str__().removeprefix("=").replace("+", "%20")
    for path in (
        "",
        "/activity",
        "/state",
        "/secrets/values",
        "/delegations",
        "/requests",
        "/chat/download?path=/workspace/a",
    ):
        for headers in (member.auth, site.admin):
            assert harmless(await site.http.get(f"/workspaces/{quoted}{path}", headers=headers)), path
    assert harmless(await site.http.get(f"/registry/{quoted}/peers", headers=member.auth))
    assert harmless(await site.http.get(f"/registry/discover/{quoted}", headers=member.identity))
    assert harmless(await site.http.post(f"/workspaces/{quoted}/a2a", json={"method": "x"}, headers=member.identity))
    assert harmless(await site.http.delete(f"/workspaces/{quoted}", headers=site.admin))
    for body in ({"id": identifier, "url": "", "delivery_mode": "poll", "agent_card": {"name": "x"}},):
        assert harmless(await site.http.post("/registry/register", json=body))
    for query in ({"peer_id": identifier}, {"since_id": identifier}):
        assert harmless(await site.http.get(f"/workspaces/{member.id}/activity", params=query, headers=member.auth))
    assert await alive(site)


TRAVERSALS = [
    b"/workspaces/../health", b"/workspaces/%2e%2e/health", b"/workspaces/..%2fhealth",
    b"/workspaces/%2e%2e%2f%2e%2e%2fetc%2fpasswd", b"/workspaces/%252e%252e/activity", b"/workspaces/..\\..\\health",
    b"/workspaces/%00", b"/workspaces/a%00b/activity", b"/workspaces/%ff%fe", b"/workspaces/%c0%ae%c0%ae/activity",
    b"/workspaces/%", b"/workspaces/%zz/activity", b"/workspaces//activity", b"/workspaces/./activity",
    b"/workspaces/%0d%0aX-Injected:%20yes/activity", b"//workspaces", b"/workspaces/;/activity", b"/../../etc/passwd",
    b"/%2e%2e/%2e%2e/etc/passwd",
]  # fmt: skip


@pytest.mark.contract("1.2", "23.10", era="june")
@pytest.mark.parametrize("target", TRAVERSALS, ids=lambda target: target.decode("latin-1"))
async def test_a_path_that_leads_elsewhere_leads_nowhere(site: Site, target: bytes) -> None:
    member = await site.create()
    for headers in (site.admin, member.auth, {}):
        for method in (b"GET", b"POST", b"DELETE"):
            reply = await exchange(site.server.url, request(site.server.url, method, target, headers, body=b"{}"))
            assert harmless(reply), (method, reply)
            assert reply is None or "x-injected" not in reply.headers
    assert await alive(site)


@pytest.mark.contract("10.3", "24.9", "11.2", era="june")
@pytest.mark.parametrize(
    "name",
    [
        b"..",
        b"%2e%2e",
        b"..%2f..%2fetc%2fpasswd",
        b"%2fetc%2fpasswd",
        b"%00",
        b"a%00b",
        b"%ff",
        b"%5c..%5c",
        b"." * 300,
    ],
)
async def test_a_name_in_a_path_is_no_way_to_files_of_the_server(site: Site, name: bytes) -> None:
    member = await site.create()
    await site.register(member)
    base = f"/workspaces/{member.id}/".encode()
    for method, path in (
        (b"GET", b"pending-uploads/%b/content"),
        (b"POST", b"pending-uploads/%b/ack"),
        (b"GET", b"chat/download?path=%b"),
        (b"GET", b"chat/download?path=/workspace/%b"),
        (b"DELETE", b"secrets/%b"),
        (b"DELETE", b"tokens/%b"),
        (b"GET", b"a2a/queue/%b"),
        (b"GET", b"requests/%b"),
        (b"GET", b"plugins/%b/download"),
        (b"DELETE", b"plugins/%b"),
        (b"DELETE", b"schedules/%b"),
    ):
        data = request(site.server.url, method, base + path % name, member.auth)
        reply = await exchange(site.server.url, data)
        # A workspace without a URL has no files at all: 503, after the path was checked or before.
        assert harmless(reply) or (reply is not None and reply.status == 503 and b"download" in path), (path, reply)
        assert reply is None or b"root:" not in reply.body
    assert await alive(site)


@pytest.mark.contract("24.5", "24.13", "4.4", "12.6", "7.2", era="june")
async def test_who_claims_to_be_somebody_else_is_refused(site: Site) -> None:
    parent, left, right = await site.family()
    await site.register(right)
    claims: list[dict[str, str]] = [
        {**left.auth, "X-Workspace-ID": parent.id},
        {**left.auth, "X-Workspace-ID": right.id},
        {"X-Workspace-ID": left.id},
        {"X-Workspace-ID": parent.id},
    ]
    for headers in claims:
        message = envelope("hi")
        answer = await site.http.post(f"/workspaces/{right.id}/a2a", json=message, headers=headers)
        assert answer.status_code in {401, 403}, answer.text
        for path in (f"/registry/discover/{right.id}", f"/workspaces/{right.id}/schedules/health"):
            refusal(await site.http.get(path, headers=headers), 401)
    body = {"activity_type": "agent_log", "source_id": right.id}
    answer = await site.http.post(f"/workspaces/{left.id}/activity", json=body, headers=left.auth)
    refusal(answer, 403, "source_id must match authenticated workspace")
    beat = {"workspace_id": right.id, "active_tasks": 7}
    refusal(await site.http.post("/registry/heartbeat", json=beat, headers=left.auth), 401)
    assert await site.get(right, "activity", type="a2a_receive") == []
    assert (await site.read(right))["active_tasks"] == 0


@pytest.mark.contract("1.5", era="june")
async def test_one_of_two_bearers_is_not_chosen(site: Site) -> None:
    left, right = (await site.family())[1:]
    target = f"/workspaces/{left.id}/activity".encode()
    for headers in ([right.auth, left.auth], [{"Authorization": "Bearer x"}, left.auth]):
        reply = await exchange(site.server.url, request(site.server.url, b"GET", target, *headers))
        assert reply is not None
        assert reply.status in {400, 401}


@pytest.mark.contract("1.2", era="june")
@pytest.mark.parametrize(
    "value",
    [
        b"Bearer",
        b"Bearer ",
        b"Bearer \xff\xfe",
        b"Bearer a b",
        b"Bearer " + b"x" * 4000,
        b"\xff",
        b"Bearer null",
        b"Basic Og==",
    ],
)
async def test_a_bearer_that_makes_no_sense_is_a_401(site: Site, value: bytes) -> None:
    member = await site.create()
    for target in (f"/workspaces/{member.id}/activity", "/workspaces"):
        data = request(site.server.url, b"GET", target.encode(), b"Authorization: " + value)
        reply = await exchange(site.server.url, data)
        assert reply is not None
        assert reply.status == 401, reply
