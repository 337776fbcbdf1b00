"""What is answered before the SDK is loaded is what the SDK's own server answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import pytest
from mcp import types

from molecule_runtime.mcp import prepare
from molecule_runtime.mcp.early import META, EarlyAnswers
from molecule_runtime.mcp.instructions import instructions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

HANDSHAKES = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
MODERN = "2026-07-28"
CLIENT = {"name": "claude-code", "version": "2.0", "title": "Claude Code"}
CAPABILITIES: dict[str, Any] = {"roots": {"listChanged": True}, "sampling": {}, "elicitation": {"form": {}}}


def prepared() -> dict[str, Any]:
    return dict(json.loads(prepare.PREPARED_FILE.read_text(encoding="utf-8")))


class Early:
    """A session whose written lines are kept."""

    def __init__(self, text: str = "do this", experimental: dict[str, Any] | None = None) -> None:
        self.written: list[bytes] = []
        self.answers = EarlyAnswers(prepared(), self.written.append, instructions=text, experimental=experimental)

    def send(self, message: object) -> bytes | None:
        """Return what was answered; None when the line is for the SDK."""
        before = len(self.written)
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        if not self.answers.take(data):
            assert len(self.written) == before
            return None
        return self.written[-1] if len(self.written) > before else b""


def request(number: int | str, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": number, "method": method}
    return message if params is None else {**message, "params": params}


def hello(version: str) -> dict[str, Any]:
    return {"protocolVersion": version, "capabilities": CAPABILITIES, "clientInfo": CLIENT}


def modern(**more: Any) -> dict[str, Any]:
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientInfo": CLIENT, f"{META}clientCapabilities": CAPABILITIES}
    return {"_meta": {**meta, **more}}


def started(version: str = "2025-11-25") -> Early:
    early = Early()
    assert early.send(request(1, "initialize", hello(version)))
    return early


@pytest.mark.parametrize("version", [*HANDSHAKES, "1999-01-01", "2026-07-28"])
async def test_a_session_with_a_handshake_gets_the_sdks_own_answers(tmp_path: Path, version: str) -> None:
    for settings in prepare.sample_settings(tmp_path):
        text = instructions(
            poll_hint=settings.poll_hint,
            workspace_ids=[target.id for target in settings.targets],
            inbox=settings.inbox,
            push=settings.push.fixed != "off",
        )
        early = Early(text, {})
        asked: list[tuple[str, dict[str, Any]]] = [("initialize", hello(version)), ("ping", {}), ("tools/list", {})]
        asked += [("tools/list", {"_meta": {"progressToken": 7}})]
        async with prepare.session(settings) as ask:
            for number, (method, params) in enumerate(asked, start=1):
                theirs = await ask(method, params)
                ours = early.send(request(number, method, params))
                assert ours
                assert ours.decode() == json.dumps(theirs, separators=(",", ":"), ensure_ascii=False)


async def test_a_session_without_a_handshake_gets_the_sdks_own_answers(tmp_path: Path) -> None:
    settings = prepare.sample_settings(tmp_path)[0]
    text = instructions(poll_hint=settings.poll_hint, workspace_ids=[settings.targets[0].id], inbox=True)
    early = Early(text)
    async with prepare.session(settings) as ask:
        asked = [("server/discover", modern()), ("tools/list", modern())]
        asked += [("tools/list", modern(**{f"{META}logLevel": level})) for level in get_args(types.LoggingLevel)]
        for number, (method, params) in enumerate(asked, start=1):
            theirs = await ask(method, params)
            ours = early.send(request(number, method, params))
            assert ours
            assert ours.decode() == json.dumps(theirs, separators=(",", ":"), ensure_ascii=False)
    # One request tells the SDK's session which era this is.
    assert [json.loads(line)["method"] for line, _ in early.answers.dealt_with] == ["server/discover"]


async def test_the_prepared_data_is_what_the_server_says_now() -> None:
    derived = prepare.render(await prepare.derive())
    assert prepare.PREPARED_FILE.read_text(encoding="utf-8") == derived, "run python -m molecule_runtime.mcp.prepare"


def test_what_a_process_announces_of_its_own_stands_among_the_prepared_capabilities() -> None:
    choices: tuple[dict[str, Any] | None, ...] = (None, {"claude/channel": {}})
    for announced in choices:
        answer = Early("x", announced).send(request("a", "initialize", hello("2025-06-18")))
        assert answer
        result = json.loads(answer)["result"]
        assert result["capabilities"].get("experimental") == announced
        assert types.InitializeResult.model_validate(result).instructions == "x"


def test_the_handshake_and_its_notification_are_what_the_session_must_see() -> None:
    early = started()
    line = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
    assert early.send(line) == b""
    assert early.send(request(2, "tools/list"))
    assert early.answers.listed
    assert [answer is None for _, answer in early.answers.dealt_with] == [False, True]
    assert early.answers.dealt_with[1][0] == line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b"\xff",
        b"[]",
        b"[" * 60_000,
        b'{"jsonrpc":"2.0","id":2,"method":"ping"',
        b'{"jsonrpc":"2.0","id":2,"id":3,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}',
        b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":2,"method":"ping","params":[]}',
        b'{"jsonrpc":"2.0","id":2,"method":"ping","params":null}',
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":2.5,"method":"ping"}',
        b'{"jsonrpc":"1.0","id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":2,"result":{}}',
        b'{"jsonrpc":"2.0","id":2,"method":"ping","more":1}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
        json.dumps(request(2, "initialize", hello("2025-11-25"))).encode(),
        json.dumps(request(2, "tools/list", {"cursor": "unknown"})).encode(),
        json.dumps(request(2, "tools/list", {"filter": 1})).encode(),
        json.dumps(request(2, "tools/list", {"_meta": {"other": 1}})).encode(),
        json.dumps(request(2, "tools/list", modern())).encode(),
        json.dumps(request(2, "tools/call", {"name": "list_peers"})).encode(),
        json.dumps(request(2, "resources/list")).encode(),
        json.dumps(request(2, "no/such/method")).encode(),
    ],
)
def test_a_line_that_is_not_precisely_known_is_for_the_sdk(line: bytes) -> None:
    assert started().send(line) is None


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"protocolVersion": 1, "capabilities": {}, "clientInfo": CLIENT},
        {"protocolVersion": "2025-11-25", "capabilities": {}},
        {"protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": CLIENT},
        {"protocolVersion": "2025-11-25", "capabilities": {"roots": {"listChanged": "yes"}}, "clientInfo": CLIENT},
        {"protocolVersion": "2025-11-25", "capabilities": {"other": {}}, "clientInfo": CLIENT},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x"}},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {**CLIENT, "icons": []}},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT, "more": 1},
    ],
)
def test_a_handshake_that_is_not_precisely_known_is_for_the_sdk(params: dict[str, Any] | None) -> None:
    assert Early().send(request(1, "initialize", params)) is None


def test_nothing_is_answered_before_a_handshake_or_in_an_unknown_era() -> None:
    assert Early().send(request(1, "tools/list")) is None
    assert Early().send({"jsonrpc": "2.0", "method": "notifications/initialized"}) is None
    assert Early().send(request(1, "tools/list", modern(**{f"{META}protocolVersion": "2030-01-01"}))) is None
    assert Early().send(request(1, "server/discover", {"_meta": {f"{META}protocolVersion": MODERN}})) is None
    assert Early().send(request(1, "tools/list", modern(**{f"{META}logLevel": "loud"}))) is None
    early = Early()
    assert early.send(request(1, "server/discover", modern()))
    assert early.send(request(2, "initialize", hello("2025-11-25"))) is None
    assert early.send(request(3, "tools/list")) is None
