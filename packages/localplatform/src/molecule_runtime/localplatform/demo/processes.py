"""The demo's child processes: started in groups of their own, logged to files, always ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import Process

TERMINATE_SECONDS = 5.0
"""How long a child may take to stop after SIGTERM."""

_TAIL_BYTES = 2000


@asynccontextmanager
async def child(
    command: Sequence[str], *, environ: Mapping[str, str], log: Path, piped: bool = False
) -> AsyncGenerator[Process]:
    """Run a command for the length of the block; its stderr (and stdout, unless piped) goes to `log`.

    It gets a session of its own, so that a Ctrl-C reaches the demo alone, which then ends its children in order.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = await anyio.open_process(
            command,
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else descriptor,
            stderr=descriptor,
            env=dict(environ),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)


def tail(log: Path) -> str:
    """Return the end of a log, for a message about what went wrong."""
    try:
        data = log.read_bytes()[-_TAIL_BYTES:]
    except OSError:
        return ""
    return data.decode(errors="replace").strip()


async def _end(process: Process) -> None:
    if process.stdin is not None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            await process.stdin.aclose()
    for number, seconds in ((signal.SIGTERM, TERMINATE_SECONDS), (signal.SIGKILL, TERMINATE_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with anyio.move_on_after(seconds):
            await process.wait()
            break
    if process.stdout is not None:
        await process.stdout.aclose()
