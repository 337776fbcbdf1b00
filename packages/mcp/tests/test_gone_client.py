"""A client that is gone without a word: its `molecule-mcp` ends soon, and leaves no process behind."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.tenants import Member

from .processes import INITIALIZE, INITIALIZED, MODULE, SECONDS, one, tool_call

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from .processes import Place

NOWHERE = "http://127.0.0.1:9"
GONE_WITHIN = 5.0
"""Seconds: the promise. The process itself sees to it after three, whatever holds it up."""

FULL = 60 * 1024
"""Bytes that wait in a pipe when there is no room for a further list of tools."""

CALL = tool_call(3, "get_runtime_identity")
WAIT = tool_call(4, "wait_for_message", timeout_secs=300)

NO_PIDFD = "import os, sys\ndel os.pidfd_open\nfrom molecule_runtime.mcp import launch\nsys.exit(launch.main([]))\n"
"""As where the system does not say when a process ends."""

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=0, stdout=2, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
time.sleep(600)
"""


@dataclass
class Pipes:
    """The client's ends, which stay open whatever becomes of the process that began the session."""

    stdin: int
    stdout: int
    _rest: bytes = b""
    _reads: bool = True

    def send(self, *messages: object) -> None:
        os.write(self.stdin, b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def answer(self, number: int) -> dict[str, Any]:
        while True:
            while b"\n" not in self._rest:
                assert select.select([self.stdout], [], [], SECONDS)[0]
                self._rest += os.read(self.stdout, 65536)
            line, _, self._rest = self._rest.partition(b"\n")
            if (message := json.loads(line)).get("id") == number:
                return dict(message)

    def close_stdout(self) -> None:
        if self._reads:
            self._reads = False
            os.close(self.stdout)

    def until_full(self) -> None:
        """Wait until the process cannot write what it has to say."""
        deadline = time.monotonic() + SECONDS
        while _unread(self.stdout) < FULL:
            assert time.monotonic() < deadline
            select.select([], [], [], 0.02)


@contextmanager
def pipes() -> Generator[tuple[Pipes, int, int]]:
    """Yield the client's ends, and those of the process."""
    their_stdin, ours = os.pipe()
    stdout, their_stdout = os.pipe()
    client = Pipes(ours, stdout)
    try:
        yield client, their_stdin, their_stdout
    finally:
        client.close_stdout()
        for descriptor in (their_stdin, their_stdout, client.stdin):
            os.close(descriptor)


@pytest.fixture
def where(tmp_path: Path) -> Generator[Place]:
    place = one(tmp_path / "p", NOWHERE, Member("alice", "t"))
    place.home.mkdir(parents=True, exist_ok=True)
    yield place
    for left in processes_of(place):
        os.kill(left, signal.SIGKILL)


def processes_of(place: Place) -> list[int]:
    """The processes that run with the environment of a place."""
    mark = f"CONFIGS_DIR={place.state}".encode()
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                environ = (folder / "environ").read_bytes()
            except OSError:  # of somebody else, or gone
                continue
            if mark in environ.split(b"\0"):
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("loaded", [False, True], ids=["before the SDK is loaded", "in a session"])
def test_a_client_that_closes_its_reading_end_while_answers_are_written_ends_the_process(
    where: Place, loaded: bool
) -> None:
    with (
        pipes() as (client, stdin, stdout),
        where.log.open("wb") as log,
        subprocess.Popen(
            [sys.executable, *MODULE], env=where.environ, stdin=stdin, stdout=stdout, stderr=log
        ) as process,
    ):
        client.send(INITIALIZE, INITIALIZED)
        client.answer(1)
        if loaded:
            client.send(CALL, WAIT)
            client.answer(3)
        client.send(*({"jsonrpc": "2.0", "id": number, "method": "tools/list"} for number in range(10, 30)))
        client.until_full()
        client.close_stdout()
        try:
            assert process.wait(GONE_WITHIN) == 0
        finally:
            process.kill()
    assert processes_of(where) == []
    assert "Traceback" not in where.log_text()


@pytest.mark.parametrize("loaded", [False, True], ids=["before the SDK is loaded", "in a session"])
@pytest.mark.parametrize("command", [MODULE, ("-c", NO_PIDFD)], ids=["told by the system", "looking for itself"])
def test_a_process_whose_parent_was_killed_ends_although_another_process_holds_both_of_its_pipes(
    where: Place, command: Sequence[str], loaded: bool
) -> None:
    """The test is that other process: neither does stdin end, nor does writing fail."""
    with (
        pipes() as (client, stdin, stdout),
        subprocess.Popen(
            [sys.executable, "-c", PARENT, *command],
            env=where.environ,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stdout,
        ) as parent,
    ):
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        gone = os.pidfd_open(child)
        try:
            client.send(INITIALIZE, INITIALIZED)
            client.answer(1)
            if loaded:
                client.send(CALL, WAIT)
                client.answer(3)
            parent.kill()
            assert select.select([gone], [], [], GONE_WITHIN)[0]
        finally:
            os.close(gone)
            parent.kill()
    assert processes_of(where) == []


def _unread(descriptor: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])
