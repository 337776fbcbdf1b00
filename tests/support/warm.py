"""`molecule-runtime` processes that are forked from one which has imported it already.

A host spends over a second of processor time on imports before its first line runs. These are processes of their own all the same, with an
environment, a folder, signals and an exit code of their own, and they run `main()` as the whole process. How a cold one starts is told by
the tests of the command (`packages/a2a/tests/test_command.py`), of the demo and of the seeded team.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS = 90.0


class WarmProcess:
    """A host; its methods are those of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        # It stays a zombie until it was waited for here, so the number is its own until then.
        self._handle = os.pidfd_open(pid)
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, if it has ended."""
        return self._ended(0)

    def wait(self, timeout: float = _SECONDS) -> int:
        """Wait for the end and return the exit code.

        Raises:
            subprocess.TimeoutExpired: it runs on.
        """
        deadline = time.monotonic() + timeout
        while (code := self._ended(max(0.0, deadline - time.monotonic()))) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("molecule-runtime", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with self._lock:
            if self.returncode is None:
                signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float) -> int | None:
        poller = select.poll()
        poller.register(self._handle, select.POLLIN)
        ended = poller.poll(seconds * 1000)
        with self._lock:
            if ended and self.returncode is None:
                self.returncode = _launcher().reap(self.pid)
            return self.returncode

    def __del__(self) -> None:
        """Let go of the handle."""
        os.close(self._handle)


def start_host(arguments: Sequence[str], *, environ: Mapping[str, str], folder: Path, log: Path) -> WarmProcess:
    """Run `molecule-runtime` in a folder; what it prints is added to a file."""
    return _launcher().start(
        {"arguments": list(arguments), "environ": dict(environ), "folder": str(folder), "log": str(log)}
    )


class _Launcher:
    """The process that the others are forked from; one for all tests of this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def start(self, request: dict[str, Any]) -> WarmProcess:
        return WarmProcess(self._ask(request))

    def reap(self, pid: int) -> int:
        return self._ask({"reap": pid})

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


@cache
def _launcher() -> _Launcher:
    launcher = _Launcher()
    atexit.register(launcher.close)
    return launcher


def serve() -> None:
    """Fork a host for each line on stdin, or tell how one ended; ends with stdin."""
    main = importlib.import_module("molecule_runtime.a2a.cli").main
    # What `main()` imports when it has found nothing wrong, and what a host then uses.
    for name in ("boot", "smoke"):
        importlib.import_module(f"molecule_runtime.a2a.{name}")
    assert threading.active_count() == 1, "a fork would lose the other threads"
    gc.freeze()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "reap" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                _become(request)
                sys.exit(main())
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _become(request: dict[str, Any]) -> None:
    """Put on what a process gets from whoever starts it."""
    for path, flags, numbers in (
        (os.devnull, os.O_RDONLY, (0,)),
        (request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, (1, 2)),
    ):
        opened = os.open(path, flags, 0o666)
        for number in numbers:
            os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv[:] = ["molecule-runtime", *request["arguments"]]
    # The folder of this file is first, as that of a script is.
    sys.path[0:1] = [path for path in request["environ"].get("PYTHONPATH", "").split(os.pathsep) if path]
    importlib.invalidate_caches()


if __name__ == "__main__":
    serve()
