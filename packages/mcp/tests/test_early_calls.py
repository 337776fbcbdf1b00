"""The first calls of a session, which are answered without the SDK: as it answers them, and only those that are sure to be plain."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.tenants import Member

from molecule_runtime.core import registry
from molecule_runtime.mcp.early import META, EarlyAnswers, PlainCall
from molecule_runtime.mcp.early_calls import is_early
from molecule_runtime.mcp.prepare import envelope

from .processes import INITIALIZE, INITIALIZED, MODULE, SECONDS, lines, one

if TYPE_CHECKING:
    from pathlib import Path

    from .processes import Place

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}


@pytest.fixture
def where(tmp_path: Path) -> Place:
    return one(tmp_path / "p", NOWHERE, Member("alice", "t"))


def call(number: Any, name: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, **more}}


def encoded(*messages: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def test_a_first_call_is_answered_although_the_sdk_cannot_even_be_loaded(where: Place, tmp_path: Path) -> None:
    broken = tmp_path / "broken" / "mcp_types"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not here')\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, *MODULE],
        env={**where.environ, "PYTHONPATH": str(broken.parent)},
        input=encoded(
            INITIALIZE, INITIALIZED, LIST, call(3, "goal_set", arguments={"goal": "ship"}), call("four", "list_peers")
        ),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    found = {message["id"]: message["result"] for message in map(json.loads, ran.stdout.splitlines())}
    assert set(found) == {1, 2, 3, "four"}
    assert found[3]["structuredContent"]["goal"] == "ship", found[3]
    assert found["four"]["isError"] is True


@pytest.mark.parametrize("version", ["2024-11-05", "2025-11-25", "2026-07-28"])
def test_the_early_answers_are_those_of_the_sdk(where: Place, version: str) -> None:
    calls: list[dict[str, Any]] = [
        {"name": "goal_get"},
        {"name": "task_list", "arguments": {"limit": 3}},
        {"name": "inbox_peek", "arguments": {}},
        {"name": "list_peers"},
        {"name": "inbox_pop", "arguments": {"activity_id": "none"}},
        {"name": "task_list", "arguments": {"limit": "many", "status": "ü\u2028"}},
    ]
    modern = version == "2026-07-28"
    meta: dict[str, Any] = {"_meta": envelope(version)} if modern else {}
    about = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    hello: list[dict[str, Any]] = [] if modern else [{**INITIALIZE, "params": about}, INITIALIZED]
    early = [call(f"early-{number}", **params, **meta) for number, params in enumerate(calls)]
    late = [call(f"late-{number}", **params, **meta) for number, params in enumerate(calls)]
    ran = subprocess.run(
        [sys.executable, *MODULE],
        env=where.environ,
        # What is asked in between is for the SDK, and so is all behind it.
        input=encoded(
            *hello,
            {**LIST, "params": meta},
            *early,
            {"jsonrpc": "2.0", "id": 5, "method": "resources/list", "params": meta},
            *late,
        ),
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    found = {json.loads(line)["id"]: line for line in ran.stdout.splitlines()}
    for number in range(len(calls)):
        assert found[f"early-{number}"] == found[f"late-{number}"].replace(b'"id":"late-', b'"id":"early-')


async def test_two_calls_of_one_id_are_both_answered(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = one(tmp_path / "p", f"http://127.0.0.1:{silent.getsockname()[1]}", Member("alice", "t"))
        async with lines(where) as process:
            await process.hello()
            await process.send(LIST, call(3, "list_peers"), call(3, "goal_get"))
            assert (await process.answer(3))["result"]["structuredContent"] == {"goal": None}
            platform, _ = silent.accept()
            platform.close()
            silent.close()
            assert (await process.answer(3))["result"]["isError"] is True


async def test_a_first_call_that_waits_for_the_platform_holds_nothing_up_and_can_be_cancelled(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = one(tmp_path / "p", f"http://127.0.0.1:{silent.getsockname()[1]}", Member("alice", "t"))
        async with lines(where) as process:
            await process.hello()
            await process.send(LIST, call(3, "list_peers"))
            await process.send({"jsonrpc": "2.0", "id": 4, "method": "resources/templates/list"}, call(5, "goal_get"))
            seen = {2: await process.answer(2), 4: await process.answer(4), 5: await process.answer(5)}
            assert seen[5]["result"]["structuredContent"] == {"goal": None}
            await process.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}})
            await process.send({"jsonrpc": "2.0", "id": 6, "method": "ping"})
            await process.answer(6)
            await process.stdin.aclose()
            # It would wait for the answer of a call that is still under way.
            assert await process.end() == 0


@pytest.mark.parametrize(
    "message",
    [
        call(3, "goal_get", _meta={"progressToken": 1}),
        call(3, "goal_get", arguments=None),
        call(3, "goal_get", task={}),
        call(None, "goal_get"),
        call(1.5, "goal_get"),
        call(3, "goal_get", arguments=[]),
        {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "goal_get"}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call"},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/list"},
    ],
)
def test_what_is_not_surely_a_plain_call_is_for_the_sdk(message: dict[str, Any]) -> None:
    answers = begun(INITIALIZE, INITIALIZED)
    assert answers.plain_call(json.dumps(message).encode()) is None
    assert answers.plain_call(json.dumps(call(3, "goal_get")).encode()) == PlainCall(3, "goal_get", {})


@pytest.mark.parametrize(
    "changed",
    [
        {"progressToken": 1},
        {f"{META}logLevel": "debug"},
        {f"{META}protocolVersion": "2025-11-25"},
        {f"{META}clientCapabilities": {"new": {}}},
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
    ],
)
def test_a_call_whose_envelope_says_more_is_for_the_sdk(changed: dict[str, Any]) -> None:
    meta = envelope("2026-07-28")
    answers = begun({**LIST, "params": {"_meta": meta}})
    assert answers.plain_call(json.dumps(call(3, "goal_get", _meta={**meta, **changed})).encode()) is None
    assert answers.plain_call(json.dumps(call(3, "goal_get")).encode()) is None
    found = answers.plain_call(json.dumps(call(3, "goal_get", _meta=meta)).encode())
    assert found == PlainCall(3, "goal_get", {}, {"it": 1})


def test_a_call_before_the_client_is_initialized_is_for_the_sdk() -> None:
    assert begun(INITIALIZE).plain_call(json.dumps(call(3, "goal_get")).encode()) is None
    assert begun().plain_call(json.dumps(call(3, "goal_get")).encode()) is None


def begun(*messages: dict[str, Any]) -> EarlyAnswers:
    prepared: dict[str, Any] = {
        "bodies": [{}, {"_meta": {"it": 1}}],
        "answers": {"2024-11-05": {"initialize": {"": 0}}, "2026-07-28": {"tools/list": {"": 1}}},
        "handshakes": ["2024-11-05"],
    }
    answers = EarlyAnswers(prepared, lambda line: None, instructions="")
    for message in messages:
        assert answers.take(json.dumps(message).encode())
    return answers


def test_what_waits_for_somebody_is_never_called_early_and_what_acts_only_where_nobody_is_to_be_asked_who() -> None:
    alone, of_several = ({spec.name for spec in registry.TOOLS if is_early(spec.name, served)} for served in (1, 2))
    assert {"get_runtime_identity", "list_peers", "recall_memory", "task_list", "inbox_peek"} <= of_several
    assert not of_several & {"inbox_pop", "delegate_task", "run_code"}
    assert {"inbox_pop", "delegate_task", "run_code"} <= alone > of_several
    assert not alone & {"wait_for_message", "desktop_wait_for_control"}
    assert not is_early("no_such_tool", 1)
