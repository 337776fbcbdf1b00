"""The server that the suite starts when it is pointed at no other: the command `molecule-local`, as a user runs it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

START_SECONDS = 60.0
STOP_SECONDS = 30.0

_SETTINGS = ("MOLECULE_", "WORKSPACE_", "PLATFORM_", "LOG_")
"""Beginnings of variables that would change what is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A `molecule-local` that answers.

    Attributes:
        log: what it writes to stderr, as it goes on.
    """

    url: str
    admin_token: str
    log: Path


@contextlib.contextmanager
def molecule_local(folder: Path, *arguments: str) -> Generator[Running]:
    """Run `molecule-local up` on an empty folder while the context lasts, and end it as a service manager would.

    Raises:
        AssertionError: it did not start, did not end well, or something in it went wrong unhandled.
    """
    log = folder / "stderr.log"
    command = [sys.executable, "-m", "molecule_runtime.localplatform", "up", "--port", "0", "--json"]
    command += ["--data", str(folder / "data"), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment) as process,
    ):
        try:
            started = json.loads(_first_line(process) or b"null")
            assert started is not None, f"molecule-local did not start: {_text(log)}"
            token = Path(started["admin_token_file"]).read_text(encoding="utf-8").strip()
            yield Running(url=started["url"], admin_token=token, log=log)
        finally:
            process.terminate()
            try:
                code = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert code == 0, f"molecule-local ended with {code}: {_text(log)}"
        assert "Traceback" not in _text(log), _text(log)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the line that says where it listens, or nothing when there is none in time."""
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        return process.stdout.readline()
    finally:
        watchdog.cancel()


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
