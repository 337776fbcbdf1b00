"""One `molecule-mcp --transport http` of a real local platform for the whole folder; what is missing on a machine skips, and is said."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.conformance.mcp import install
from tests.support.mcp_over_http import Served, served
from tests.support.tenants import Member, Tenant, tenant

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


# Not wider than a module: what is asynchronous holds an event loop, and tests that begin their own could not run behind it.
@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def node() -> Path:
    """Node, with the packages of `package-lock.json` installed."""
    if (lacking := install.missing()) is not None:
        pytest.skip(lacking)
    found = install.node()
    assert found is not None
    return found[0]


@pytest.fixture(scope="session")
def packages(node: Path) -> Path:
    return install.folder() / "node_modules"


@pytest.fixture(scope="module")
async def acme(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncGenerator[Tenant]:
    async with tenant(tmp_path_factory.mktemp("acme")) as running:
        yield running


@pytest.fixture(scope="module")
async def ours(acme: Tenant) -> Member:
    _, member = await acme.family()
    return member


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory, acme: Tenant, ours: Member) -> dict[str, str]:
    """The environment of a process for our workspace; nothing of that of the tests gets in."""
    home = tmp_path_factory.mktemp("home")
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "CONFIGS_DIR": str(home / "state"),
        "PYTHONWARNINGS": "error",
        "WORKSPACE_ID": ours.id,
        "PLATFORM_URL": acme.url,
        "MOLECULE_WORKSPACE_TOKEN": ours.token,
    }


@pytest.fixture(scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str], anyio_backend: str
) -> AsyncGenerator[Served]:
    log = tmp_path_factory.mktemp("log") / "stderr"
    async with served(environ, log) as running:
        yield running
        assert await running.stop() == 0, log.read_text(encoding="utf-8")
