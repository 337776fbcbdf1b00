"""What any server must withstand on its socket: bytes that are no HTTP, or HTTP that says two things at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from .raw import Reply, alive, dialled, exchange, harmless, request

if TYPE_CHECKING:
    from .site import Member, Site

pytestmark = pytest.mark.anyio

GARBAGE = {
    "nothing": b"",
    "noise": bytes(range(256)) * 4,
    "TLS": bytes.fromhex("160301020001000001fc0303") + b"\0" * 500,
    "no version": b"GET /health\r\n\r\n",
    "version 9": b"GET /health HTTP/9.9\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\n\r\n",
    "spaces": b"GET / health HTTP/1.1\r\n\r\n",
    "NUL in the target": b"GET /he\0alth HTTP/1.1\r\n\r\n",
    "header without colon": b"GET /health HTTP/1.1\r\nHost\r\n\r\n",
    "header with a space": b"GET /health HTTP/1.1\r\nHo st: x\r\n\r\n",
    "NUL in a header": b"GET /health HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "endless target": b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\n\r\n",
    "endless header": b"GET /health HTTP/1.1\r\nX: " + b"a" * 300_000 + b"\r\n\r\n",
    "many headers": b"GET /health HTTP/1.1\r\n" + b"X: a\r\n" * 50_000 + b"\r\n",
    "other protocol": b"EHLO example\r\nMAIL FROM:<a@b>\r\n",
}
UNFINISHED = [GARBAGE["nothing"], GARBAGE["other protocol"]]


@pytest.mark.contract("1.2", era="june")
@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_what_is_no_http_is_refused_or_dropped(site: Site, data: bytes) -> None:
    # Where more could follow, the server learns that nothing will.
    assert harmless(await exchange(site.server.url, data, end=data in UNFINISHED))
    assert await alive(site)


async def beat_raw(site: Site, member: Member, *headers: bytes, body: bytes, end: bool = False) -> Reply | None:
    data = request(site.server.url, b"POST", b"/registry/heartbeat", member.auth, *headers) + body
    return await exchange(site.server.url, data, end=end)


@pytest.mark.contract("1.2", era="june")
async def test_the_length_of_a_body_is_what_it_says_or_the_request_is_refused(site: Site) -> None:
    member = await site.create()
    body = json.dumps({"workspace_id": member.id, "active_tasks": 7}).encode()
    length = b"Content-Length: %d"
    for headers, sent in (
        ([], body),
        ([b"Content-Length: 5"], body),
        ([b"Content-Length: -1"], body),
        ([b"Content-Length: x"], body),
        ([b"Content-Length: 1e3"], body),
        ([length % len(body) + b", 5"], body),
        ([length % len(body), b"Content-Length: 5"], body),
        ([b"Content-Length: 99999999999999999999999"], body),
        ([b"Transfer-Encoding: chunked"], b"-1\r\n" + body + b"\r\n0\r\n\r\n"),
        ([b"Transfer-Encoding: chunked"], b"fffffffffffffffffffffffff\r\n" + body),
        ([b"Transfer-Encoding: gzip"], body),
    ):
        assert harmless(await beat_raw(site, member, *headers, body=sent)), headers
    for headers, sent in (
        ([length % (len(body) + 1)], body),
        ([b"Transfer-Encoding: chunked"], b"%x\r\n%b\r\n" % (len(body), body)),
        ([b"Transfer-Encoding: chunked"], b"%x\r\n%b" % (len(body) + 1, body)),
    ):
        assert harmless(await beat_raw(site, member, *headers, body=sent, end=True)), headers
    assert (await site.read(member))["active_tasks"] == 0
    assert await alive(site)


@pytest.mark.contract("1.2", era="april")
async def test_a_body_in_chunks_is_as_good_as_one_of_a_stated_length(site: Site) -> None:
    member = await site.create()
    body = json.dumps({"workspace_id": member.id, "active_tasks": 7}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1], body[1:20], body[20:])) + b"0\r\n\r\n"
    reply = await beat_raw(site, member, b"Transfer-Encoding: chunked", body=chunks)
    assert reply is not None
    assert reply.status == 200
    assert (await site.read(member))["active_tasks"] == 7


@pytest.mark.contract("1.2", era="june")
async def test_two_ways_to_say_the_length_smuggle_nothing(site: Site) -> None:
    member = await site.create()
    smuggled = request(
        site.server.url,
        b"POST",
        b"/registry/heartbeat",
        member.auth,
        body=json.dumps({"workspace_id": member.id, "active_tasks": 7}).encode(),
    )
    body = b"0\r\n\r\n" + smuggled
    for headers in (
        [b"Content-Length: %d" % len(body), b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body)],
        [b"Content-Length: %d" % len(body), b"Transfer-Encoding : chunked"],
        [b"Content-Length: %d" % len(body), b"Transfer-Encoding: xchunked"],
    ):
        async with dialled(site.server.url) as line:
            await line.send(request(site.server.url, b"POST", b"/registry/check-access", *headers) + body)
            line.end()
            assert harmless(await line.reply())
    assert (await site.read(member))["active_tasks"] == 0


@pytest.mark.contract("1.2", "1.7", era="june")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "GeT", "X" * 100])
async def test_a_method_that_a_route_does_not_have_does_nothing(site: Site, method: str) -> None:
    member = await site.create()
    for path in ("/health", f"/workspaces/{member.id}/activity", "/registry/register"):
        reply = await exchange(site.server.url, request(site.server.url, method.encode(), path.encode(), member.auth))
        assert harmless(reply) or (reply is not None and method == "OPTIONS" and reply.status in {200, 204}), reply
    assert await alive(site)


@pytest.mark.contract("1.2", era="june")
async def test_a_client_that_hangs_up_halfway_takes_nobody_with_it(site: Site) -> None:
    member = await site.create()
    body = json.dumps({"workspace_id": member.id, "active_tasks": 7}).encode()
    whole = request(site.server.url, b"POST", b"/registry/heartbeat", member.auth, body=body)
    for part in (1, 10, len(whole) - len(body), len(whole) - 1):
        async with dialled(site.server.url) as line:
            await line.send(whole[:part])
    assert (await site.read(member))["active_tasks"] == 0
    assert await alive(site)
