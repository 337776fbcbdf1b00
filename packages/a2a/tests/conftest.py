"""Fixtures: a fake platform on a free port, and workspaces on disk. What they are made of is in `support.py`."""

from __future__ import annotations

import importlib
import sys
import textwrap
from typing import TYPE_CHECKING

import anyio
import pytest

from molecule_runtime.a2a.server import HostServer, bind

from .support import ECHO, FakePlatform, Workspace, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def platform() -> AsyncGenerator[FakePlatform, None]:
    sock = bind("127.0.0.1", 0)
    fake = FakePlatform(port=sock.getsockname()[1])
    server = HostServer(fake.app(), graceful=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [sock])
        await server.listening()
        try:
            yield fake
        finally:
            # A host that a failed test left behind may hang at a gate.
            for event in fake.opened.values():
                event.set()
            server.should_exit = True


@pytest.fixture
def make_workspace(tmp_path: Path, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workspace]:
    """Return a function that writes a workspace's files: `make(adapter_source, config_text)`."""
    count = 0

    def make(source: str = ECHO, config: str = "") -> Workspace:
        nonlocal count
        count += 1
        root = tmp_path / f"workspace-{count}"
        (root / "configs").mkdir(parents=True)
        # A module name is imported once per process, so each has its own.
        name = f"adapter_{tmp_path.name.replace('-', '_')}_{count}" if source else ""
        if source:
            (root / f"{name}.py").write_text(textwrap.dedent(source))
            monkeypatch.setattr(sys, "path", [str(root), *sys.path])
            importlib.invalidate_caches()
        port = free_port()
        (root / "configs" / "config.yaml").write_text(f"a2a:\n  port: {port}\n{textwrap.dedent(config)}")
        return Workspace(root, port, platform.url, name)

    return make
