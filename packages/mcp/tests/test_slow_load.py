"""A session that begins while the SDK is still being loaded, however long that takes: nothing is lost of it, and nothing waits in vain."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.tenants import Member

from .processes import INITIALIZE, INITIALIZED, SECONDS, one, tool_call

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from .processes import Place

NOWHERE = "http://127.0.0.1:9"
TOOLS = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}

SLOW = """
import os, sys
from molecule_runtime.mcp import launch

class Gate:
    # The SDK is not found before the test says so.
    def find_spec(self, name, path=None, target=None):
        if name == "mcp":
            sys.meta_path.remove(self)
            os.write({loading}, b"loading")
            os.read({go_on}, 1)
        return None

sys.meta_path.insert(0, Gate())
sys.exit(launch.main([]))
"""


def ping(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "ping"}


def cancel(number: int) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


@dataclass
class Loading:
    """A process that loads the SDK, for as long as the test wants."""

    process: subprocess.Popen[bytes]
    _loads: int
    _go_on: int
    _rest: bytes = b""

    def send(self, *messages: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        self.process.stdin.flush()

    def until_it_loads(self) -> None:
        assert select.select([self._loads], [], [], SECONDS)[0]
        assert os.read(self._loads, 64) == b"loading"

    def go_on(self) -> None:
        os.write(self._go_on, b"x")

    def read(self) -> dict[str, Any]:
        """Return the next message."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            assert select.select([self.process.stdout], [], [], SECONDS)[0]
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, "the process has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(line))

    def is_silent(self) -> bool:
        assert self.process.stdout is not None
        return not self._rest and not select.select([self.process.stdout], [], [], 0)[0]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Read to the end; returns the exit code and what was said up to it."""
        assert self.process.stdout is not None
        while True:
            assert select.select([self.process.stdout], [], [], SECONDS)[0]
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return self.process.wait(SECONDS), [json.loads(line) for line in self._rest.splitlines()]
            self._rest += data


@pytest.fixture
def where(tmp_path: Path) -> Place:
    place = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    place.home.mkdir(parents=True, exist_ok=True)
    return place


@contextmanager
def slow(where: Place) -> Generator[Loading]:
    loads, loading = os.pipe()
    wait, go_on = os.pipe()
    pipe = subprocess.PIPE
    with (
        where.log.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", SLOW.format(loading=loading, go_on=wait)],
            env=where.environ,
            stdin=pipe,
            stdout=pipe,
            stderr=log,
            pass_fds=(loading, wait),
        ) as process,
    ):
        try:
            yield Loading(process, loads, go_on)
        finally:
            process.kill()
            for descriptor in (loads, loading, wait, go_on):
                os.close(descriptor)
    assert "Traceback" not in where.log_text()


def test_what_came_while_the_sdk_was_loaded_is_answered_and_a_call_cancelled_meanwhile_never_is(where: Place) -> None:
    with slow(where) as session:
        session.send(INITIALIZE, INITIALIZED, TOOLS)
        assert session.read()["result"]["serverInfo"]["name"] == "molecule"
        assert len(session.read()["result"]["tools"]) > 30
        session.until_it_loads()
        # What needs no SDK is answered during that time too.
        session.send(ping(3), {**TOOLS, "id": 4})
        assert [session.read()["id"] for _ in range(2)] == [3, 4]
        session.send(
            tool_call(5, "wait_for_message", timeout_secs=300),
            tool_call(6, "get_runtime_identity"),
            ping(7),
            cancel(5),
            "no message",
            {**TOOLS, "id": 8},
        )
        assert session.is_silent()
        session.go_on()
        found = [session.read() for _ in range(4)]
        assert {message["id"] for message in found} == {6, 7, 8, None}
        assert next(message for message in found if message["id"] == 6)["result"]["isError"] is False
        # The cancelled one has made room: nothing waits for its answer.
        session.send(tool_call(9, "wait_for_message", timeout_secs=0))
        assert session.read()["id"] == 9
        session.close()
        assert session.end() == (0, [])


def test_an_end_of_stdin_while_the_sdk_is_loaded_leaves_no_request_without_its_answer(where: Place) -> None:
    with slow(where) as session:
        session.send(INITIALIZE, INITIALIZED, TOOLS)
        session.until_it_loads()
        session.send(
            tool_call(3, "get_runtime_identity"),
            tool_call(4, "wait_for_message", timeout_secs=300),
            ping(5),
            cancel(4),
            {**TOOLS, "id": 6},
        )
        session.close()
        session.go_on()
        code, said = session.end()
    assert code == 0
    assert sorted(message["id"] for message in said) == [1, 2, 3, 5, 6]
    assert all("result" in message for message in said)


def test_an_end_of_stdin_with_everything_answered_ends_the_process_while_the_sdk_is_loaded(where: Place) -> None:
    with slow(where) as session:
        session.send(INITIALIZE, INITIALIZED, TOOLS)
        session.until_it_loads()
        session.close()
        # It is never told to go on.
        code, said = session.end()
    assert (code, [message["id"] for message in said]) == (0, [1, 2])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_process_while_the_sdk_is_loaded(where: Place, number: signal.Signals) -> None:
    with slow(where) as session:
        session.send(INITIALIZE, INITIALIZED, TOOLS)
        session.until_it_loads()
        session.process.send_signal(number)
        assert session.end()[0] == 0
