"""Keeps a team's processes running: starts them, sees them come online, runs them anew when they end, and ends them all."""

from __future__ import annotations

import math
import random
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio

from molecule_runtime.localplatform.errors import TeamError
from molecule_runtime.localplatform.team import seats
from molecule_runtime.localplatform.team.processes import STOP_SECONDS, child
from molecule_runtime.localplatform.team.reports import Report, without_secrets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from molecule_runtime.localplatform.events import EventBus, Subscription
    from molecule_runtime.localplatform.team.processes import Child
    from molecule_runtime.localplatform.team.reports import Kind, Tell
    from molecule_runtime.localplatform.team.seats import Address, Seat
    from molecule_runtime.localplatform.team.watch import Watch

Down = Literal["offline", "failed"]

State = Literal["stopped", "starting", "online", "waiting", "ended", "given_up"]
"""stopped: by order; waiting: for its next start; ended: by itself, and its rule says to leave it; given_up: it failed too often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long things may take, in seconds.

    Attributes:
        first: the pause before the first restart; each further one is twice as long.
        cap: the longest pause.
        jitter: by how much of itself a pause may be longer, so that members that fail together do not start together.
        healthy: after being online so long, a process that ends is no quick failure, and pauses begin anew.
        online: after so long without coming online, that is said.
        stop: between SIGTERM and SIGKILL.
    """

    first: float = 1.0
    cap: float = 60.0
    jitter: float = 0.5
    healthy: float = 60.0
    online: float = 60.0
    stop: float = STOP_SECONDS

    def pause(self, failures: int) -> float:
        """Return the pause after so many failures in a row."""
        doubled = math.ldexp(self.first, min(failures - 1, 32))
        return min(self.cap, doubled * (1 + random.random() * self.jitter))  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the members have in common.

    Attributes:
        address: of the platform.
        tell: learns what happens.
        down: marks a workspace whose process ended.
    """

    address: Address
    tell: Tell
    down: Callable[[str, Down], Awaitable[None]]
    pace: Pace = field(default_factory=Pace)


class Supervisor:
    """Runs the processes of a team; the `Provisioner` of the workspaces that have a seat here."""

    def __init__(self, workers: Iterable[_Worker], setting: Setting) -> None:
        self._workers = {worker.workspace_id: worker for worker in workers}
        self._setting = setting
        self._ready = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, team: Iterable[Seat], *, bus: EventBus, watch: Watch, setting: Setting, resting: Collection[str] = ()
    ) -> AsyncGenerator[Supervisor]:
        """Run the members that have a process, in this order, for the length of the block; those that are `resting` wait for an order."""
        async with bus.subscribe() as frames:
            workers = [_Worker(seat, setting, watch) for seat in team if not seat.member.external]
            supervisor = cls(workers, setting)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(supervisor._follow, frames)
                for worker in workers:
                    if worker.name in resting:
                        worker.rest()
                tasks.start_soon(_begin, workers, tasks)
                try:
                    yield supervisor
                finally:
                    tasks.cancel_scope.cancel()

    @property
    def states(self) -> dict[str, State]:
        """How each member is, by name."""
        return {worker.name: worker.state for worker in self._workers.values()}

    def knows(self, workspace_id: str) -> bool:
        """Tell whether it runs this workspace."""
        return workspace_id in self._workers

    def folder(self, workspace_id: str) -> Path:
        """Return the folder of the member's configuration."""
        return self._workers[workspace_id].folder

    async def start(self, workspace_id: str) -> None:
        """Run the process, if it does not run."""
        self._workers[workspace_id].order("start")

    async def stop(self, workspace_id: str) -> None:
        """End the process and leave it ended."""
        self._workers[workspace_id].order("stop")

    async def restart(self, workspace_id: str) -> None:
        """End the process, if it runs, and run it anew."""
        self._workers[workspace_id].order("restart")

    async def _follow(self, frames: Subscription) -> None:
        async for frame in frames:
            worker = self._workers.get(frame.workspace_id)
            if worker is None:
                continue
            if frame.event == "WORKSPACE_ONLINE":
                worker.came_online()
                self._say_when_ready()
            elif frame.event == "WORKSPACE_REMOVED":
                # A host whose workspace is gone could only be refused.
                worker.order("stop")

    def _say_when_ready(self) -> None:
        wanted = [worker for worker in self._workers.values() if worker.state != "stopped"]
        if not self._ready and all(worker.state == "online" for worker in wanted):
            self._ready = True
            who = "1 member" if len(wanted) == 1 else f"{len(wanted)} members"
            self._setting.tell(
                Report(kind="ready", text=f"the team is online ({who})", details={"members": len(wanted)})
            )


async def _begin(workers: Iterable[_Worker], tasks: TaskGroup) -> None:
    """Start one after the other, without waiting for any to be online."""
    for worker in workers:
        tasks.start_soon(worker.run)
        await worker.begun.wait()


