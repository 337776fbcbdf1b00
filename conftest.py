"""What holds for the whole suite: byte code is kept, what everything imports is compiled once, and certificates are read once.

Container images like to set PYTHONDONTWRITEBYTECODE. With it, each of the workers rewrites the assertions of every test file anew, and
each of the some hundred processes that tests start compiles whatever it imports: half of the suite's processor time.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_HEAVY = (
    "mcp, mcp.server.mcpserver, molecule_runtime.mcp.stdio",
    "a2a.client, langchain_core.tools, langgraph.graph, molecule_runtime.a2a.boot, molecule_runtime.localplatform.server",
)
"""Most of what the tests import, in halves that take about as long."""

_COMPILE_SECONDS = 120.0


@pytest.hookimpl(optionalhook=True)  # pytest may run without xdist
def pytest_xdist_setupnodes() -> None:
    """Compile the heaviest imports in a fresh environment: the workers begin together, and each would compile all of them."""
    if _is_compiled("mcp") and _is_compiled("a2a"):
        return
    importing = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", f"import {names}"], stderr=subprocess.DEVNULL)  # noqa: S603 - ours
        for names in _HEAVY
    ]
    for process in importing:
        try:
            # What cannot be imported here says so where it is tested.
            process.wait(_COMPILE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_compiled(package: str) -> bool:
    found = importlib.util.find_spec(package)
    return found is None or found.origin is None or Path(importlib.util.cache_from_source(found.origin)).exists()


@pytest.fixture(scope="session", autouse=True)
def certificates_are_read_once() -> Generator[None]:
    """Each HTTP client of the tests reads those of all authorities otherwise: more work than most tests, and nothing here is encrypted."""
    with mock.patch.object(ssl, "create_default_context", functools.cache(ssl.create_default_context)):
        yield
