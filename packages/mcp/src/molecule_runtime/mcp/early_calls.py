"""Answers the first calls of a session while the SDK is not loaded yet: plain calls that nobody has to be asked about.

Loading the SDK takes as long as everything else of a start together, and such a call needs nothing of it: no progress, no question to
the user. Every other line, and all behind it, is for the SDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core import registry
from molecule_runtime.tools import dispatch

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from molecule_runtime.mcp.early import PlainCall
    from molecule_runtime.mcp.launch import Begun
    from molecule_runtime.mcp.opening import Opened
    from molecule_runtime.tools import ToolResult

WAITING: Final = frozenset({"wait_for_message", "desktop_wait_for_control"})
"""They read, but for as long as nothing happens; clients want to hear of their progress."""


def is_early(name: str, served: int) -> bool:
    """Tell whether calls of a tool may be answered without the SDK, in a process that serves so many workspaces.

    Of several, the user may have to be asked which one acts (`choosing.py`), and that takes the SDK.
    """
    if name in WAITING or name not in registry.tool_names():
        return False
    return served == 1 or registry.by_name(name).annotations.read_only


class EarlyCalls:
    """The calls of one session that the SDK never sees.

    Args:
        begun: the session.
        opened: what the tools work with.
        group: runs the calls; the SDK may be loaded while they wait for somebody.
    """

    def __init__(self, begun: Begun, opened: Opened, group: TaskGroup) -> None:
        self._begun = begun
        self._opened = opened
        self._group = group
        self._open: dict[str | int, anyio.CancelScope] = {}
        self._changed = anyio.Event()
        self.answered = False
        """Whether the client got an answer."""

    async def run(self) -> None:
        """Answer the calls that wait and those that come meanwhile, until none is under way or something else waits for its answer."""
        self._begin()
        if self._open:
            loop = asyncio.get_running_loop()

            def wake() -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                    loop.call_soon_threadsafe(self._note)

            self._begun.intake.attach(wake)
        while self._open and not self._begun.intake.has_line:
            await self._changed.wait()
            self._begin()

    def cancel(self, request_id: str | int) -> None:
        """End a call that its client does not want any more; it is not answered."""
        if (scope := self._open.get(request_id)) is not None:
            scope.cancel()

    async def all_answered(self) -> None:
        """Wait until no call is under way."""
        while self._open:
            await self._changed.wait()

    def _begin(self) -> None:
        while (call := self._begun.next_call(self._takes)) is not None:
            scope = self._open[call.id] = anyio.CancelScope()
            self._group.start_soon(self._answer, call, scope)

    def _takes(self, call: PlainCall) -> bool:
        # Of two calls that a client gives one id, the second is for the SDK to judge.
        return call.id not in self._open and is_early(call.name, len(self._opened.context.clients))

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def _answer(self, call: PlainCall, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                with self._opened.at_work(call.name):
                    result = await dispatch(call.name, call.arguments, self._opened.context)
                await anyio.to_thread.run_sync(
                    self._begun.intake.wire.write_line, answer_line(call, result), abandon_on_cancel=True
                )
                self.answered = True
        except OSError:
            # The client does not read any more, which `ending` looks after.
            pass
        finally:
            del self._open[call.id]
            self._note()


def answer_line(call: PlainCall, result: ToolResult) -> bytes:
    """Return the answer as the SDK writes it."""
    modern = call.meta is not None
    body = {
        "content": [{"text": result.text, "type": "text"}],
        "isError": result.is_error,
        **({"resultType": "complete"} if modern else {}),
        "structuredContent": dict(result.structured),
        **({"_meta": call.meta} if modern else {}),
    }
    message = {"jsonrpc": "2.0", "id": call.id, "result": body}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