class _Worker:
    """Runs one member's process, life after life."""

    def __init__(self, seat: Seat, setting: Setting, watch: Watch) -> None:
        self.state: State = "starting"
        self.begun = anyio.Event()
        """Its first start is behind it, however that went."""
        self._seat = seat
        self._setting = setting
        self._watch = watch
        self._wanted = True
        self._ordered = anyio.Event()
        self._failures = 0
        self._pid = 0
        self._online = anyio.Event()
        self._online_at = 0.0

    @property
    def name(self) -> str:
        return self._seat.member.name

    @property
    def workspace_id(self) -> str:
        return self._seat.workspace_id

    @property
    def folder(self) -> Path:
        return self._seat.folder

    def rest(self) -> None:
        """Wait for an order before the first life."""
        self._wanted = False
        self.begun.set()
        self.state = "stopped"
        self._tell("paused", f"is paused, so it is not started; POST /workspaces/{self.workspace_id}/resume starts it")

    def order(self, what: Literal["start", "stop", "restart"]) -> None:
        """Take an order."""
        running = self.state in {"starting", "online"}
        self._wanted = what != "stop"
        if what != "stop":
            # Whoever gives the order may have mended what made it fail.
            self._failures = 0
        if not (what == "start" and running):
            self._ordered.set()

    def came_online(self) -> None:
        """Note that the platform heard from it."""
        if self.state != "starting" or not self._pid:
            return
        self.state = "online"
        self._online_at = time.monotonic()
        self._online.set()
        self._tell("online", f"is online (pid {self._pid}, port {self._seat.port})", port=self._seat.port)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            pause = await self._life() if self._wanted else math.inf
            with anyio.move_on_after(pause):
                await self._ordered.wait()
            if self._ordered.is_set():
                self._ordered = anyio.Event()
            if not self._wanted and self.state == "waiting":
                self.state = "stopped"

    async def _life(self) -> float:
        """Run the process once; returns the pause before the next time."""
        self.state = "starting"
        self._online = anyio.Event()
        began = time.monotonic()
        try:
            await self._take_port()
            code, said = await self._run_process()
        except (OSError, TeamError) as exc:
            code, said = None, str(exc)
        self.begun.set()
        self._pid = 0
        if code is None and self._ordered.is_set():
            return self._after_order()
        return await self._after_end(code, said, seconds=time.monotonic() - began)

    def _after_order(self) -> float:
        self.state = "waiting" if self._wanted else "stopped"
        self._tell("stopped", "was stopped, to be started anew" if self._wanted else "was stopped")
        return 0.0

    async def _after_end(self, code: int | None, said: str, *, seconds: float) -> float:
        rule = self._seat.member.restart
        said = without_secrets(said, self._seat.member.environ.values())
        what = f"could not be started: {said}" if code is None else f"{_ending(code)} after {seconds:.1f} s"
        again = rule.policy == "always" or (rule.policy == "on-failure" and code != 0)
        if self._online.is_set() and time.monotonic() - self._online_at >= self._setting.pace.healthy:
            self._failures = 0
        self._failures += 1
        details: dict[str, Any] = {"code": code, "log": str(self._seat.log), "tail": said}
        if again and self._failures < rule.attempts:
            self.state = "waiting"
            pause = self._setting.pace.pause(self._failures)
            self._tell("ended", f"{what}; it is started again in {pause:.1f} s", pause=round(pause, 3), **details)
            await self._setting.down(self.workspace_id, "offline")
            return pause
        # An order that came in the meantime stands.
        self._wanted = self._wanted and self._ordered.is_set()
        if again:
            self.state = "given_up"
            times = "" if self._failures == 1 else f", {self._failures} times in a row"
            log = "" if code is None else f" The end of its log, {self._seat.log}:\n{said}"
            self._tell("given_up", f"{what}{times}; it is given up until it is restarted.{log}", **details)
        else:
            self.state = "ended"
            self._tell("ended", what, pause=None, **details)
        await self._setting.down(self.workspace_id, "failed" if again else "offline")
        return 0.0

    async def _take_port(self) -> None:
        """Make sure of a port: what another program has taken meanwhile would only make the host fail."""
        port = self._seat.port
        if await anyio.to_thread.run_sync(seats.is_free, port):
            return
        if self._seat.member.port:
            raise TeamError(
                f"port {port} is taken by another program; stop that one, or write another port in the seed"
            )
        port = await anyio.to_thread.run_sync(seats.choose_port, self._seat.member, 0, (port,))
        self._seat = replace(self._seat, port=port)
        await anyio.to_thread.run_sync(seats.write_config, self._seat)

    async def _run_process(self) -> tuple[int | None, str]:
        """Return the exit code, or None when it was ended by order, and the end of what it wrote."""
        seat = self._seat
        async with child(
            seats.command(seat.member),
            environ=seats.environment(seat, self._setting.address),
            log=seat.log,
            folder=seat.folder,
            watch=self._watch,
            stop_seconds=self._setting.pace.stop,
        ) as process:
            self._pid = process.pid
            self._tell("starting", f"starts (pid {process.pid})")
            self.begun.set()
            code = await self._until_end_or_order(process)
        return code, process.tail

    async def _until_end_or_order(self, process: Child) -> int | None:
        code: int | None = None

        async def end() -> None:
            nonlocal code
            code = await process.wait()
            tasks.cancel_scope.cancel()

        async def order() -> None:
            await self._ordered.wait()
            tasks.cancel_scope.cancel()

        async def lateness() -> None:
            with anyio.move_on_after(self._setting.pace.online):
                await self._online.wait()
                return
            tail = without_secrets(process.tail, self._seat.member.environ.values())
            text = f"is not online after {self._setting.pace.online:.0f} s; its log is {self._seat.log}"
            self._tell("late", text, log=str(self._seat.log), tail=tail)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            tasks.start_soon(order)
            tasks.start_soon(lateness)
        return code

    def _tell(self, kind: Kind, text: str, **details: Any) -> None:
        about = {"workspace_id": self.workspace_id, **({"pid": self._pid} if self._pid else {})}
        self._setting.tell(Report(kind=kind, member=self.name, text=text, details={**about, **details}))


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
