"""A supervisor at work in the process of the test, told what to serve by a file."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from tests.support.tenants import WAIT_SECONDS, Member

from molecule_runtime.mcp.opening import Opened, open_process
from molecule_runtime.mcp.settings import load_settings
from molecule_runtime.tools import ToolResult, dispatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from molecule_runtime.mcp.status import TargetStatus


def entry(member: Member, url: str, **more: Any) -> dict[str, Any]:
    return {"id": member.id, "token": member.token, "platform_url": url, **more}


def write(path: Path, content: object) -> None:
    """Replace the file, as an operator's script would."""
    new = path.with_suffix(".new")
    new.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    new.chmod(0o600)
    new.replace(path)


class Ear(logging.Handler):
    """Keeps what is logged from a level on, and says so."""

    def __init__(self, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self.heard = anyio.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.heard.set()
        self.heard = anyio.Event()

    async def hears(self, part: str) -> str:
        """Wait for a line that contains this."""
        with anyio.fail_after(WAIT_SECONDS):
            while not (found := [line for line in self.lines if part in line]):
                await self.heard.wait()
        return found[0]


@dataclass
class Fleet:
    """What runs, and the file that says what it serves."""

    opened: Opened
    path: Path
    announced: list[str]
    _changed: list[anyio.Event]

    @property
    def states(self) -> dict[str, TargetStatus]:
        return self.opened.supervisor.states

    def heard(self, uri: str) -> None:
        self.announced.append(uri)
        self._changed[0].set()
        self._changed[0] = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at whenever a change is announced."""
        with anyio.fail_after(WAIT_SECONDS):
            while not condition():
                await self._changed[0].wait()

    async def until_phase(self, phase: str, *members: Member) -> None:
        def reached() -> bool:
            states = self.states
            return all(member.id in states and states[member.id].phase == phase for member in members)

        await self.until(reached)

    async def call(self, tool: str, **arguments: Any) -> ToolResult:
        with anyio.fail_after(WAIT_SECONDS):
            return await dispatch(tool, arguments, self.opened.context)


@asynccontextmanager
async def running(folder: Path, entries: object, **variables: str) -> AsyncGenerator[Fleet]:
    """Serve what a file names, for the length of the block."""
    path = folder / "workspaces.json"
    await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    write(path, entries)
    environ = {"CONFIGS_DIR": str(folder / "state"), "MOLECULE_WORKSPACES_FILE": str(path), **variables}
    settings = load_settings(environ)
    async with open_process(settings, environ) as opened, anyio.create_task_group() as group:
        fleet = Fleet(opened, path, [], [anyio.Event()])
        opened.changes.listen(fleet.heard)
        group.start_soon(opened.supervisor.run)
        yield fleet
        group.cancel_scope.cancel()
