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
from molecule_runtime.localplatform.demo.team import team as demo_team
from molecule_runtime.localplatform.server import serve
from molecule_runtime.localplatform.settings import LocalSettings
from molecule_runtime.localplatform.team.logfile import tail
from molecule_runtime.localplatform.team.seating import take_seats
from molecule_runtime.localplatform.team.seats import environment
from molecule_runtime.localplatform.team.staffing import address_of, at_work, office_of
from molecule_runtime.localplatform.team.supervisor import Pace
from molecule_runtime.localplatform.team.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from molecule_runtime.core.platform.pools import ConnectionPools
    from molecule_runtime.localplatform.server import RunningPlatform
    from molecule_runtime.localplatform.team.reports import Report
    from molecule_runtime.localplatform.team.seats import Seat

ONLINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A platform with its lead and specialists at work, and a free seat for an external agent."""

    platform: RunningPlatform
    seats: Mapping[str, Seat]

    def url_of(self, name: str) -> str:
        return f"http://127.0.0.1:{self.seats[name].port}"

    def id_of(self, name: str) -> str:
        return self.seats[name].workspace_id

    def mcp_environment(self) -> dict[str, str]:
        return environment(self.seats["scout"], address_of(self.platform))

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
    waiting = {"lead", "calc", "atlas"}
    all_online = anyio.Event()

    def tell(report: Report) -> None:
        if report.kind == "online":
            waiting.discard(report.member)
        if not waiting:
            all_online.set()

    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(serve(LocalSettings(data=root / "platform", port=0)))
        seated = await take_seats(demo_team(None), office_of(platform), tell)
        watch = await stack.enter_async_context(Watch.open())
        await stack.enter_async_context(at_work(platform, seated, tell, watch, Pace(stop=5)))
        try:
            with anyio.fail_after(ONLINE_SECONDS):
                await all_online.wait()
        except TimeoutError:
            pytest.fail("\n".join(f"{name}: {tail(seated.seats[name].log)}" for name in sorted(waiting)))
        yield Team(platform=platform, seats=seated.seats)


@pytest.fixture
async def http() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client
