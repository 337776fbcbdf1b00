"""Our commands as processes of their own: a `molecule-local` and hosts, started, killed and started again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.support.warm import WarmProcess, open_process, start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from anyio.abc import Process

DEADLINE = 90.0


def free_port() -> int:
    """Return a port that stays free while its host is down: below those that the system gives to outgoing connections."""
    while True:
        with socket.socket() as sock, contextlib.suppress(OSError):
            port = random.randrange(20_000, 32_000)  # noqa: S311 - not a secret
            sock.bind(("127.0.0.1", port))
            return port


@asynccontextmanager
async def molecule_local(folder: Path, *arguments: str) -> AsyncGenerator[tuple[Process, httpx.AsyncClient]]:
    """Run a platform on a folder that may have served before, and yield its process and a client with the admin token."""
    command = ("up", "--port", "0", "--data", str(folder), "--json", *arguments)
    process = await open_process(
        "molecule-local", command, environ=os.environ, stdin=subprocess.DEVNULL, stderr=sys.__stderr__
    )
    try:
        assert process.stdout is not None
        with anyio.fail_after(DEADLINE):
            started = json.loads(await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 65536))
        token = (await anyio.Path(started["admin_token_file"]).read_text(encoding="utf-8")).strip()
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(
            base_url=started["url"], headers=headers, trust_env=False, timeout=DEADLINE
        ) as admin:
            yield process, admin
    finally:
        process.kill()
        await process.aclose()


@asynccontextmanager
async def molecule_runtime(folder: Path, environ: Mapping[str, str]) -> AsyncGenerator[WarmProcess]:
    """Run a host whose adapter, home and log (`stderr.txt`, which grows with each start) are in a folder."""
    complete = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(folder), **environ}
    process = start("molecule-runtime", environ=complete, folder=folder, log=folder / "stderr.txt")
    try:
        yield process
    finally:
        process.kill()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(process.wait)


async def ended(process: WarmProcess) -> int:
    """Wait for the end of a host and return its exit code."""
    with anyio.fail_after(DEADLINE):
        return await anyio.to_thread.run_sync(process.wait, abandon_on_cancel=True)
