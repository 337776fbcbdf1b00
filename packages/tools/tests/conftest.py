"""Fixtures: local platforms, scripted servers, and the context that tools run in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.tenants import Http, Tenant, http_server, tenant

from molecule_runtime.core.platform.pools import ConnectionPools

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
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
async def agent(anyio_backend: str) -> AsyncGenerator[Http]:
    """An agent that a platform can reach; the test writes its answers."""
    async with http_server() as running:
        yield running


@pytest.fixture
async def scripted(anyio_backend: str) -> AsyncGenerator[Http]:
    """A platform that misbehaves as the test says."""
    async with http_server() as running:
        yield running
