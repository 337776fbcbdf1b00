"""Checks of the executor, with real objects of the A2A SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.testing.host import INTERRUPTED_STATES, TERMINAL_STATES, sdk_installed
from molecule_runtime.core.testing.kit import Kit, expect, shown, skip

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.core.testing.host import Turn

CANCEL_SECONDS = 5.0

_NO_SDK = "a2a-sdk is not installed, so the executor cannot be run; pip install molecule-runtime-a2a"


class ExecutorChecks(Kit):
    """What `create_executor` returns must answer, end when cancelled, and fail when it fails."""

    def test_a_turn_ends_with_one_message_or_a_finished_task(self, tmp_path: Path) -> None:
        """Exactly one Message, or a Task first, then updates of it up to a final state, and nothing after that."""

        async def ask() -> Turn:
            async with self._host(tmp_path).running() as host:
                return await host.turn(self.message)

        self._need_sdk()
        turn = self._run(tmp_path, ask())
        if turn.error is not None:
            raise AssertionError(f"execute() raised {shown(turn.error)}") from turn.error
        events = turn.events
        expect(events, "execute() returned without an answer; the sender would wait for ever")
        kinds = [event.kind for event in events]
        if "message" in kinds:
            expect(kinds == ["message"], f"a Message is the whole answer, but these were sent: {kinds}")
            expect(events[0].text.strip(), "the Message has no text")
            return
        expect(kinds[0] == "task", f"the first event must be a Message or a Task, not {kinds[0]}")
        expect(kinds.count("task") == 1, f"{kinds.count('task')} Task events; after the first, send updates")
        ids = {(event.task_id, event.context_id) for event in events}
        expect(len(ids) == 1 and all(next(iter(ids))), f"every event must be of one task in one context: {sorted(ids)}")
        last = max((number for number, event in enumerate(events) if event.state), default=0)
        expect(
            events[last].state in TERMINAL_STATES | INTERRUPTED_STATES,
            f"the task was left {events[last].state!r}; it must end in one of {sorted(TERMINAL_STATES)}",
        )
        finals = [number for number, event in enumerate(events) if event.state in TERMINAL_STATES]
        expect(
            not finals or finals[0] == len(events) - 1,
            f"events follow the final state: {kinds[finals[0] + 1 :] if finals else []}",
        )

    def test_a_cancelled_turn_ends(self, tmp_path: Path) -> None:
        """The host cancels the task that runs `execute`; a turn that swallows that never frees its place."""

        async def cancel() -> tuple[Turn, bool, bool]:
            async with self._host(tmp_path).running() as host:
                return await host.cancelled_turn(self.message, seconds=CANCEL_SECONDS)

        self._need_sdk()
        turn, in_flight, ended = self._run(tmp_path, cancel())
        expect(in_flight, f"the turn sent no event that it could be cancelled at (it raised {turn.error!r})")
        expect(ended, f"the turn was still running {CANCEL_SECONDS:g} s after it was cancelled")
        success = turn.state in {"message", "completed"}
        expect(not success, f"the turn was cancelled, and yet it ended as a success ({turn.state})")

    def test_an_exception_is_not_a_success(self, tmp_path: Path) -> None:
        """A failure must reach the sender as one: a failed Task, or an exception for the host to turn into one."""

        async def ask() -> Turn:
            async with self._host(tmp_path).running() as host:
                return await host.turn(self.message, fail=True)

        self._need_sdk()
        turn = self._run(tmp_path, ask())
        if not turn.injected:
            skip("the executor does not read the message, so there is nothing to make fail")
        failed = turn.error is not None or turn.state in {"failed", "rejected", "canceled"}
        said = turn.events[-1].text if turn.events else ""
        expect(
            failed, f"the turn raised, and was answered as a success ({turn.state or 'nothing sent'}): {said!r:.120}"
        )

    def _need_sdk(self) -> None:
        if not sdk_installed():
            skip(_NO_SDK)
