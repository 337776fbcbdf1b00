"""The demo's team as a fixture: a real platform, real workspace hosts in processes of their own, all on loopback."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform.client import PlatformClient
from molecule_runtime.core.targets import WorkspaceTarget
from molecule_runtime.core.tokens import TokenFile
from molecule_runtime.localplatform.demo.processes import child, tail
from molecule_runtime.localplatform.demo.team import Seat, environment, host_command, members, seat
from molecule_runtime.localplatform.server import serve
from molecule_runtime.localplatform.settings import LocalSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.localplatform.server import RunningPlatform

ONLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A platform with its lead and specialists at work, and a free seat for an external agent."""

    platform: RunningPlatform
    seats: dict[str, Seat]

    def url_of(self, name: str) -> str:
        return f"http://127.0.0.1:{self.seats[name].port}"

    def id_of(self, name: str) -> str:
        return self.seats[name].workspace_id

    def mcp_environment(self) -> dict[str, str]:
        return environment(self.seats["scout"], platform_url=self.platform.url)

    def client_of(self, name: str, pools: ConnectionPools) -> PlatformClient:
        place = self.seats[name]
        target = WorkspaceTarget(
            id=validate_workspace_id(place.workspace_id),
            token=TokenFile(place.token_file),
            platform_url=self.platform.url,
        )
        return PlatformClient(target, pools)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("team")


@pytest.fixture(scope="module")
async def team(root: Path, anyio_backend: str) -> AsyncGenerator[Team]:
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(serve(LocalSettings(data=root / "platform", port=0)))
        seats = await seat(
            members(None), platform_url=platform.url, admin_token=platform.admin_token, root=root / "seats"
        )
        hosts = [place for place in seats.values() if not place.member.external]
        frames = await stack.enter_async_context(platform.bus.subscribe())
        for place in hosts:
            await stack.enter_async_context(
                child(host_command(), environ=environment(place, platform_url=platform.url), log=place.log)
            )
        waiting = {place.workspace_id for place in hosts}
        try:
            with anyio.fail_after(ONLINE_SECONDS):
                async for frame in frames:
                    if frame.event == "WORKSPACE_ONLINE":
                        waiting.discard(frame.workspace_id)
                    if not waiting:
                        break
        except TimeoutError:
            pytest.fail("\n".join(f"{place.member.name}: {tail(place.log)}" for place in hosts))
        yield Team(platform=platform, seats=seats)


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client
