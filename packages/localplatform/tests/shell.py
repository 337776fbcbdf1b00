"""Runs `molecule-local` against a platform that runs in the test.

What goes on, is stopped or is looked at from outside is a process of its own (`started`), forked from one that has imported it already.
What is run to its end (`ran`) is the same `main()`, in this process. `test_cli.py` runs the commands as processes that start from nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.support.in_process import run_main
from tests.support.warm import open_process

from molecule_runtime.localplatform import cli

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from anyio.abc import Process

    from .support import World

SECONDS = 30.0
COMMAND = [sys.executable, "-W", "error", "-m", "molecule_runtime.localplatform"]


def environment(data: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(data.parent),
        "MOLECULE_LOCAL_DATA": str(data),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "200",
        **more,
    }


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON on stdout."""
        assert (self.code, self.err) == (0, ""), self
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """The text on stdout of a command that did what it was asked."""
        assert self.code == 0, self
        return self.out


class Running:
    """A process that runs, read line by line."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self._out = BufferedByteReceiveStream(process.stdout)
        self._err = BufferedByteReceiveStream(process.stderr)

    async def out_line(self) -> str:
        return await self._line(self._out)

    async def err_line(self) -> str:
        return await self._line(self._err)

    async def out_with(self, text: str) -> str:
        """Read stdout up to a line that holds a text."""
        while text not in (line := await self.out_line()):
            pass
        return line

    async def finish(self) -> Done:
        """Wait for the end; returns what was not read yet."""
        with anyio.fail_after(SECONDS):
            out, err = await _rest(self._out), await _rest(self._err)
            return Done(await self.process.wait(), out, err)

    async def _line(self, stream: BufferedByteReceiveStream) -> str:
        with anyio.fail_after(SECONDS):
            return (await stream.receive_until(b"\n", 1_000_000)).decode() + "\n"


async def _rest(stream: BufferedByteReceiveStream) -> str:
    data = stream.buffer
    try:
        while True:
            data += await stream.receive_stream.receive()
    except (anyio.EndOfStream, anyio.ClosedResourceError):
        return data.decode()


@asynccontextmanager
async def started(data: Path, *arguments: str, **environ: str) -> AsyncGenerator[Running]:
    """Run a command that goes on, and end it with the block."""
    strict = environment(data, PYTHONWARNINGS="error", **environ)
    process = await open_process("molecule-local", arguments, environ=strict, stdin=subprocess.DEVNULL)
    async with process:
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()


async def ran(data: Path, *arguments: str, stdin: bytes = b"", **environ: str) -> Done:
    """Run a command to its end, in this process."""
    call = partial(run_main, cli.main, *arguments, environ=environment(data, **environ), stdin=stdin)
    with anyio.fail_after(SECONDS):
        done = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Shell:
    """A terminal on the machine of a platform."""

    world: World

    @property
    def folder(self) -> Path:
        return self.world.platform.settings.data

    async def run(self, *arguments: str, stdin: bytes = b"", **environ: str) -> Done:
        """Run a command to its end, in this process."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        options = ("--url", self.world.platform.url)
        return await ran(self.folder, *arguments[:end], *options, *arguments[end:], stdin=stdin, **environ)

    @asynccontextmanager
    async def start(self, *arguments: str, **environ: str) -> AsyncGenerator[Running]:
        """Run a command that goes on, and end it with the block."""
        async with started(self.folder, *arguments, "--url", self.world.platform.url, **environ) as running:
            yield running
