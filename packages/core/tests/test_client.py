"""The one client of the platform, against a real HTTP server."""

import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
import pytest

from molecule_runtime.core import envelope
from molecule_runtime.core.errors import (
    AccessDeniedError,
    CredentialRejectedError,
    GoneError,
    InvalidWorkspaceIdError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    PlatformUnreachableError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
    UnexpectedResponseError,
)
from molecule_runtime.core.platform import client as client_module
from molecule_runtime.core.platform import wire
from molecule_runtime.core.platform.client import MAX_A2A_REQUEST_BYTES, PlatformClient
from molecule_runtime.core.platform.multipart import FormFile
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.platform.wire.memory import RememberRequest
from molecule_runtime.core.platform.wire.requests import CreateApprovalRequest, CreateRequest
from molecule_runtime.core.tokens import TokenFile

from .support import DEADLINE, TOKEN, Answer, Request, Rotating, ScriptedPlatform, client_of, closed_port, target_of

pytestmark = pytest.mark.anyio

Call: TypeAlias = Callable[[PlatformClient], Awaitable[Any]]

ROW = {"id": "ws-1", "name": "one", "status": "online"}
BEAT = wire.HeartbeatRequest(workspace_id="ws-1")
ASKED = {"id": "r-1", "kind": "task"}
DELEGATED = {"delegation_id": "d-1", "status": "delegated", "target_id": "ws-2"}
REPLY = {"jsonrpc": "2.0", "id": "x", "result": {"kind": "message", "parts": [{"kind": "text", "text": "hi"}]}}

FILE_ID = "0b7e4b1c-3f0e-4c3c-9a64-6a2f7a9d1e55"

