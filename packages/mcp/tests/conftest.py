"""Fixtures: local platforms, scripted platforms, and a place for the state of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.tenants import Http, Tenant, http_server, tenant

from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.mcp.store import InboxStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def acme(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Tenant]:
    async with tenant(tmp_path / "acme") as running:
        yield running


@pytest.fixture
async def globex(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Tenant]:
    async with tenant(tmp_path / "globex") as running:
        yield running


@pytest.fixture
async def pools(anyio_backend: str) -> AsyncGenerator[ConnectionPools]:
    async with ConnectionPools() as opened:
        yield opened


@pytest.fixture
async def scripted(anyio_backend: str) -> AsyncGenerator[Http]:
    """A platform that answers as the test says."""
    async with http_server() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Generator[InboxStore]:
    opened = InboxStore(tmp_path / "state" / "molecule-mcp.db")
    yield opened
    opened.close()
