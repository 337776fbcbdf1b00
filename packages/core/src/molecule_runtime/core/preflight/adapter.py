"""The check of the adapter: it is imported in a process of its own, so that a bad module can neither hang nor change this one."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from molecule_runtime.core import env
from molecule_runtime.core.preflight.local import NO_CONFIG
from molecule_runtime.core.preflight.model import (
    ADAPTER_DEADLINE,
    Check,
    Context,
    Outcome,
    Status,
    fail,
    ok,
    skip,
    warn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_KEPT_OUTPUT = 2000
_PROBE = "molecule_runtime.core.preflight_probe"


def check_adapter(context: Context) -> Iterator[Outcome]:
    """Whether the adapter can be imported and says its name (contract `workspace-host.md` 7)."""
    module = env.ADAPTER_MODULE.get(context.environ)
    runtime = context.config.runtime if context.config is not None else ""
    if not module and not runtime:
        yield skip(NO_CONFIG)
        return
    source = f"ADAPTER_MODULE {module!r}" if module else f"adapter {runtime!r} (runtime in config.yaml)"
    answer, ending, output = probe(module, runtime, context.environ, deadline=context.adapter_deadline)
    if answer is None:
        yield fail(f"{source} {ending}", "look for work at import time", detail=output)
        return
    problem = answer.get("problem")
    if problem:
        if module or answer.get("stage") != "find":
            fix = "run the import by hand to see the traceback, and check PYTHONPATH and the installed packages"
        else:
            fix = "set ADAPTER_MODULE to the module of your adapter, or runtime to an installed adapter"
        yield fail(f"{source}: {problem}", fix, detail=output)
        return
    name = str(answer.get("name"))
    yield ok(f"{source} is {name!r}")
    if runtime and name != runtime:
        yield warn(
            f"the adapter is named {name!r} and config.yaml says runtime {runtime!r}; the adapter wins",
            f"set runtime: {name}",
        )


def probe(
    module: str, runtime: str, environ: Mapping[str, str], *, deadline: float = ADAPTER_DEADLINE
) -> tuple[dict[str, Any] | None, str, str]:
    """Import the adapter in another process.

    Returns:
        What the process reported, or None; how it ended otherwise; the end of what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="molecule-check-") as folder:
        report = Path(folder) / "report.json"
        process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
            # -P: the working directory comes last on the path, as in the host, and never before the standard library.
            [sys.executable, "-P", "-m", _PROBE, str(report), module, runtime],
            env=dict(environ),
            # The probe ends when this pipe does, so that it cannot outlive a checker that was killed.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        tail = _Tail(cast("IO[bytes]", process.stdout))
        timed_out = _wait(process, deadline)
        tail.join(1.0)
        if process.stdin is not None:
            process.stdin.close()
        if timed_out:
            return None, f"was not imported within {deadline:g} s", tail.text()
        with contextlib.suppress(OSError, ValueError):
            answer: object = json.loads(report.read_bytes()[:100_000])
            if isinstance(answer, dict):
                return cast("dict[str, Any]", answer), "", tail.text()
        return None, _ending(process.returncode), tail.text()


def _wait(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait for the end of a process and of everything that it started; tell whether the deadline ended it."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _kill_group(process)

    timer = threading.Timer(deadline, expire)
    timer.daemon = True
    timer.start()
    if hasattr(os, "waitid"):
        # Without reaping it: while the id is taken, the group cannot be anybody else's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        timer.cancel()
        timer.join()
        _kill_group(process)
    process.wait()
    timer.cancel()
    return expired.is_set()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _ending(code: int) -> str:
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = str(-code)
        return f"ended its process with {name} while it was imported"
    return f"ended its process with exit code {code} while it was imported"


class _Tail(threading.Thread):
    """Reads what a process prints and keeps the end, so that it can neither block nor fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(name="molecule-check-output", daemon=True)
        self._stream = stream
        self._kept: collections.deque[int] = collections.deque(maxlen=_KEPT_OUTPUT)
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._stream:
            while chunk := os.read(self._stream.fileno(), 65536):
                self._kept.extend(chunk[-_KEPT_OUTPUT:])

    def text(self) -> str:
        return bytes(self._kept).decode(errors="replace")


ADAPTER_CHECK: Check[Context] = Check(
    id="runtime.adapter", title="Adapter", severity=Status.FAIL, run=check_adapter, deadline=ADAPTER_DEADLINE + 10
)
