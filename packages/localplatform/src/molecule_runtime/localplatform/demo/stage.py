"""Puts the demo on: the platform, the team's processes, and the narration of what the platform sees."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.localplatform import clients
from molecule_runtime.localplatform.clients import Place
from molecule_runtime.localplatform.demo.driver import driven_mcp
from molecule_runtime.localplatform.demo.scenario import ExternalAgent, Human, script_for
from molecule_runtime.localplatform.demo.team import team
from molecule_runtime.localplatform.errors import DemoError
from molecule_runtime.localplatform.server import serve
from molecule_runtime.localplatform.settings import LocalSettings
from molecule_runtime.localplatform.team.logfile import tail
from molecule_runtime.localplatform.team.seating import take_seats
from molecule_runtime.localplatform.team.seats import environment
from molecule_runtime.localplatform.team.staffing import at_work, office_of
from molecule_runtime.localplatform.team.supervisor import Pace
from molecule_runtime.localplatform.team.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from molecule_runtime.localplatform.demo.narrator import Narrator
    from molecule_runtime.localplatform.events import Frame, Subscription
    from molecule_runtime.localplatform.team.reports import Report
    from molecule_runtime.localplatform.team.seats import Seat

_STOP_SECONDS = 5.0
"""What a host gets to stop: nobody waits for its answers any more."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the demo was asked to do.

    Attributes:
        port: of the platform; 0 for a free one.
        data: folder to keep; None for a temporary one.
        csv: a table of the user's own.
        question: what to ask about the table.
        once: stop when everything is done.
        seconds: how long one step may take.
    """

    port: int = 0
    data: Path | None = None
    csv: Path | None = None
    question: str | None = None
    once: bool = False
    seconds: float = 60.0


async def perform(options: DemoOptions, narrator: Narrator) -> None:
    """Run the demo to its end; without `once` it then stays up until cancelled.

    Raises:
        DemoError: something failed, with the reason.
        ConfigurationError: the port is taken or the folder cannot be used.
    """
    async with AsyncExitStack() as stack:
        root = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="molecule-demo-")))
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as exc:
            raise ConfigurationError(
                f"--data {str(root)!r} cannot be used: {exc.strerror or exc}; name a folder that you may write to"
            ) from None
        platform = await stack.enter_async_context(serve(LocalSettings(data=root / "platform", port=options.port)))
        narrator.event("platform_up", "platform", f"listens on {platform.url}", url=platform.url)
        crew = _Crew(narrator)
        office = replace(office_of(platform), data=root)
        seated = await take_seats(team(options.csv), office, crew.tell)
        seats = seated.seats
        narrator.event(
            "team",
            "platform",
            "team of lead, with calc, atlas and scout below it",
            members={
                name: {"workspace_id": seat.workspace_id, "role": seat.member.role} for name, seat in seats.items()
            },
        )
        frames = await stack.enter_async_context(platform.bus.subscribe())
        audience = _Audience(narrator, seats)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(audience.narrate, frames)
        watch = await stack.enter_async_context(Watch.open())
        await stack.enter_async_context(at_work(platform, seated, crew.tell, watch, Pace(stop=_STOP_SECONDS)))
        # Entered last, so left first: the end of the processes is not part of the show.
        stack.callback(tasks.cancel_scope.cancel)
        # The seat of the external agent is free again after the script, for the user's own client.
        scout = seats["scout"]
        async with driven_mcp(environment(scout, office.address), scout.log, watch) as driver:
            await crew.unless_a_host_ends(_until_ready(audience, seats, options.seconds))
            await driver.ready(options.seconds)
            narrator.event(
                "mcp_ready", "scout", f"molecule-mcp serves {len(driver.tools)} tools", tools=len(driver.tools)
            )
            human = Human(platform_url=platform.url, admin_token=platform.admin_token)
            agent = ExternalAgent(driver, human, narrator, seats, seconds=options.seconds)
            steps = await crew.unless_a_host_ends(agent.perform(script_for(options.csv, options.question)))
        audience.check()
        crew.show_over()
        _finish(narrator, scout, platform.url, steps=steps, messages=audience.messages, once=options.once)
        if not options.once:
            await anyio.sleep_forever()


class _Crew:
    """The host processes, as far as the demo must know of them: that one ended."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._ended: list[Report] = []
        self._an_end = anyio.Event()
        self._on = True

    def tell(self, report: Report) -> None:
        """Take the supervisor's reports."""
        if report.kind != "ended":
            return
        if self._on:
            self._ended.append(report)
            self._an_end.set()
        else:
            # Whoever plays with the team would wait for its answers in vain.
            self._narrator.event(
                "host_ended",
                report.member,
                f"its host {report.text}:\n{report.details['tail']}",
                code=report.details["code"],
                log=report.details["log"],
            )

    def show_over(self) -> None:
        """From now on, show when a host ends: there is nothing more that fails because of it."""
        self._on = False

    async def unless_a_host_ends(self, work: Coroutine[Any, Any, T]) -> T:
        """Await `work`, or fail at once when a host process ends: waiting for its answers would only time out."""
        result: list[T] = []
        failure: DemoError | None = None

        async def watch() -> None:
            nonlocal failure
            await self._an_end.wait()
            report = self._ended[0]
            failure = DemoError(f"the host of {report.member} {report.text}:\n{report.details['tail']}")
            group.cancel_scope.cancel()

        async def run() -> None:
            nonlocal failure
            try:
                result.append(await work)
            except DemoError as exc:
                failure = exc
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            group.start_soon(run)
        if failure is not None:
            raise failure
        return result[0]


