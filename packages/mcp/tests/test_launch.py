"""How `molecule-mcp` begins: whatever stdin is, whoever prints, whatever the lines are."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import tty
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.tenants import Member

from .processes import INITIALIZE, INITIALIZED, MODULE, SECONDS, lines, one

if TYPE_CHECKING:
    from pathlib import Path

    from .processes import Place

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
HANDSHAKE = b"".join(json.dumps(message).encode() + b"\n" for message in (INITIALIZE, INITIALIZED, LIST))


@pytest.fixture
def where(tmp_path: Path) -> Place:
    return one(tmp_path / "p", NOWHERE, Member("alice", "t"))


def answers(output: bytes) -> dict[Any, dict[str, Any]]:
    """Every line is a message; returns the answers by id."""
    found = [json.loads(line) for line in output.splitlines()]
    return {message["id"]: message for message in found if "id" in message}


def run(where: Place, stdin: int, command: tuple[str, ...] = MODULE) -> dict[Any, dict[str, Any]]:
    ran = subprocess.run(
        [sys.executable, *command], env=where.environ, stdin=stdin, capture_output=True, timeout=SECONDS, check=True
    )
    return answers(ran.stdout)


@pytest.mark.parametrize("kind", ["pipe", "file", "socket", "terminal"])
def test_a_session_is_answered_whatever_stdin_is(where: Place, tmp_path: Path, kind: str) -> None:
    ours, theirs = os.pipe()
    opened: list[int] = []
    match kind:
        case "file":
            path = tmp_path / "session"
            path.write_bytes(HANDSHAKE)
            reading = os.open(path, os.O_RDONLY)
            opened.append(reading)
        case "socket":
            left, right = socket.socketpair()
            left.sendall(HANDSHAKE)
            left.close()
            reading = right.detach()
            opened.append(reading)
        case "terminal":
            leader, reading = pty.openpty()
            tty.setraw(reading)
            os.write(leader, HANDSHAKE)
            # What ends a raw terminal is that it hangs up.
            opened += [leader, reading]
        case _:
            os.write(theirs, HANDSHAKE)
            reading = ours
    os.close(theirs)
    try:
        if kind == "terminal":
            process = subprocess.Popen(
                [sys.executable, *MODULE],
                env=where.environ,
                stdin=reading,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert process.stdout is not None
            found = answers(process.stdout.readline() + process.stdout.readline())
            os.close(opened.pop(0))
            process.communicate(timeout=SECONDS)
        else:
            found = run(where, reading)
    finally:
        for descriptor in (ours, *opened):
            os.close(descriptor)
    assert found[1]["result"]["protocolVersion"] == "2024-11-05"
    assert len(found[2]["result"]["tools"]) > 30


def test_what_anybody_prints_does_not_reach_the_client(where: Place) -> None:
    rogue = (
        "import builtins, os, sys\n"
        "from molecule_runtime.mcp import launch\n"
        "real = builtins.__import__\n"
        "def loud(name, *more, **rest):\n"
        "    if name.startswith('mcp'):\n"
        "        print('LOADING', name, flush=True); os.write(1, b'RAW\\n')\n"
        "    return real(name, *more, **rest)\n"
        "builtins.__import__ = loud\n"
        "sys.exit(launch.main([]))\n"
    )
    call = {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "get_runtime_identity"}}
    ran = subprocess.run(
        [sys.executable, "-c", rogue],
        env={**where.environ, "PYTHONWARNINGS": "ignore"},
        input=HANDSHAKE + json.dumps(call).encode() + b"\n",
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    assert b"LOADING mcp" in ran.stderr
    assert b"RAW" in ran.stderr
    found = answers(ran.stdout)
    assert set(found) == {1, 2, 3}
    assert found[3]["result"]["structuredContent"]["workspace_id"] == "alice"


async def test_broken_lines_are_answered_and_what_comes_behind_them_too(where: Place) -> None:
    async with lines(where, MODULE) as process:
        await process.send(INITIALIZE, b"{broken", b"\xff\xfe", b"", b"[1, 2]", {"jsonrpc": "2.0", "id": 7})
        await process.send(INITIALIZED, {"jsonrpc": "2.0", "id": 9, "method": "tools/list"})
        codes: list[tuple[Any, Any]] = []
        while True:
            message = await process.read()
            if message.get("id") == 9:
                break
            if "error" in message:
                codes.append((message["id"], message["error"]["code"]))
        assert codes == [(None, -32700), (None, -32700), (None, -32600), (7, -32600)]


async def test_the_end_of_stdin_ends_a_call_that_waits(where: Place) -> None:
    async with lines(where) as process:
        await process.hello()
        await process.call(2, "wait_for_message", timeout_secs=300)
        await process.call(3, "get_runtime_identity")
        await process.answer(3)
        await process.stdin.aclose()
        assert await process.end() == 0
