"""Fixtures of core's tests."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from molecule_runtime.core import env
from molecule_runtime.core.platform.pools import ConnectionPools

from .support import ScriptedPlatform

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours and no proxy leaks from the machine into a test; the home directory is the test's own."""
    for variable in env.ALL:
        monkeypatch.delenv(variable.name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def platform() -> Iterator[ScriptedPlatform]:
    scripted = ScriptedPlatform()
    yield scripted
    scripted.close()


@pytest.fixture
def other_platform() -> Iterator[ScriptedPlatform]:
    scripted = ScriptedPlatform()
    yield scripted
    scripted.close()


@pytest.fixture
async def pools() -> AsyncIterator[ConnectionPools]:
    async with ConnectionPools() as opened:
        yield opened


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Give the test the root logger and put it back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    names = ("httpx", "httpx2", "httpcore", "mcp", "uvicorn", "uvicorn.access")
    noisy = {name: logging.getLogger(name).level for name in names}
    # A server that another test ran in this process may have taken uvicorn's lines for itself.
    kept = {name: logging.getLogger(name).propagate for name in names}
    for name in names:
        logging.getLogger(name).propagate = True
    yield root
    for name, propagated in kept.items():
        logging.getLogger(name).propagate = propagated
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in noisy.items():
        logging.getLogger(name).setLevel(old)
