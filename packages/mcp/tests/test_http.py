"""`molecule-mcp --transport http`: who may speak to it, what it answers, and how it ends."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from mcp import types
from tests.support import warm
from tests.support.mcp_over_http import INITIALIZE, SECONDS, Served, alive, connected, opened, served
from tests.support.tenants import Member, Received, Tenant, http_server

from molecule_runtime.core import registry
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.mcp import http_gate
from molecule_runtime.mcp.http_gate import MAX_BODY, RETRY_SECONDS, Gate
from molecule_runtime.mcp.http_server import MAX_SESSIONS, HttpOptions
from molecule_runtime.mcp.http_token import TOKEN_FILE, load_token

from .processes import one, online

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Receive, Scope, Send

NOWHERE = "http://127.0.0.1:9"
TOKEN = "the-token-of-a-test-000"  # noqa: S105 - made up
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncGenerator[Served]:
    """One process for every test that leaves it as it was."""
    folder = tmp_path_factory.mktemp("http")
    where = one(folder, NOWHERE, Member("alice", "t"))
    async with served(where.environ, where.log, cold=True) as running:
        yield running
        assert await running.stop() == 0


# --- what is answered ---


async def test_it_says_where_it_serves_and_where_the_token_is_but_not_the_token(server: Served) -> None:
    port = server.announced["port"]
    state = Path(server.environ["CONFIGS_DIR"])
    assert server.announced == {
        "url": f"http://127.0.0.1:{port}/mcp",
        "host": "127.0.0.1",
        "port": port,
        "pid": server.process.pid,
        "token_file": str(state / TOKEN_FILE),
    }
    log = (state.parent / "stderr").read_text(encoding="utf-8")
    assert f"serving MCP at {server.url}; the bearer token is in {state / TOKEN_FILE}" in log
    assert server.token not in log
    assert stat.S_IMODE((state / TOKEN_FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_lists_and_calls(server: Served, mode: str) -> None:
    async with connected(server, mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "molecule"
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools] == registry.tool_names()
        identity = await client.call_tool("get_runtime_identity", {})
        assert not identity.is_error
        assert identity.structured_content is not None
        assert identity.structured_content["workspace_id"] == "alice"


async def test_a_sidecar_is_probed_and_listed_as_templates_do_it(server: Served) -> None:
    """Contract `consumers.md` 1.2.8 and 1.2.9: two posts in sequence, no `initialized`, no session."""
    async with server.http() as http:
        hello = await http.post("/mcp", json=INITIALIZE)
        assert hello.headers["content-type"] == "application/json"
        assert hello.json()["result"]["serverInfo"]["name"] == "molecule"
        assert hello.json()["result"]["protocolVersion"] == "2024-11-05"
        listed = await http.post("/mcp", json=LIST)
        assert listed.headers["content-type"] == "application/json"
        assert [tool["name"] for tool in listed.json()["result"]["tools"]] == registry.tool_names()
        assert (await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/x"})).status_code == 202


async def test_health_needs_no_token_and_tells_nothing_but_that_it_is_there(server: Served) -> None:
    async with server.http() as http:
        del http.headers["authorization"]
        answer = await http.get("/health")
        assert answer.json() == {"ok": True, "transport": "http+sse", "port": server.announced["port"]}
        assert (await http.head("/health")).content == b""
        assert (await http.post("/health")).status_code == 405
        assert (await http.get("/")).status_code == 404


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"[]", b'{"method": 1}', b"\xff", b"", b'"x"'])
async def test_what_is_no_message_is_refused_and_ends_nothing(server: Served, body: bytes) -> None:
    async with server.http() as http:
        answer = await http.post("/mcp", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in {-32700, -32600, -32602}
        assert (await http.post("/mcp", json=LIST)).status_code == 200


async def test_a_session_that_was_ended_is_gone(server: Served) -> None:
    async with server.http() as http:
        session = {"mcp-session-id": await opened(http)}
        assert (await http.post("/mcp", json=LIST, headers=session)).status_code == 200
        assert (await http.delete("/mcp", headers=session)).status_code == 200
        assert (await http.post("/mcp", json=LIST, headers=session)).status_code == 404
        assert (await http.post("/mcp", json=LIST, headers={"mcp-session-id": "0" * 32})).status_code == 404


# --- who may speak ---


@pytest.mark.parametrize(
    ("value", "challenge"),
    [
        (None, 'Bearer realm="molecule-mcp"'),
        ("Basic dXNlcjpwYXNz", 'Bearer realm="molecule-mcp"'),
        ("Bearer", 'Bearer realm="molecule-mcp"'),
        ("Bearer wrong", 'Bearer realm="molecule-mcp", error="invalid_token"'),
        ("Bearer \xff", 'Bearer realm="molecule-mcp", error="invalid_token"'),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_without_the_token_nothing_is_served(
    server: Served, method: str, value: str | None, challenge: str
) -> None:
    async with server.http() as http:
        session = await opened(http)
        del http.headers["authorization"]
        headers = [(b"mcp-session-id", session.encode()), (b"content-type", b"application/json")]
        if value is not None:
            headers.append((b"authorization", value.encode("latin-1")))
        answer = await http.request(method, "/mcp", content=json.dumps(LIST).encode(), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == challenge
        assert server.token not in answer.text


@pytest.mark.parametrize("path", ["/mcp", "/health"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost:1:2", "[::1", "localhost@evil", "127.0.0.2", "", ":80"],
)
async def test_the_host_of_another_name_is_refused(server: Served, path: str, host: str) -> None:
    async with server.http() as http:
        answer = await http.request("POST" if path == "/mcp" else "GET", path, json=LIST, headers={"Host": host})
        assert answer.status_code in {400, 421}
        assert "tools" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9100", "127.0.0.1:1", "[::1]:9100"])
async def test_every_name_of_this_machine_is_served_at_any_forwarded_port(server: Served, host: str) -> None:
    async with server.http() as http:
        own = {"Host": host, "Origin": f"http://{host.lower()}"}
        assert (await http.post("/mcp", json=LIST, headers=own)).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:3000", "https://127.0.0.1"])
async def test_the_origin_of_another_page_is_refused(server: Served, origin: str) -> None:
    async with server.http() as http:
        answer = await http.post("/mcp", json=LIST, headers={"Origin": origin})
        assert answer.status_code == 403
        preflight = await http.options("/mcp", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert preflight.status_code == 403
        assert not [name for name in preflight.headers if name.startswith("access-control-")]


async def test_a_body_that_is_too_large_is_refused_declared_or_not(server: Served) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(MAX_BODY // 65536 + 1):
            yield b" " * 65536

    kind = {"Content-Type": "application/json"}
    async with server.http() as http:
        for _ in range(2):
            declared = await http.post("/mcp", headers=kind, content=b" " * (MAX_BODY + 1))
            assert declared.status_code == 413
            assert (await http.post("/mcp", content=pieces(), headers=kind)).status_code == 413
        assert (await http.post("/mcp", json=LIST)).status_code == 200


async def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_gate, "BODY_SECONDS", 0.01)

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async def silence() -> Message:
        await anyio.sleep_forever()
        raise NotImplementedError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    gate = Gate(token=TOKEN, hosts={"localhost"}, port=1, sessions=never, single=never)
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]
    with anyio.fail_after(SECONDS):
        await gate({"type": "http", "method": "POST", "path": "/mcp", "headers": headers}, silence, send)
    assert sent[0]["status"] == 408
    gate.close()
    await gate({"type": "http", "method": "POST", "path": "/mcp", "headers": headers}, silence, send)
    assert sent[2]["status"] == 503


async def test_what_is_cancelled_while_the_process_stops_ends_without_a_word_and_at_no_other_time() -> None:
    async def forever(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await anyio.sleep_forever()

    async def nothing(*_: object) -> Any:
        raise NotImplementedError

    gate = Gate(token=TOKEN, hosts={"localhost"}, port=1, sessions=forever, single=nothing)
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {TOKEN}".encode())]
    scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": headers}
    for stops in (False, True):
        started = asyncio.Event()
        # As uvicorn does it, which knows no cancel scopes.
        task = asyncio.create_task(gate(scope, nothing, nothing))
        with anyio.fail_after(SECONDS):
            await started.wait()
            if stops:
                gate.close()
            task.cancel()
            await asyncio.wait([task])
        assert task.cancelled() is not stops


# --- sessions ---


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]


async def test_two_sessions_at_once_get_their_own_answers_and_notifications_only(acme: Tenant, tmp_path: Path) -> None:
    """Each installs a plugin, which reports its progress; ids and progress tokens of the two are the same."""
    _, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours)
    async with served(where.environ, where.log) as running, running.http() as http:
        sessions = [await opened(http), await opened(http)]
        streams: dict[str, list[dict[str, Any]]] = {session: [] for session in sessions}

        async def listen(session: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with http.stream("GET", "/mcp", headers={"mcp-session-id": session}) as stream:
                assert stream.status_code == 200
                task_status.started()
                async for line in stream.aiter_lines():
                    streams[session].extend(events(line))

        answers: dict[str, list[dict[str, Any]]] = {}

        async def install(session: str, source: str) -> None:
            params = {"name": "install_plugin", "arguments": {"source": source}, "_meta": {"progressToken": "same"}}
            call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
            answers[session] = events((await http.post("/mcp", json=call, headers={"mcp-session-id": session})).text)

        with anyio.fail_after(SECONDS):
            async with anyio.create_task_group() as group:
                for session in sessions:
                    await group.start(listen, session)
                async with anyio.create_task_group() as calls:
                    for number, session in enumerate(sessions):
                        calls.start_soon(install, session, f"local://number-{number}")
                group.cancel_scope.cancel()
        for number, session in enumerate(sessions):
            *progress, result = answers[session]
            assert result["id"] == 7
            assert [message["method"] for message in progress] == ["notifications/progress"] * len(progress)
            assert progress[0]["params"]["message"] == f"installing local://number-{number}"
            told = json.dumps([answers[session], streams[session]])
            assert f"number-{number}" in told
            assert f"number-{1 - number}" not in told


@pytest.mark.parametrize("limit", [3, MAX_SESSIONS])
async def test_a_session_too_many_is_refused_with_when_to_come_again_and_the_others_stay(
    tmp_path: Path, limit: int
) -> None:
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    async with served(where.environ, where.log, max_sessions=limit) as running, running.http() as http:
        sessions = [(await http.post("/mcp", json=INITIALIZE)).headers["mcp-session-id"] for _ in range(limit)]
        assert len(set(sessions)) == limit
        for _ in range(2):
            full = await http.post("/mcp", json=INITIALIZE)
            assert (full.status_code, full.headers["retry-after"]) == (503, str(RETRY_SECONDS))
            assert full.headers["content-type"] == "application/json"
            assert full.json()["error"] == f"{limit} sessions are open, and no more may be"
            assert "DELETE /mcp" in full.json()["hint"]
        # What needs no session is served all the same, and so are those that have one.
        assert (await http.post("/mcp", json=LIST)).status_code == 200
        assert (await http.get("/health")).status_code == 200
        oldest = {"mcp-session-id": sessions[0]}
        assert (await http.post("/mcp", json=LIST, headers=oldest)).status_code == 200
        assert (await http.delete("/mcp", headers=oldest)).status_code == 200
        assert (await http.post("/mcp", json=INITIALIZE)).status_code == 200
        assert (await http.post("/mcp", json=INITIALIZE)).status_code == 503


async def test_a_session_that_nobody_uses_ends_and_makes_room_and_one_with_an_open_stream_stays(tmp_path: Path) -> None:
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    async with (
        served(where.environ, where.log, max_sessions=2, idle_seconds=0.5) as running,
        running.http() as http,
    ):
        used = {"mcp-session-id": await opened(http)}
        async with http.stream("GET", "/mcp", headers=used) as stream:
            assert stream.status_code == 200
            idle = {"mcp-session-id": await opened(http)}
            with anyio.fail_after(SECONDS):
                # Nothing is asked of either: an attempt to open a third one touches none.
                while (await http.post("/mcp", json=INITIALIZE)).status_code == 503:
                    pass
            assert (await http.post("/mcp", json=LIST, headers=idle)).status_code == 404
            assert (await http.post("/mcp", json=LIST, headers=used)).status_code == 200


async def test_a_request_of_the_newest_version_hears_its_log_on_its_own_stream_where_it_asks_for_it(
    tmp_path: Path,
) -> None:
    tries = 0

    async def answer(request: Received) -> tuple[int, Any]:
        nonlocal tries
        if not request.path.endswith("/a2a"):
            return 200, {"id": "bob", "name": "bob", "status": "online"}
        tries += 1
        if tries % 2:
            return 503, {"error": "it wakes up", "waking": True}
        part = {"kind": "text", "text": "done"}
        reply = {"kind": "message", "role": "agent", "messageId": "m", "parts": [part]}
        return 200, {"jsonrpc": "2.0", "id": "1", "result": reply}

    meta = {
        types.PROTOCOL_VERSION_META_KEY: "2026-07-28",
        types.CLIENT_INFO_META_KEY: {"name": "test", "version": "1"},
        types.CLIENT_CAPABILITIES_META_KEY: {},
    }
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "delegate_task"}
    logged: dict[str, list[str]] = {}
    async with http_server() as platform:
        platform.answer = answer
        where = one(tmp_path / "p", platform.url, Member("alice", "t"), LOG_LEVEL="INFO")
        async with served(where.environ, where.log) as running, running.http(**headers) as http:
            for level in ("info", "warning"):
                params = {
                    "name": "delegate_task",
                    "arguments": {"workspace_id": "bob", "task": level},
                    "_meta": {**meta, types.LOG_LEVEL_META_KEY: level},
                }
                request = {"jsonrpc": "2.0", "id": level, "method": "tools/call", "params": params}
                answered = await http.post("/mcp", json=request)
                *told, result = events(answered.text) or [answered.json()]
                assert (result["id"], result["result"]["isError"]) == (level, False)
                logged[level] = [message["params"]["data"] for message in told]
    assert [text.partition(" (")[0] for text in logged["info"]] == ["message to bob not delivered"]
    assert logged["warning"] == []


async def test_a_waiting_call_without_a_session_ends_with_its_client(acme: Tenant, tmp_path: Path) -> None:
    """Else it would take the next message, for nobody."""
    lead, ours = await acme.family()
    where = one(tmp_path / "p", acme.url, ours)
    async with served(where.environ, where.log) as running, running.http() as http:
        # Only a workspace that has registered is known to poll.
        await online(acme, ours)
        call = {"name": "wait_for_message", "arguments": {"timeout_secs": 40}}
        wait = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        await online(acme, ours)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: http.post("/mcp", json=wait))
            async with running.http() as other:
                # Answered after the call that waits has been taken in: both were sent by this loop, in this order.
                assert (await other.post("/mcp", json=LIST)).status_code == 200
            group.cancel_scope.cancel()
        await acme.message(lead, ours, "for whom?")
        answer = await http.post("/mcp", json=wait)
        assert json.loads(answer.json()["result"]["content"][0]["text"])["text"] == "for whom?"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_with_an_open_stream_and_a_tool_that_waits(tmp_path: Path, number: signal.Signals) -> None:
    given = one(tmp_path / "p", NOWHERE, Member("alice", "t"), MOLECULE_MCP_HTTP_TOKEN=TOKEN)
    async with served(given.environ, given.log) as running, running.http() as http:
        assert running.announced["token_file"] is None
        assert not (given.state / TOKEN_FILE).exists()
        session = {"mcp-session-id": await opened(http)}
        call = {"name": "wait_for_message", "arguments": {"timeout_secs": 40}}
        wait = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        async with (
            http.stream("GET", "/mcp", headers=session) as stream,
            http.stream("POST", "/mcp", headers=session, json=wait) as waiting,
        ):
            assert (stream.status_code, waiting.status_code) == (200, 200)
            assert await running.stop(number) == 0
            assert not alive(running.process.pid)
        assert "Traceback" not in given.log_text()


# --- how it is started ---


async def test_a_port_that_is_taken_is_said_and_nothing_is_started(server: Served, tmp_path: Path) -> None:
    where = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    port = str(server.announced["port"])
    program = await anyio.to_thread.run_sync(warm.stand_in, "molecule-mcp", tmp_path / "pid")
    command = [*program, "--transport", "http", "--port", port]
    with anyio.fail_after(SECONDS):
        ended = await anyio.run_process(command, env=where.environ, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert re.fullmatch(
        rf"molecule-mcp: port {port} of 127\.0\.0\.1 is taken by another process; stop it, .*--port.*\n",
        ended.stderr.decode(),
    )
    assert not (where.state / "molecule-mcp.db").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104 - is refused
def test_an_address_that_others_reach_needs_a_name_that_they_come_by(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not a loopback address.*--allow-host NAME"):
        HttpOptions(host=host).check()
    HttpOptions(host=host, allowed_hosts=("agents.example",)).check()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_a_loopback_address_needs_nothing(host: str) -> None:
    HttpOptions(host=host).check()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_refused(port: int) -> None:
    with pytest.raises(ConfigurationError, match="no port"):
        HttpOptions(port=port).check()


def test_a_token_is_made_once_and_kept(tmp_path: Path) -> None:
    made = load_token(tmp_path / "state", {})
    assert len(made.secret) >= 32
    assert made.secret not in repr(made)
    assert load_token(tmp_path / "state", {}) == made
    assert [path.name for path in (tmp_path / "state").iterdir()] == [TOKEN_FILE]


def test_a_token_of_the_environment_comes_first_then_its_file(tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_text("of-the-file-0123456789\n")
    both = {"MOLECULE_MCP_HTTP_TOKEN": TOKEN, "MOLECULE_MCP_HTTP_TOKEN_FILE": str(file)}
    assert load_token(tmp_path, both).secret == TOKEN
    del both["MOLECULE_MCP_HTTP_TOKEN"]
    assert load_token(tmp_path, both).secret == file.read_text().strip()
    assert not (tmp_path / TOKEN_FILE).exists()


@pytest.mark.parametrize("token", ["short", "two words that are long enough", "umlauts-äöü-0123456789"])
def test_a_token_that_is_none_is_refused_and_not_shown(tmp_path: Path, token: str) -> None:
    file = tmp_path / "given"
    file.write_text(token)
    for environ in ({"MOLECULE_MCP_HTTP_TOKEN": token}, {"MOLECULE_MCP_HTTP_TOKEN_FILE": str(file)}):
        with pytest.raises(ConfigurationError, match="MOLECULE_MCP_HTTP_TOKEN") as refused:
            load_token(tmp_path, environ)
        assert token not in str(refused.value)


def test_a_token_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    load_token(tmp_path, {})
    (tmp_path / TOKEN_FILE).chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"others may read.*640.*remove the file"):
        load_token(tmp_path, {})


def test_a_file_of_a_token_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used: No such file"):
        load_token(tmp_path, {"MOLECULE_MCP_HTTP_TOKEN_FILE": str(tmp_path / "none")})
