"""Fixtures: a platform on a free port, its client, and scripted agents."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.support.migrated import prepare

from molecule_runtime.localplatform import LocalSettings, serve

from .support import Clock, FakeAgent, World, fake_agent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path, clock: Clock) -> LocalSettings:
    # The sweep and the schedules are called by hand where a test needs them.
    return LocalSettings(
        data=tmp_path / "data",
        port=0,
        clock=clock,
        sweep_interval=3600,
        schedule_tick=3600,
        delegation_retry_after=0.01,
    )


@pytest.fixture
async def world(settings: LocalSettings, clock: Clock, anyio_backend: str) -> AsyncGenerator[World]:
    async with opened(settings, clock) as world:
        yield world


@asynccontextmanager
async def opened(settings: LocalSettings, clock: Clock) -> AsyncGenerator[World]:
    """Run a platform whose folder has its tables already."""
    await prepare(settings.data)
    async with serve(settings) as platform, httpx.AsyncClient(base_url=platform.url, trust_env=False) as http:
        yield World(platform, http, clock)


@pytest.fixture
async def agent(anyio_backend: str) -> AsyncGenerator[FakeAgent]:
    async with fake_agent() as running:
        yield running