class _Audience:
    """Follows the platform's events: shows the messages and knows who is online."""

    def __init__(self, narrator: Narrator, seats: Mapping[str, Seat]) -> None:
        self._narrator = narrator
        self._names = {place.workspace_id: name for name, place in seats.items()}
        self._missing = set(seats)
        self._frames: Subscription | None = None
        self.all_online = anyio.Event()
        self.messages = 0

    @property
    def missing(self) -> list[str]:
        """Who has not come online yet."""
        return sorted(self._missing)

    def check(self) -> None:
        """Refuse to end well when the narration lost events."""
        if self._frames is not None and self._frames.dropped:
            raise DemoError(f"{self._frames.dropped} events of the platform were lost")

    async def narrate(self, frames: Subscription) -> None:
        """Show frames until cancelled."""
        self._frames = frames
        async for frame in frames:
            self._show(frame)

    def _show(self, frame: Frame) -> None:
        payload = frame.payload
        match frame.event:
            case "WORKSPACE_ONLINE":
                name = self._names.get(frame.workspace_id, frame.workspace_id)
                if name in self._missing:
                    self._missing.discard(name)
                    self._narrator.event("online", name, "is online", workspace_id=frame.workspace_id)
                    if not self._missing:
                        self.all_online.set()
            case "A2A_SENT":
                self.messages += 1
                self._narrator.message(
                    self._name(payload.get("source_id")), self._name(payload.get("target_id")), _text(payload)
                )
            case "A2A_ANSWERED":
                self.messages += 1
                took = payload.get("duration_ms")
                self._narrator.answer(
                    self._name(payload.get("source_id")),
                    self._name(payload.get("target_id")),
                    _text(payload),
                    milliseconds=took if isinstance(took, int) else None,
                    status=payload.get("status"),
                )
            case "AGENT_MESSAGE":
                self.messages += 1
                self._narrator.message(self._name(frame.workspace_id), "you", str(payload.get("message", "")))
            case _:
                self._narrator.data("platform_event", kind=frame.event, workspace_id=frame.workspace_id)

    def _name(self, workspace_id: object) -> str:
        return self._names.get(str(workspace_id), "you" if workspace_id is None else str(workspace_id))


def _text(payload: Mapping[str, Any]) -> str:
    return str(payload.get("text") or "")


async def _until_ready(audience: _Audience, seats: Mapping[str, Seat], seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await audience.all_online.wait()
        return
    names = audience.missing
    logs = "\n".join(f"--- {name}:\n{tail(seats[name].log)}" for name in names)
    raise DemoError(f"{', '.join(names)} did not come online within {seconds:.0f} s\n{logs}")


def _finish(narrator: Narrator, scout: Seat, url: str, *, steps: int, messages: int, once: bool) -> None:
    narrator.title("")
    narrator.event(
        "done",
        "platform",
        f"done: {steps} steps, {messages} messages, every answer checked",
        steps=steps,
        messages=messages,
        ok=True,
    )
    narrator.title("Take the seat of scout with your own agent")
    place = Place(
        workspace_id=scout.workspace_id,
        agent=scout.member.name,
        platform_url=url,
        token_file=scout.token_file,
        folder=scout.folder,
    )
    narrator.block("mcp_config", "Claude Code:", clients.claude_code(place), client="claude-code", url=url)
    narrator.block("mcp_config", "codex (~/.codex/config.toml):", clients.codex(place), client="codex", url=url)
    if once:
        narrator.event("stopping", "platform", f"{url} stops now; without --once it stays up for you")
    else:
        narrator.event("staying", "platform", f"stays up at {url} until Ctrl-C", url=url)
