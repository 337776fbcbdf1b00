"""A team at work on a platform that runs here: seated, supervised, and at the disposal of the platform's own routes."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.localplatform import timestamps
from molecule_runtime.localplatform.store import workspaces
from molecule_runtime.localplatform.team.reports import Report
from molecule_runtime.localplatform.team.seating import Office, Seated, take_seats
from molecule_runtime.localplatform.team.seats import Address
from molecule_runtime.localplatform.team.supervisor import Pace, Setting, Supervisor
from molecule_runtime.localplatform.team.watch import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from molecule_runtime.localplatform.server import RunningPlatform
    from molecule_runtime.localplatform.team.members import Team
    from molecule_runtime.localplatform.team.reports import Tell
    from molecule_runtime.localplatform.team.supervisor import Down

logger = logging.getLogger(__name__)

_ALIVE = ("online", "degraded")
_FAILING = (*_ALIVE, "provisioning", "offline", "awaiting_agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Staffing:
    """How a team is put to work.

    Attributes:
        prune: remove the workspaces of members that are not in the team any more.
    """

    prune: bool = False
    pace: Pace = field(default_factory=Pace)


@asynccontextmanager
async def staffed(platform: RunningPlatform, team: Team, tell: Tell, staffing: Staffing) -> AsyncGenerator[None]:
    """Have a team at work for the length of the block, which begins at once: the platform does not depend on the team's health."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_work, platform, team, tell, staffing)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _work(platform: RunningPlatform, team: Team, tell: Tell, staffing: Staffing) -> None:
    """Work until cancelled. Whatever goes wrong is told: it ends the team, not the platform."""
    try:
        seated = await take_seats(team, office_of(platform), tell, prune=staffing.prune)
        tell(roll_call(team, seated))
        async with Watch.open() as watch, at_work(platform, seated, tell, watch, staffing.pace):
            await anyio.sleep_forever()
    except (MoleculeError, OSError) as exc:
        tell(Report(kind="failed", text=f"the team cannot be run: {exc}", details={"reason": str(exc)}))
    except Exception as exc:
        logger.exception("the team cannot be run")
        tell(Report(kind="failed", text=f"the team cannot be run ({type(exc).__name__}); the log says more"))


@asynccontextmanager
async def at_work(
    platform: RunningPlatform, seated: Seated, tell: Tell, watch: Watch, pace: Pace
) -> AsyncGenerator[Supervisor]:
    """Run the processes of a seated team for the length of the block, under the orders of the platform's routes."""

    async def down(workspace_id: str, status: Down) -> None:
        await _mark(platform, workspace_id, status)

    async def nobody_runs() -> None:
        for seat in seated.seats.values():
            if not seat.member.external:
                await _mark(platform, seat.workspace_id, "offline")

    setting = Setting(address=address_of(platform), tell=tell, down=down, pace=pace)
    # A platform that was killed left rows that say otherwise.
    await nobody_runs()
    try:
        async with Supervisor.open(
            seated.seats.values(), bus=platform.bus, watch=watch, setting=setting, resting=seated.resting
        ) as supervisor:
            platform.hosting.attach(supervisor)
            try:
                yield supervisor
            finally:
                platform.hosting.attach(None)
    finally:
        with anyio.CancelScope(shield=True):
            await nobody_runs()


def address_of(platform: RunningPlatform) -> Address:
    """Return where members reach a platform."""
    return Address(url=platform.url, org_id=platform.settings.org_id)


def office_of(platform: RunningPlatform) -> Office:
    """Return what it takes to seat a team on a platform."""
    return Office(address=address_of(platform), data=platform.settings.data, admin_token=platform.admin_token)


def roll_call(team: Team, seated: Seated) -> Report:
    """Say who is on the team."""
    external = [name for name, seat in seated.seats.items() if seat.member.external]
    here = len(seated.seats) - len(external)
    text = f"team {team.name}: {here} to run here"
    if external:
        text += f", {len(external)} from elsewhere: {', '.join(external)} (`molecule-local connect NAME` says how)"
    members = {
        name: {
            "workspace_id": seat.workspace_id,
            "parent": seat.member.parent,
            "external": seat.member.external,
            "folder": str(seat.folder),
        }
        for name, seat in seated.seats.items()
    }
    return Report(kind="team", text=text, details={"name": team.name, "members": members})


async def _mark(platform: RunningPlatform, workspace_id: str, status: Down) -> None:
    """Show the end of a process in the row of its workspace; one that is paused or removed keeps its status."""
    now = timestamps.from_seconds(platform.settings.clock())
    before = _FAILING if status == "failed" else _ALIVE
    if await platform.store.write(workspaces.move, workspace_id, before=before, to=status, now=now):
        event = "WORKSPACE_PROVISION_FAILED" if status == "failed" else "WORKSPACE_OFFLINE"
        platform.bus.publish(event, workspace_id, {"reason": "its process ended"})