# Call, method, path, body of the answer, request body (None: none), and whether the caller is named.
CALLS: dict[str, tuple[Call, str, str, Any, Any, bool]] = {
    "register": (
        lambda c: c.register(
            wire.RegisterRequest(id="ws-1", agent_card={"name": "one"}, url="", delivery_mode="poll")
        ),
        "POST", "/registry/register", {"status": "registered"},
        {"id": "ws-1", "agent_card": {"name": "one"}, "url": "", "delivery_mode": "poll"}, False,
    ),
    "heartbeat": (
        lambda c: c.heartbeat(wire.HeartbeatRequest(workspace_id="ws-1", active_tasks=0, runtime_state="")),
        "POST", "/registry/heartbeat", {"status": "ok"},
        {"workspace_id": "ws-1", "active_tasks": 0, "runtime_state": ""}, False,
    ),
    "update_card": (
        lambda c: c.update_card({"name": "one"}), "POST", "/registry/update-card", {"status": "updated"},
        {"workspace_id": "ws-1", "agent_card": {"name": "one"}}, False,
    ),
    "discover": (
        lambda c: c.discover("ws-2"), "GET", "/registry/discover/ws-2", {"id": "ws-2", "name": "two", "url": ""}, None, True,
    ),
    "peers": (lambda c: c.peers(), "GET", "/registry/ws-1/peers", [ROW], None, False),
    "workspace": (lambda c: c.workspace(), "GET", "/workspaces/ws-1", ROW, None, False),
    "workspace of another": (lambda c: c.workspace("ws-2"), "GET", "/workspaces/ws-2", ROW, None, False),
    "activity": (lambda c: c.activity(), "GET", "/workspaces/ws-1/activity", [{"id": "a"}], None, False),
    "log_activity": (
        lambda c: c.log_activity(wire.ActivityRequest(activity_type="agent_log", summary="s")),
        "POST", "/workspaces/ws-1/activity", {"status": "logged"}, {"activity_type": "agent_log", "summary": "s"}, False,
    ),
    "notify": (
        lambda c: c.notify("hello"), "POST", "/workspaces/ws-1/notify", {"status": "sent"}, {"message": "hello"}, False,
    ),
    "acknowledge_activity": (
        lambda c: c.acknowledge_activity(7), "POST", "/workspaces/ws-1/activity/ack", {"last_acked_seq": 7}, {"acked_seq": 7}, False,
    ),
    "acknowledge_upload": (
        lambda c: c.acknowledge_upload(FILE_ID), "POST", f"/workspaces/ws-1/pending-uploads/{FILE_ID}/ack", {"acked": True}, {}, False,
    ),
    "broadcast": (
        lambda c: c.broadcast("noon"), "POST", "/workspaces/ws-1/broadcast", {"status": "sent", "delivered": 2}, {"message": "noon"}, False,
    ),
    "install_plugin": (
        lambda c: c.install_plugin("local://x"), "POST", "/workspaces/ws-1/plugins",
        {"status": "installed", "plugin": "x", "source": "local://x"}, {"source": "local://x"}, False,
    ),
    "remember": (
        lambda c: c.remember(RememberRequest(content="tea", scope="TEAM")), "POST", "/workspaces/ws-1/memories",
        {"id": FILE_ID, "scope": "TEAM"}, {"content": "tea", "scope": "TEAM"}, False,
    ),
    "memories": (
        lambda c: c.memories(scope="TEAM", text="tea"), "GET", "/workspaces/ws-1/memories", [{"id": FILE_ID}], None, False,
    ),
    "memory_namespaces": (
        lambda c: c.memory_namespaces(), "GET", "/workspaces/ws-1/v2/namespaces", {"readable": [], "writable": []}, None, False,
    ),
    "memories_in": (
        lambda c: c.memories_in("team:ws-0", kind="fact"), "GET", "/workspaces/ws-1/v2/memories", {"memories": []}, None, False,
    ),
    "forget": (
        lambda c: c.forget(FILE_ID, v2=True), "DELETE", f"/workspaces/ws-1/v2/memories/{FILE_ID}", {"status": "deleted"}, None, False,
    ),
    "forget, older": (
        lambda c: c.forget(FILE_ID, v2=False), "DELETE", f"/workspaces/ws-1/memories/{FILE_ID}", {"status": "deleted"}, None, False,
    ),
    "desktop_input": (
        lambda c: c.desktop_input({"type": "key", "keys": "Return"}), "POST", "/workspaces/ws-1/desktop/input", {"ok": True},
        {"type": "key", "keys": "Return"}, True,
    ),
    "desktop_control": (
        lambda c: c.desktop_control(), "GET", "/workspaces/ws-1/desktop/control", {"human_in_control": True}, None, True,
    ),
    "notify with a file": (
        lambda c: c.notify("hello", attachments=[wire.Attachment(uri="workspace:/a", name="a", mimeType="text/csv")]),
        "POST", "/workspaces/ws-1/notify", {"status": "sent"},
        {"message": "hello", "attachments": [{"uri": "workspace:/a", "name": "a", "mimeType": "text/csv"}]}, False,
    ),
    "delegate": (
        lambda c: c.delegate("ws-2", "sum", idempotency_key="k"), "POST", "/workspaces/ws-1/delegate", DELEGATED,
        {"target_id": "ws-2", "task": "sum", "idempotency_key": "k"}, False,
    ),
    "delegations": (
        lambda c: c.delegations(), "GET", "/workspaces/ws-1/delegations", [{"delegation_id": "d-1", "status": "completed"}], None, False,
    ),
    "record_delegation": (
        lambda c: c.record_delegation("ws-2", "sum", "d-1"), "POST", "/workspaces/ws-1/delegations/record",
        {"delegation_id": "d-1", "status": "recorded"}, {"target_id": "ws-2", "task": "sum", "delegation_id": "d-1"}, False,
    ),
    "queued_message": (
        lambda c: c.queued_message("ws-2", "q-1"), "GET", "/workspaces/ws-2/a2a/queue/q-1", {"queue_id": "q-1", "status": "queued"},
        None, True,
    ),
    "create_request": (
        lambda c: c.create_request(CreateRequest(kind="task", recipient_type="user", title="t")), "POST", "/workspaces/ws-1/requests",
        {"request_id": "r-1", "status": "pending"}, {"kind": "task", "recipient_type": "user", "title": "t"}, False,
    ),
    "requests": (lambda c: c.requests(), "GET", "/workspaces/ws-1/requests", [ASKED], None, False),
    "requests of others": (
        lambda c: c.requests(incoming=True, status="pending"), "GET", "/workspaces/ws-1/requests/inbox", [ASKED], None, False,
    ),
    "request": (
        lambda c: c.request("r-1"), "GET", "/workspaces/ws-1/requests/r-1", {"request": ASKED, "messages": []}, None, False,
    ),
    "respond_request": (
        lambda c: c.respond_request("r-1", "done"), "POST", "/workspaces/ws-1/requests/r-1/respond",
        {"status": "done", "request_id": "r-1"}, {"action": "done", "responder_type": "agent", "responder_id": "ws-1"}, False,
    ),
    "add_request_message": (
        lambda c: c.add_request_message("r-1", "why?"), "POST", "/workspaces/ws-1/requests/r-1/messages",
        {"status": "created", "request_id": "r-1", "message_id": "m-1"},
        {"body": "why?", "author_type": "agent", "author_id": "ws-1"}, False,
    ),
    "cancel_request": (
        lambda c: c.cancel_request("r-1"), "POST", "/workspaces/ws-1/requests/r-1/cancel",
        {"status": "cancelled", "request_id": "r-1"}, {}, False,
    ),
    "create_approval": (
        lambda c: c.create_approval(CreateApprovalRequest(action="deploy")), "POST", "/workspaces/ws-1/approvals",
        {"approval_id": "p-1", "status": "pending"}, {"action": "deploy"}, False,
    ),
    "approvals": (lambda c: c.approvals(), "GET", "/workspaces/ws-1/approvals", [{"id": "p-1"}], None, False),
    "withdraw_approval": (
        lambda c: c.withdraw_approval("p-1"), "POST", "/workspaces/ws-1/approvals/p-1/withdraw",
        {"status": "withdrawn", "approval_id": "p-1"}, {}, False,
    ),
    "send_message": (
        lambda c: c.send_message("ws-2", "hi", message_id="m-1"), "POST", "/workspaces/ws-2/a2a", REPLY,
        envelope.message_send("hi", message_id="m-1", metadata={"source_workspace_id": "ws-1"}), True,
    ),
}  # fmt: skip


@pytest.fixture(params=CALLS, ids=[name.replace(" ", "_") for name in CALLS])
def call(request: pytest.FixtureRequest) -> tuple[Call, str, str, Any, Any, bool]:
    return CALLS[request.param]


# What is sent


