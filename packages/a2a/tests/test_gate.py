"""The gate over real sockets: browsers stay out, senders are authenticated as config.yaml says, and number, size and time are bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest
from a2a.client import ClientConfig, create_client
from a2a.helpers import get_message_text, new_text_message
from a2a.types import Role, SendMessageRequest

from molecule_runtime.a2a import gate
from molecule_runtime.a2a.gate import Side, is_own_name, side_of

from .support import DEADLINE, ECHO, FakePlatform, Workspace, ask, process, ready, serving, text_of

pytestmark = pytest.mark.anyio

Make = Callable[..., Workspace]

OWN = "own-secret-1234567890"
GATED = ECHO.replace(
    'return f"You said: {turn.text}"',
    """import httpx
            async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
                await client.get(self.config.platform.target.platform_url + "/gate/turn")
            return "through" """,
)
MESSAGE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "message/send",
    "params": {"message": {"role": "user", "messageId": "m", "parts": [{"kind": "text", "text": "hello"}]}},
}


async def said_to(workspace: Workspace, *pieces: bytes) -> bytes:
    """Send bytes and return what comes until the connection ends."""
    with anyio.fail_after(DEADLINE):
        async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
            for piece in pieces:
                await stream.send(piece)
            answer = b""
            async for piece in stream:
                answer += piece
    return answer


async def post(workspace: Workspace, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
        return await client.post(workspace.url, json=MESSAGE, headers=headers)


# --- browsers -------------------------------------------------------------------------------------------------------------


async def test_a_page_is_refused_whatever_it_asks_for_and_in_every_mode(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace()
    async with serving(workspace), httpx.AsyncClient(base_url=workspace.url, trust_env=False) as client:
        await ready(workspace)
        for origin in ("http://evil.example", workspace.url, "null"):
            for method, path in (
                ("POST", "/"),
                ("POST", "/a2a"),
                ("OPTIONS", "/"),
                ("GET", "/.well-known/agent-card.json"),
                ("GET", "/transcript"),
                ("POST", "/internal/chat/uploads/ingest"),
                ("GET", "/internal/file/read"),
            ):
                headers = {"origin": origin, "authorization": f"Bearer {platform.secret}"}
                answer = await client.request(method, path, headers=headers)
                assert (answer.status_code, path) == (403, path)
                assert "access-control-allow-origin" not in answer.headers
        assert (await post(workspace, origin="http://evil.example")).json()["error"]["code"] == -32600


async def test_a_name_that_was_made_to_lead_here_is_refused(make_workspace: Make) -> None:
    workspace = make_workspace(config="# one more\n  allowed_hosts: [Agent.Example.COM]")
    async with serving(workspace):
        await ready(workspace)
        for host, status in (
            ("evil.example", 403),
            ("127.0.0.1.evil.example:80", 403),
            ("agent.example.com", 200),
            ("AGENT.example.com:443", 200),
            ("localhost", 200),
            ("ws-0123456789ab:8000", 200),
        ):
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{workspace.url}/health", headers={"host": host})
                assert (answer.status_code, host) == (status, host)
        # What names no host at all is a probe, not a browser.
        assert (await said_to(workspace, b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("10.0.0.7:8000", True),
        ("[::1]:8000", True),
        ("localhost:80", True),
        ("agent", True),
        ("host.docker.internal:8000", True),
        ("mac.local", True),
        ("known.example.", True),
        ("evil.example", False),
        ("local.evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("evil.example:8000", False),
        ("", False),
        ("a:b", False),
        ("user@127.0.0.1", False),
        ("127.0.0.1/x", False),
        ("127.0.0.1?x", False),
        ("[::1", False),
    ],
)
def test_only_a_name_that_no_foreign_page_can_have_is_ones_own(host: str, own: bool) -> None:
    assert is_own_name(host, frozenset({"known.example"})) is own


def test_what_is_not_known_as_something_else_is_guarded_like_a2a() -> None:
    for path in ("/", "/a2a", "/v1/message:send", "/tasks", "/internal", "//internal/file/read", "/healthz"):
        assert side_of(path) is Side.A2A
    assert side_of("/internal/schedules") is Side.INTERNAL


# --- authentication -------------------------------------------------------------------------------------------------------


async def test_with_a_secret_of_its_own_the_card_says_so_and_only_its_holders_are_served(make_workspace: Make) -> None:
    workspace = make_workspace(config="# guarded\n  inbound_auth: bearer")
    file = workspace.root / "a2a-token"
    file.write_text(f"{OWN}\n")
    async with serving(workspace, MOLECULE_A2A_TOKEN_FILE=str(file)):
        await ready(workspace)
        for bad in ("", "Bearer wrong", f"Basic {OWN}"):
            answer = await post(workspace, authorization=bad)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json()["error"]["code"] == -32600
            assert OWN not in answer.text
        assert text_of((await post(workspace, authorization=f"Bearer {OWN}")).json()) == "You said: hello"

        async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {OWN}"}) as http:
            client = await create_client(workspace.url, ClientConfig(httpx_client=http))
            request = SendMessageRequest(message=new_text_message("hello", role=Role.ROLE_USER))
            events = [event async for event in client.send_message(request)]
            assert get_message_text(events[0].message) == "You said: hello"

        # A new secret counts at once, and the old one no more.
        file.write_text("another-secret-0987654321")
        assert (await post(workspace, authorization=f"Bearer {OWN}")).status_code == 401
        assert (await post(workspace, authorization="Bearer another-secret-0987654321")).status_code == 200


async def test_both_cards_say_which_scheme_they_need(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace(config="# guarded\n  inbound_auth: bearer")
    async with serving(workspace, MOLECULE_A2A_TOKEN=OWN), httpx.AsyncClient(trust_env=False) as client:
        body = await platform.registered()
        card = (await client.get(f"{workspace.url}/.well-known/agent-card.json")).json()
    scheme = card["securitySchemes"]["bearer"]
    assert scheme["httpAuthSecurityScheme"]["scheme"] == "bearer"
    assert card["securityRequirements"] == [{"schemes": {"bearer": {}}}]
    # The same for a reader of 0.3.
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert card["security"] == [{"bearer": []}]
    assert body["agent_card"]["security"] == [{"bearer": []}]
    assert body["agent_card"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


async def test_a_card_without_authentication_asks_for_none(make_workspace: Make, platform: FakePlatform) -> None:
    workspace = make_workspace()
    async with serving(workspace), httpx.AsyncClient(trust_env=False) as client:
        body = await platform.registered()
        card = (await client.get(f"{workspace.url}/.well-known/agent-card.json")).json()
    for shown in (card, body["agent_card"]):
        assert not {"securitySchemes", "securityRequirements", "security"} & shown.keys()


@pytest.mark.parametrize(
    ("config", "required"),
    [("# guarded\n  inbound_auth: Platform", ""), ("", "1")],
)
async def test_in_platform_mode_only_the_platforms_secret_counts(
    make_workspace: Make, platform: FakePlatform, config: str, required: str
) -> None:
    workspace = make_workspace(config=config)
    async with serving(workspace, MOLECULE_A2A_REQUIRE_AUTH=required):
        await ready(workspace)
        assert (await post(workspace)).status_code == 401
        assert (await post(workspace, authorization=f"Bearer {platform.token}")).status_code == 401
        assert (await post(workspace, authorization=f"Bearer {platform.secret}")).status_code == 200


async def test_in_platform_mode_nobody_is_let_in_before_there_is_a_secret(make_workspace: Make) -> None:
    workspace = make_workspace(config="# guarded\n  inbound_auth: platform")
    workspace.platform_url = "http://127.0.0.1:9"
    async with serving(workspace):
        await up(workspace)
        assert (await post(workspace, authorization="Bearer None")).status_code == 401


@pytest.mark.parametrize("changes", [{}, {"MOLECULE_A2A_TOKEN_FILE": "/nowhere"}, {"MOLECULE_A2A_TOKEN": "two words"}])
async def test_a_guard_without_a_secret_does_not_start(make_workspace: Make, changes: dict[str, str]) -> None:
    workspace = make_workspace(config="# guarded\n  inbound_auth: bearer")
    async with process(workspace, **changes) as host:
        assert await host.exit_code() == 2
        assert "a2a.inbound_auth is 'bearer'" in host.log()
        assert "two words" not in host.log()


@pytest.mark.parametrize(
    ("config", "bind", "warned"),
    [
        ("", "0.0.0.0", 1),  # noqa: S104 - what is tested
        ("", "127.0.0.1", 0),
        ("# guarded\n  inbound_auth: platform", "0.0.0.0", 0),  # noqa: S104 - what is tested
    ],
)
async def test_a_workspace_that_is_open_to_a_network_says_so_once(
    make_workspace: Make, config: str, bind: str, warned: int
) -> None:
    workspace = make_workspace(config=config)
    async with process(
        workspace, MOLECULE_BIND_HOST=bind, MOLECULE_WORKSPACE_URL=f"http://127.0.0.1:{workspace.port}"
    ) as host:
        await ready(workspace)
        assert host.log().count("a2a.inbound_auth is 'none'") == warned


# --- bounds ---------------------------------------------------------------------------------------------------------------


async def test_more_requests_than_there_are_places_are_told_when_to_come_back(
    make_workspace: Make, platform: FakePlatform
) -> None:
    workspace = make_workspace(GATED, "# one place\n  max_requests: 1")
    waiting, opened = platform.gate("turn")
    answers: list[dict[str, Any]] = []
    async with serving(workspace), anyio.create_task_group() as tasks:
        await ready(workspace)

        async def turn() -> None:
            answers.append(await ask(workspace, "go"))

        tasks.start_soon(turn)
        with anyio.fail_after(DEADLINE):
            await waiting.wait()
        refused = await post(workspace)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "5"
        assert refused.json()["error"]["code"] == -32600
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{workspace.url}/health")).status_code == 200
        opened.set()
    assert [text_of(answer) for answer in answers] == ["through"]


async def test_a_place_is_free_again_after_every_kind_of_end(make_workspace: Make) -> None:
    workspace = make_workspace(config="# one place\n  max_requests: 1")
    async with serving(workspace):
        await ready(workspace)
        for _ in range(3):
            assert text_of(await ask(workspace, "hello")) == "You said: hello"
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.post(workspace.url, content=b"x" * 1_100_000)).status_code == 413
                assert (await client.post(workspace.url, content=b"{", headers=JSON)).status_code == 200
            async with await anyio.connect_tcp("127.0.0.1", workspace.port) as stream:
                await stream.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{")


JSON = {"content-type": "application/json"}


async def test_a_body_that_does_not_arrive_in_time_is_refused(
    make_workspace: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.2)
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        for head in (b"Content-Length: 50\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"):
            answer = await said_to(
                workspace, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + head
            )
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"send the whole body within 0.2 s" in answer
            assert b"connection: close" in answer.lower()


async def test_two_lengths_of_one_body_are_refused(make_workspace: Make) -> None:
    workspace = make_workspace()
    async with serving(workspace):
        await ready(workspace)
        answer = await said_to(
            workspace,
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 400 ")


async def up(workspace: Workspace) -> None:
    """Wait until a host listens, whatever the platform says of it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with anyio.fail_after(DEADLINE):
            while True:
                try:
                    await client.get(f"{workspace.url}/health")
                except httpx.TransportError:
                    await anyio.sleep(0.02)
                else:
                    return
