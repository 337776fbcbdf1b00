"""The external agent: a real `molecule-mcp` process, driven through the official MCP client by JSON lines."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from molecule_runtime.localplatform.demo.team import driver_command
from molecule_runtime.localplatform.errors import DemoError
from molecule_runtime.localplatform.team.processes import child

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from molecule_runtime.localplatform.team.processes import Child
    from molecule_runtime.localplatform.team.watch import Watch

MAX_LINE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswer:
    """What a tool answered."""

    text: str
    structured: Mapping[str, Any]
    is_error: bool


class Driver:
    """Calls tools of the driven `molecule-mcp`, one at a time."""

    def __init__(self, process: Child) -> None:
        self._process = process
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._calls = 0
        self.tools: list[str] = []

    async def ready(self, seconds: float) -> None:
        """Wait until the MCP session is up.

        Raises:
            DemoError: it did not come up; with the end of its log.
        """
        hello = await self._read(seconds, "start its MCP session")
        self.tools = [str(name) for name in hello.get("tools", [])]

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None, *, seconds: float) -> ToolAnswer:
        """Call a tool and return its answer.

        Raises:
            DemoError: no answer within `seconds`, or the process ended.
        """
        self._calls += 1
        request = {"id": self._calls, "tool": tool, "arguments": dict(arguments or {})}
        try:
            await self._process.stdin.send(json.dumps(request).encode() + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise DemoError(f"molecule-mcp ended before {tool}:\n{self._process.tail}") from None
        answer = await self._read(seconds, f"answer {tool}")
        return ToolAnswer(text=str(answer["text"]), structured=answer["structured"], is_error=bool(answer["is_error"]))

    async def _read(self, seconds: float, what: str) -> dict[str, Any]:
        try:
            with anyio.fail_after(seconds):
                line = await self._lines.receive_until(b"\n", MAX_LINE_BYTES)
        except TimeoutError:
            raise DemoError(f"molecule-mcp did not {what} within {seconds:.0f} s:\n{self._process.tail}") from None
        except (anyio.IncompleteRead, anyio.ClosedResourceError):
            raise DemoError(f"molecule-mcp ended and did not {what}:\n{self._process.tail}") from None
        return dict(json.loads(line))


@asynccontextmanager
async def driven_mcp(environ: Mapping[str, str], log: Path, watch: Watch) -> AsyncGenerator[Driver]:
    """Run a driven `molecule-mcp` for the length of the block."""
    async with child(driver_command(), environ=environ, log=log, watch=watch, piped=True, stop_seconds=5) as process:
        yield Driver(process)