@pytest.mark.parametrize("org_id", [None, "org-1"])
async def test_each_call_sends_its_headers_and_its_body(
    call: tuple[Call, str, str, Any, Any, bool], org_id: str | None, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    do, method, path, answer, body, names_caller = call
    platform.on(method, path, Answer(body=answer))
    async with client_of(platform, pools, org_id=org_id) as client:
        with anyio.fail_after(DEADLINE):
            await do(client)
    [request] = platform.requests
    assert request.bearer == TOKEN
    assert request.headers["origin"] == platform.url
    assert request.headers.get("x-workspace-id") == ("ws-1" if names_caller else None)
    assert request.headers.get("x-molecule-org-id") == org_id
    assert request.headers["user-agent"] == "molecule-runtime"
    assert request.headers["accept"] == "application/json"
    assert "cookie" not in request.headers
    if body is None:
        assert request.body == b""
    else:
        assert request.headers["content-type"] == "application/json"
        assert request.json == body


async def test_files_are_streamed_as_a_form_and_once_more_with_a_token_that_has_changed(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    read: list[str] = []

    def file(name: str, *chunks: bytes) -> FormFile:
        async def stream() -> AsyncGenerator[bytes]:
            read.append(name)
            for chunk in chunks:
                yield chunk

        return FormFile(name=name, mime_type="text/plain", size=sum(map(len, chunks)), chunks=stream)

    path = "/workspaces/ws-1/chat/uploads"
    stored = {"files": [{"uri": "workspace:/a", "name": "a"}, {"uri": "workspace:/b", "name": "b"}]}
    source = Rotating("old-token-1")

    def rotate(_: Request) -> Answer:
        source.value = "new-token-2"
        return Answer(status=401, body={"error": "no"})

    platform.on("POST", path, rotate, Answer(body=stored))
    async with client_of(platform, pools, token=source) as client:
        with anyio.fail_after(DEADLINE):
            files = await client.upload([file("a", b"one", b"two"), file('b"\r\nX: y', b"")])
    assert [item.uri for item in files] == ["workspace:/a", "workspace:/b"]
    assert read == ["a", 'b"\r\nX: y'] * 2
    first, second = platform.requests
    assert (first.bearer, second.bearer) == ("old-token-1", "new-token-2")
    kind, _, boundary = second.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    assert second.headers["content-length"] == str(len(second.body))
    head = '--{0}\r\nContent-Disposition: form-data; name="files"; filename="{1}"\r\nContent-Type: text/plain\r\n\r\n'
    expected = head.format(boundary, "a") + "onetwo\r\n" + head.format(boundary, "b___X: y") + f"\r\n--{boundary}--\r\n"
    assert second.body.decode() == expected


async def test_without_a_token_nothing_is_sent_in_its_place(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("POST", "/registry/heartbeat", Answer(body={"status": "ok"}))
    async with client_of(platform, pools, token="") as client:
        await client.heartbeat(BEAT)
    assert "authorization" not in platform.requests[0].headers


async def test_the_path_of_a_platform_url_is_kept_but_not_part_of_the_origin(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", "/api/v1/workspaces/ws-1", Answer(body=ROW))
    async with PlatformClient(target_of(f"{platform.url}/api/v1"), pools) as client:
        await client.workspace()
    assert platform.requests[0].headers["origin"] == platform.url


async def test_the_query_of_the_activity_list_holds_what_was_asked(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", "/workspaces/ws-1/activity", Answer(body=[]))
    async with client_of(platform, pools) as client:
        await client.activity(
            type="a2a_receive", since_id="a&b=c/../#", since_secs=30, before_ts="2026-07-01T00:00:00+00:00", peer_id="ws-2",
            include_peer_info=True, limit=5,
        )  # fmt: skip
        await client.activity()
    assert platform.requests[0].query == {
        "type": ["a2a_receive"], "since_id": ["a&b=c/../#"], "since_secs": ["30"], "before_ts": ["2026-07-01T00:00:00+00:00"],
        "peer_id": ["ws-2"], "include": ["peer_info"], "limit": ["5"],
    }  # fmt: skip
    assert platform.requests[1].query == {}


async def test_a_text_with_a_lone_surrogate_still_makes_json(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", "/workspaces/ws-2/a2a", Answer(body=REPLY))
    platform.on("POST", "/registry/update-card", Answer(body={"status": "updated"}))
    platform.on("POST", "/workspaces/ws-1/notify", Answer(body={"status": "sent"}))
    platform.on("POST", "/workspaces/ws-1/delegate", Answer(status=202, body=DELEGATED))
    async with client_of(platform, pools) as client:
        await client.send_message("ws-2", 'half \ud83d of "a" 🎉')
        await client.update_card({"name": "\ud83d"})
        await client.notify("half \ud83d of it")
        await client.delegate("ws-2", "half \ud83d of it", idempotency_key="k")
    message, card, note, delegation = platform.requests
    assert note.json == {"message": "half ? of it"}
    assert delegation.json["task"] == "half ? of it"
    assert message.json["params"]["message"]["parts"][0]["text"] == 'half \ud83d of "a" 🎉'
    assert card.json["agent_card"] == {"name": "\ud83d"}


@pytest.mark.parametrize(
    "identifier", ["../ws-2", "ws-2/..", "ws-2/a2a?x", "ws-2#", "", " ", "WS-2", "ws-2\n/x", "a" * 129, "%2e%2e"]
)
async def test_an_id_with_a_path_trick_never_makes_a_request(
    identifier: str, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    async with client_of(platform, pools) as client:
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: client.discover(identifier),
            lambda: client.workspace(identifier),
            lambda: client.delegate(identifier, "task", idempotency_key="k"),
            lambda: client.send_message(identifier, "text"),
        ]
        for do in calls:
            with pytest.raises(InvalidWorkspaceIdError):
                await do()
    assert platform.requests == []


async def test_a_message_names_its_sender_whatever_its_metadata_claims(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", "/workspaces/ws-2/a2a", Answer(body=REPLY))
    async with client_of(platform, pools) as client:
        answer = await client.send_message(
            "ws-2",
            "hi",
            context_id="c-1",
            files=[envelope.File(uri="workspace:/a")],
            metadata={"source_workspace_id": "ws-9", "delegation_id": "d-1"},
        )
    assert answer == envelope.Reply(text="hi")
    message = platform.requests[0].json["params"]["message"]
    assert message["metadata"] == {"source_workspace_id": "ws-1", "delegation_id": "d-1"}
    assert message["contextId"] == "c-1"
    assert len(message["parts"]) == 2


async def test_an_id_of_a_row_is_never_a_path(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    async with client_of(platform, pools) as client:
        for identifier in ("..", "a/b", "", "a?x=1", "r" * 129):
            for ask in (client.request, client.withdraw_approval):
                with pytest.raises(RequestRefusedError, match="letters, digits"):
                    await ask(identifier)
    assert platform.requests == []


# What comes back


async def test_answers_are_read_into_models_that_keep_unknown_keys(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    answer = {"status": "registered", "auth_token": "t0ken-once", "platform_inbound_secret": "s3cret", "new": 1}
    platform.on("POST", "/registry/register", Answer(body=answer))
    platform.on(
        "POST",
        "/workspaces/ws-1/delegate",
        Answer(status=202, body=DELEGATED),
        Answer(body=DELEGATED | {"idempotent_hit": True}),
    )
    async with client_of(platform, pools) as client:
        registered = await client.register(wire.RegisterRequest(id="ws-1", agent_card={"name": "one"}))
        first = await client.delegate("ws-2", "sum", idempotency_key="k")
        again = await client.delegate("ws-2", "sum", idempotency_key="k")
    assert registered.auth_token == answer["auth_token"]
    assert registered.model_extra == {"new": 1}
    assert "t0ken-once" not in repr(registered)
    assert "s3cret" not in repr(registered)
    assert (first.idempotent_hit, again.idempotent_hit) == (False, True)


async def test_one_peers_odd_card_does_not_spoil_the_list(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    cards: list[Any] = [{"name": "good"}, None, "text", ["list"], 7, True]
    rows = [{"id": f"ws-{index}", "agent_card": card} for index, card in enumerate(cards)]
    platform.on("GET", "/registry/ws-1/peers", Answer(body=rows))
    activity = [{"id": "a", "attachments": [{"uri": "x"}, "odd", None]}, {"id": "b", "attachments": "odd"}]
    platform.on("GET", "/workspaces/ws-1/activity", Answer(body=activity))
    async with client_of(platform, pools) as client:
        assert [peer.agent_card for peer in await client.peers()] == [{"name": "good"}, None, None, None, None, None]
        assert [row.attachments for row in await client.activity()] == [[{"uri": "x"}], None]


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "retry_after"),
    [
        (400, {}, {"error": "invalid request body"}, RequestRefusedError, None),
        (402, {}, {"error": "workspace budget limit exceeded"}, RequestRefusedError, None),
        (409, {}, {"error": "conflict"}, RequestRefusedError, None),
        (413, {}, {"error": "too large", "truncated": True, "max_bytes": 1048576}, RequestRefusedError, None),
        (401, {}, {"error": "invalid workspace auth token"}, CredentialRejectedError, None),
        (403, {}, {"error": "talk_to_user_disabled", "hint": "route through your parent"}, AccessDeniedError, None),
        (404, {}, {"error": "workspace not found"}, NotFoundError, None),
        (404, {}, b"", NotFoundError, None),
        (404, {"Content-Type": "text/plain"}, b"404 page not found", NotFoundError, None),
        (410, {}, {"error": "workspace removed"}, GoneError, None),
        (429, {"Retry-After": "7"}, {"error": "rate limit exceeded", "retry_after": 9}, RateLimitedError, 7.0),
        (429, {}, {"error": "rate limit exceeded", "retry_after": 9}, RateLimitedError, 9.0),
        (429, {"Retry-After": "soon"}, {"error": "rate limit exceeded"}, RateLimitedError, None),
        (429, {"Retry-After": "-1"}, {"error": "x", "retry_after": "nan"}, RateLimitedError, None),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, {"error": "x"}, RateLimitedError, None),
        (500, {}, b"", UnavailableError, None),
        (500, {}, {"error": "registration failed"}, UnavailableError, None),
        (502, {"Content-Type": "text/html"}, b"<html>Bad gateway</html>", UnavailableError, None),
        (503, {"Retry-After": "30"}, {"error": "busy", "busy": True, "retry_after": 30}, UnavailableError, 30.0),
        (503, {}, {"error": "x", "detail": "y", "retry_after_seconds": 30}, UnavailableError, 30.0),
        (304, {}, b"", UnexpectedResponseError, None),
        (200, {"Content-Type": "text/html"}, b"<!doctype html><title>Molecule</title>", UnexpectedResponseError, None),
        (200, {}, b"", UnexpectedResponseError, None),
        (204, {}, b"", UnexpectedResponseError, None),
        (200, {}, b"{", UnexpectedResponseError, None),
        (200, {}, b"\xff\xfe", UnexpectedResponseError, None),
        (200, {}, b"[" * 100_000, UnexpectedResponseError, None),
        (200, {}, {}, UnexpectedResponseError, None),
        (200, {}, [], UnexpectedResponseError, None),
        (200, {}, "text", UnexpectedResponseError, None),
        (200, {}, None, UnexpectedResponseError, None),
        (200, {}, {"id": 7}, UnexpectedResponseError, None),
        (200, {}, {"id": "ws-1", "tier": "high"}, UnexpectedResponseError, None),
        (200, {"Content-Encoding": "gzip"}, b"not gzip", UnavailableError, None),
    ],
    ids=[str(index) for index in range(34)],
)
async def test_an_answer_that_is_not_what_was_asked_for_becomes_the_error_of_its_kind(
    status: int,
    headers: dict[str, str],
    body: Any,
    kind: type[PlatformError],
    retry_after: float | None,
    platform: ScriptedPlatform,
    pools: ConnectionPools,
) -> None:
    platform.on("GET", "/workspaces/ws-1", Answer(status=status, headers=headers, body=body))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformError) as caught:
            await client.workspace()
    assert type(caught.value) is kind
    assert caught.value.workspace_id == "ws-1"
    assert caught.value.request == "GET /workspaces/ws-1"
    assert caught.value.status in {status, None}
    assert getattr(caught.value, "retry_after", None) == retry_after
    assert "GET /workspaces/ws-1" in str(caught.value)
    told = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
    assert str(told.get("error", "")) in str(caught.value)
    assert str(told.get("hint", "")) in str(caught.value)


async def test_a_date_to_come_back_at_is_counted_from_the_clock_of_the_platform(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    platform.on("GET", "/workspaces/ws-1", Answer(status=429, headers={"Retry-After": later}, body={"error": "x"}))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(RateLimitedError) as caught:
            await client.workspace()
    assert caught.value.retry_after is not None
    assert 900 < caught.value.retry_after < 1100


async def test_a_list_of_the_wrong_shape_names_the_place(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("GET", "/registry/ws-1/peers", Answer(body=[ROW, {"name": "no id"}]), Answer(body={"peers": []}))
    async with client_of(platform, pools) as client:
        with pytest.raises(UnexpectedResponseError, match=r"1\.id"):
            await client.peers()
        with pytest.raises(UnexpectedResponseError):
            await client.peers()


async def test_an_answer_above_the_cap_is_refused_while_it_streams(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    # The promise is never kept: only a client that stops reading at the cap gets away before its deadline.
    platform.on("GET", "/workspaces/ws-1", Answer(body=b" " * (11 * 1024 * 1024), promise=100 * 1024 * 1024))
    platform.on("GET", "/registry/ws-1/peers", Answer(body=[]))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(UnexpectedResponseError, match="larger than"):
            await client.workspace()
        assert await client.peers() == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=ROW, promise=50),
        Answer(raw=b""),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Le"),
        Answer(raw=b"not http at all\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ],
    ids=["body cut", "cut at once", "headers cut", "no http", "bad chunk"],
)
async def test_a_connection_that_breaks_may_have_delivered_the_request(
    answer: Answer, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", "/workspaces/ws-1", answer)
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(UnavailableError) as caught:
            await client.workspace()
    assert caught.value.delivered is None
    assert caught.value.status is None


async def test_a_deadline_that_passes_is_a_timeout(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    gate = threading.Event()
    platform.on("GET", "/workspaces/ws-1", Answer(body=ROW, gate=gate))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformTimeoutError) as caught:
            await client.workspace(timeout=0.05)
        assert isinstance(caught.value, TimeoutError)
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformTimeoutError):
            await client.workspace(timeout=0)


async def test_nobody_listening_is_unreachable(pools: ConnectionPools) -> None:
    async with PlatformClient(target_of(f"http://127.0.0.1:{closed_port()}"), pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformUnreachableError) as caught:
            await client.workspace()
    assert isinstance(caught.value, ConnectionError)
    assert "127.0.0.1" in str(caught.value)


async def test_a_host_that_does_not_exist_is_unreachable(pools: ConnectionPools) -> None:
    async with PlatformClient(target_of("http://no-such-host.invalid"), pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises((PlatformUnreachableError, PlatformTimeoutError)):
            await client.workspace(timeout=3)


async def test_a_cancelled_call_ends_at_once_and_leaves_the_client_usable(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    platform.on("GET", "/workspaces/ws-1", Answer(body=ROW, gate=gate), Answer(body=ROW))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE):
            async with anyio.create_task_group() as group:
                group.start_soon(client.workspace)
                await platform.until_requests("GET", "/workspaces/ws-1")
                group.cancel_scope.cancel()
            assert (await client.workspace()).id == "ws-1"


# Tokens


async def test_after_a_401_a_changed_token_is_tried_once(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    source = Rotating("old-token-old-token")

    def refuse(_: Request) -> Answer:
        source.value = "new-token-new-token"
        return Answer(status=401, body={"error": "invalid workspace auth token"})

    platform.on("POST", "/registry/heartbeat", refuse, Answer(body={"status": "ok"}))
    async with client_of(platform, pools, token=source) as client:
        assert (await client.heartbeat(BEAT)).status == "ok"
    assert [request.bearer for request in platform.requests] == ["old-token-old-token", "new-token-new-token"]
    assert platform.requests[0].body == platform.requests[1].body


async def test_a_401_to_an_unchanged_token_is_not_repeated(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("POST", "/registry/heartbeat", Answer(status=401, body={"error": "invalid workspace auth token"}))
    source = Rotating()
    async with client_of(platform, pools, token=source) as client:
        with pytest.raises(CredentialRejectedError, match="a rotating source"):
            await client.heartbeat(BEAT)
    assert len(platform.requests) == 1
    assert source.reads == 2


async def test_a_second_401_ends_it_although_the_token_changes_again(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    source = Rotating("token-number-0")

    def refuse(_: Request) -> Answer:
        source.value = f"token-number-{len(platform.requests)}"
        return Answer(status=401, body={"error": "no"})

    platform.on("POST", "/registry/heartbeat", refuse)
    async with client_of(platform, pools, token=source) as client:
        with pytest.raises(CredentialRejectedError):
            await client.heartbeat(BEAT)
    assert [request.bearer for request in platform.requests] == ["token-number-0", "token-number-1"]


async def test_a_token_that_vanished_after_a_401_does_not_make_an_anonymous_call(
    platform: ScriptedPlatform, pools: ConnectionPools, tmp_path: Path
) -> None:
    file = TokenFile(tmp_path / "token")
    file.save(TOKEN)

    def refuse(_: Request) -> Answer:
        file.path.unlink()
        return Answer(status=401, body={"error": "no"})

    platform.on("POST", "/registry/heartbeat", refuse)
    async with client_of(platform, pools, token=file) as client:
        with pytest.raises(CredentialRejectedError):
            await client.heartbeat(BEAT)
    assert [request.bearer for request in platform.requests] == [TOKEN]


async def test_a_rotated_token_file_is_used_by_the_next_call(
    platform: ScriptedPlatform, pools: ConnectionPools, tmp_path: Path
) -> None:
    platform.on("POST", "/registry/heartbeat", Answer(body={"status": "ok"}))
    file = TokenFile(tmp_path / "token")
    async with client_of(platform, pools, token=file) as client:
        for token in ("first-token", "second-token"):
            file.save(token)
            await client.heartbeat(BEAT)
    assert [request.bearer for request in platform.requests] == ["first-token", "second-token"]


@pytest.mark.parametrize(
    "token", ["two words", "line\nbreak-token", "tökén-of-mine", "nul\x00-token", "del\x7f-token"], ids=ascii
)
async def test_a_token_that_no_header_can_carry_is_refused_before_any_request(
    token: str, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    async with client_of(platform, pools, token=token) as client:
        with pytest.raises(CredentialRejectedError) as caught:
            await client.heartbeat(BEAT)
    assert platform.requests == []
    assert token not in str(caught.value)


ECHOES: dict[str, Callable[[str], Answer]] = {
    "error": lambda token: Answer(status=400, body={"error": f"bad token {token}", "hint": f"not {token}"}),
    "text": lambda token: Answer(status=500, body=f"{'x' * 390}{token}".encode()),
    "html": lambda token: Answer(status=502, body=f"<html>{token}</html>".encode(), headers={"Content-Type": "text/html"}),
    "401": lambda token: Answer(status=401, body={"error": token}),
    "long": lambda token: Answer(status=403, body={"error": f"{token} " * 1000}),
    "content type": lambda token: Answer(body=b"{", headers={"Content-Type": token}),
    "redirect": lambda token: Answer(status=307, headers={"Location": f"https://{token}.example/"}),
    "broken redirect": lambda token: Answer(status=307, headers={"Location": f"http://[{token}"}),
    "key": lambda token: Answer(body=[{token: token}]),
    "value": lambda token: Answer(body={"id": "ws-1", "tier": token}),
    "status line": lambda token: Answer(raw=f"HTTP/1.1 {token}\r\n\r\n".encode()),
    "header": lambda token: Answer(raw=f"HTTP/1.1 200 OK\r\n{token}\r\n\r\n".encode()),
}  # fmt: skip


@pytest.mark.parametrize("token", [TOKEN, "short-but-real", f"{'Long-Token_' * 40}end"], ids=["usual", "short", "long"])
@pytest.mark.parametrize("echo", ECHOES)
async def test_a_token_that_the_server_echoes_is_in_no_error(
    echo: str, token: str, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", "/workspaces/ws-1", ECHOES[echo](token))
    async with client_of(platform, pools, token=token) as client:
        with pytest.raises(PlatformError) as caught:
            await client.workspace()
    assert platform.requests[0].bearer == token
    shown: BaseException | None = caught.value
    while shown is not None:
        assert token.lower() not in f"{shown} {shown!r} {shown.args}".lower()
        assert token[:14].lower() not in str(shown).lower()
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    assert token not in repr(client)


# Origins


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_redirect_to_another_origin_takes_no_request_and_so_no_token_there(
    method: str, status: int, platform: ScriptedPlatform, other_platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    for location in (
        f"{other_platform.url}/workspaces/ws-1",
        f"//127.0.0.1:{other_platform.url.rpartition(':')[2]}/x",
        f"http://{platform.url.removeprefix('http://')}@127.0.0.1:{other_platform.url.rpartition(':')[2]}/x",
        platform.url.replace("http://", "https://"),
        platform.url.replace("127.0.0.1", "localhost"),
        "ftp://127.0.0.1/x",
        "http://127.0.0.1:99999/",
        "http://[::1",
        "http://127.0.0.1:x/",
    ):
        before = len(platform.requests)
        answer = Answer(status=status, headers={"Location": location})
        platform.on("GET", "/workspaces/ws-1", answer)
        platform.on("POST", "/registry/heartbeat", answer)
        async with client_of(platform, pools) as client:
            with anyio.fail_after(DEADLINE), pytest.raises((UnexpectedResponseError, UnavailableError)):
                await (client.workspace() if method == "GET" else client.heartbeat(BEAT))
        assert len(platform.requests) == before + 1, location
    assert other_platform.requests == []


async def test_a_redirect_within_the_origin_is_followed_with_method_body_and_token(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    for status in (307, 308):
        platform.on("POST", "/registry/heartbeat", Answer(status=status, headers={"Location": "/v2/heartbeat?x=1"}))
        platform.on("POST", "/v2/heartbeat", Answer(body={"status": "ok"}))
        async with client_of(platform, pools) as client:
            assert (await client.heartbeat(BEAT)).status == "ok"
        first, second = platform.requests[-2:]
        assert second.path == "/v2/heartbeat"
        assert second.query == {"x": ["1"]}
        assert (second.method, second.body, second.bearer) == (first.method, first.body, first.bearer)


async def test_a_redirected_query_is_the_one_of_the_new_address(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    location = f"{platform.url}/v2/activity?limit=7"
    platform.on("GET", "/workspaces/ws-1/activity", Answer(status=301, headers={"Location": location}))
    platform.on("GET", "/v2/activity", Answer(body=[]))
    async with client_of(platform, pools) as client:
        assert await client.activity(limit=5) == []
    assert platform.requests[-1].query == {"limit": ["7"]}


@pytest.mark.parametrize("status", [301, 302])
async def test_a_redirect_that_would_turn_a_post_into_a_get_is_refused(
    status: int, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", "/registry/heartbeat", Answer(status=status, headers={"Location": "/v2"}))
    async with client_of(platform, pools) as client:
        with pytest.raises(UnexpectedResponseError, match="platform_url"):
            await client.heartbeat(BEAT)
    assert len(platform.requests) == 1


@pytest.mark.parametrize(
    "headers", [{"Location": "/workspaces/ws-1"}, {}, {"Location": ""}], ids=["loop", "none", "blank"]
)
async def test_redirects_without_end_end(
    headers: dict[str, str], platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", "/workspaces/ws-1", Answer(status=307, headers=headers))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(UnexpectedResponseError):
            await client.workspace()
    assert len(platform.requests) <= 4


async def test_a_cookie_of_one_client_is_never_sent_by_another(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("GET", "/workspaces/ws-1", Answer(body=ROW, headers={"Set-Cookie": "session=of-ws-1; Path=/"}))
    platform.on("GET", "/workspaces/ws-2", Answer(body=ROW))
    async with client_of(platform, pools) as one, client_of(platform, pools, workspace="ws-2") as two:
        await one.workspace()
        await two.workspace()
        await one.workspace()
    assert [request.headers.get("cookie") for request in platform.requests[:2]] == [None, None]
    assert "ws-2" in platform.requests[1].path


async def test_two_clients_of_two_tenants_never_mix_their_tokens(
    platform: ScriptedPlatform, other_platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    tokens = {"ws-1": "token-of-ws-1-of-acme", "ws-2": "token-of-ws-2-of-acme", "ws-3": "token-of-ws-3-of-umbra"}
    homes = {"ws-1": platform, "ws-2": platform, "ws-3": other_platform}
    # Two calls are held until a third has arrived, so that calls of several clients are really under way together.
    started = threading.Barrier(3, timeout=DEADLINE)

    def first(_: Request) -> Answer:
        started.wait()
        return Answer(body={"status": "ok"})

    for workspace, home in homes.items():
        home.on("POST", f"/workspaces/{workspace}/notify", first, Answer(body={"status": "sent"}))
        home.on("GET", f"/workspaces/{workspace}", Answer(body=ROW))

    async def chatter(workspace: str) -> None:
        async with client_of(homes[workspace], pools, workspace=workspace, token=tokens[workspace]) as client:
            for number in range(50):
                if number % 2:
                    await client.workspace()
                else:
                    await client.notify(f"{workspace} {number}")

    with anyio.fail_after(3 * DEADLINE):
        async with anyio.create_task_group() as group:
            for workspace in homes:
                group.start_soon(chatter, workspace)
    assert len(platform.requests) == 100
    assert len(other_platform.requests) == 50
    for server in (platform, other_platform):
        for request in server.requests:
            workspace = request.path.split("/")[2]
            assert request.bearer == tokens[workspace]
            assert request.headers["origin"] == server.url
            assert homes[workspace] is server
            if request.body:
                assert request.json["message"].startswith(workspace)


async def test_connections_are_shared_and_survive_a_client(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    platform.on("GET", "/workspaces/ws-1", Answer(body=ROW))
    async with client_of(platform, pools) as first:
        await first.workspace()
    async with client_of(platform, pools) as second:
        assert (await second.workspace()).id == "ws-1"


async def test_a_proxy_of_the_environment_is_used_unless_the_host_is_excepted(
    platform: ScriptedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.on("GET", "/workspaces/ws-1", Answer(body=ROW))
    for proxy in (platform.url, platform.url.removeprefix("http://")):
        monkeypatch.setenv("http_proxy", proxy)
        async with ConnectionPools() as pools, PlatformClient(target_of("http://far-away.invalid"), pools) as client:
            assert (await client.workspace()).id == "ws-1"
        assert platform.requests[-1].headers["host"] == "far-away.invalid"
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with ConnectionPools() as pools, client_of(platform, pools) as client:
        assert (await client.workspace()).id == "ws-1"


# Messages to other agents


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_SEND_BACKOFF_CAP", 0.0)


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("reason", ["restarting", "waking", "warming"])
async def test_a_message_is_sent_again_while_the_target_is_starting(
    reason: str, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    refusal = Answer(status=503, body={"error": "not yet", reason: True})
    platform.on("POST", "/workspaces/ws-2/a2a", refusal, refusal, Answer(body=REPLY))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE):
            assert await client.send_message("ws-2", "hi") == envelope.Reply(text="hi")
    bodies = [request.json for request in platform.to("POST", "/workspaces/ws-2/a2a")]
    assert len(bodies) == 3
    assert len({body["params"]["message"]["messageId"] for body in bodies}) == 1


@pytest.mark.usefixtures("no_backoff")
async def test_a_message_is_sent_again_when_nobody_listened(
    pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[str] = []
    send = PlatformClient._send  # pyright: ignore[reportPrivateUsage]

    async def count(self: PlatformClient, method: str, path: str, *rest: Any) -> Any:
        attempts.append(path)
        return await send(self, method, path, *rest)

    monkeypatch.setattr(PlatformClient, "_send", count)
    async with PlatformClient(target_of(f"http://127.0.0.1:{closed_port()}"), pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformUnreachableError):
            await client.send_message("ws-2", "hi")
    assert attempts == ["/workspaces/ws-2/a2a"] * 5


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=502, body={"error": "failed to read agent response", "delivery_confirmed": True}),
        Answer(status=503, body={"error": "x", "restarting": True, "delivery_confirmed": True}),
        Answer(status=502, body={"error": "failed to reach workspace agent"}),
        Answer(status=503, body={"error": "busy", "busy": True, "retry_after": 30}),
        Answer(status=500, body=b""),
        Answer(status=429, body={"error": "rate limit exceeded"}),
        Answer(status=401, body={"error": "invalid caller auth token"}),
        Answer(body=b"<html>"),
        Answer(raw=b""),
        Answer(body=REPLY, promise=9),
    ],
    ids=[str(index) for index in range(10)],
)
async def test_a_message_that_may_have_been_delivered_is_not_sent_again(
    answer: Answer, platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", "/workspaces/ws-2/a2a", answer)
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformError):
            await client.send_message("ws-2", "hi")
    assert len(platform.requests) == 1


async def test_a_message_whose_answer_is_late_is_not_sent_again(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    gate = threading.Event()
    platform.on("POST", "/workspaces/ws-2/a2a", Answer(body=REPLY, gate=gate))
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(PlatformTimeoutError):
            await client.send_message("ws-2", "hi", timeout=0.2)
    assert len(platform.requests) == 1


async def test_a_wait_longer_than_the_deadline_is_not_begun(platform: ScriptedPlatform, pools: ConnectionPools) -> None:
    answer = Answer(status=503, body={"error": "waking", "waking": True, "retry_after": 3600})
    platform.on("POST", "/workspaces/ws-2/a2a", answer)
    async with client_of(platform, pools) as client:
        with anyio.fail_after(DEADLINE), pytest.raises(UnavailableError) as caught:
            await client.send_message("ws-2", "hi")
    assert caught.value.retry_after == 3600
    assert caught.value.delivered is False
    assert len(platform.requests) == 1


async def test_a_message_above_the_platforms_cap_is_refused_here(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on("POST", "/workspaces/ws-2/a2a", Answer(body=REPLY))
    async with client_of(platform, pools) as client:
        with pytest.raises(RequestRefusedError, match=str(MAX_A2A_REQUEST_BYTES)):
            await client.send_message("ws-2", "é" * (MAX_A2A_REQUEST_BYTES // 2))
        assert platform.requests == []
        overhead = len(
            json.dumps(envelope.message_send("", message_id="m" * 36, metadata={"source_workspace_id": "ws-1"}))
        )
        await client.send_message("ws-2", "e" * (MAX_A2A_REQUEST_BYTES - overhead), message_id="m" * 36)
    assert len(platform.requests) == 1


async def test_an_acknowledgement_and_a_failure_of_the_agent_are_answers(
    platform: ScriptedPlatform, pools: ConnectionPools
) -> None:
    platform.on(
        "POST",
        "/workspaces/ws-2/a2a",
        Answer(status=202, body={"queued": True, "queue_id": "q-1", "queue_depth": 1, "message": "busy"}),
        Answer(body={"status": "queued", "delivery_mode": "poll", "method": "message/send"}),
        Answer(body={"jsonrpc": "2.0", "id": "x", "error": {"code": -32000, "message": "boom"}}),
    )
    async with client_of(platform, pools) as client:
        assert await client.send_message("ws-2", "1") == envelope.Accepted(mode="busy", queue_id="q-1")
        assert await client.send_message("ws-2", "2") == envelope.Accepted(mode="poll", method="message/send")
        assert await client.send_message("ws-2", "3") == envelope.Failure(message="boom", code=-32000)


async def test_a_file_that_waits_is_fetched_as_it_is_up_to_its_own_limit(
    platform: ScriptedPlatform, pools: ConnectionPools, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/workspaces/ws-1/pending-uploads/{FILE_ID}/content"
    content = bytes(range(256)) * 8
    platform.on("GET", path, Answer(body=content, headers={"Content-Type": "text/csv; charset=utf-8"}))
    # Larger than an answer may be, and a file may be larger.
    monkeypatch.setattr(client_module, "MAX_RESPONSE_BYTES", 64)
    async with client_of(platform, pools) as client:
        found = await client.pending_upload(FILE_ID)
        assert (found.content, found.mime_type) == (content, "text/csv")
        monkeypatch.setattr(client_module, "MAX_UPLOAD_BYTES", 64)
        with pytest.raises(UnexpectedResponseError, match="larger than 64 bytes"):
            await client.pending_upload(FILE_ID)
        with pytest.raises(ValueError, match="badly formed"):
            await client.pending_upload("../../secrets")
