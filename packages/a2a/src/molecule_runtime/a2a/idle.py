"""Prompts an agent that has nothing to do (contract `workspace-host.md` 5.5, `runtime.md` 11).

It cannot run away: the next prompt is due an interval after the last one ended, and only when nothing at all is under way; the interval
has a minimum; and after some failures in a row there is a long break.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.core import envelope

if TYPE_CHECKING:
    from collections.abc import Callable

    from molecule_runtime.a2a.self_messages import SelfMessages

logger = logging.getLogger(__name__)

MIN_INTERVAL = 10.0
"""Seconds; each prompt costs a turn of a model."""

SETTLE_SECONDS = 60.0
"""At most, after the start and before the first interval."""

MIN_WAIT, MAX_WAIT = 60.0, 300.0
"""Seconds for the answer; the turn may go on for longer."""

BREAK_AFTER = 3
"""Failures in a row."""

BREAK_SECONDS = 3600.0

KIND = "idle_prompt"


def pause_of(interval: float) -> float:
    """Return the seconds between prompts for an interval that config.yaml asks for."""
    return max(float(interval), MIN_INTERVAL)


class IdlePrompts:
    """Sends the prompts.

    Attributes:
        text: of the prompt; `""` for none. May be changed while it runs.
        interval: seconds between prompts. May be changed while it runs.
    """

    def __init__(
        self,
        messages: SelfMessages,
        *,
        text: str,
        interval: float,
        free: Callable[[], bool],
        active: Callable[[], int],
        gives_way: bool,
    ) -> None:
        """Prepare the prompts.

        Args:
            messages: which brings them to the agent.
            text: of the prompt.
            interval: seconds between prompts.
            free: whether the workspace takes messages and nothing waits for the agent.
            active: how many turns run.
            gives_way: whether a prompt that is being answered ends when somebody has a message for the agent.
        """
        self.text = text
        self.interval = interval
        self._messages = messages
        self._free = free
        self._active = active
        self._gives_way = gives_way
        self._changed = anyio.Event()
        self._stopping = anyio.Event()
        self._failures = 0
        self._open_until = 0.0

    def changed(self) -> None:
        """Look whether somebody else's turn began or ended."""
        self._changed.set()

    def stop(self) -> None:
        """Begin no more prompts."""
        self._stopping.set()

    async def run(self) -> None:
        """Prompt the agent until `stop`."""
        await self._pause(min(self._seconds, SETTLE_SECONDS))
        while not self._stopping.is_set():
            await self._pause(self._seconds * random.uniform(0.95, 1.05))  # noqa: S311 - jitter
            if not self._due():
                continue
            try:
                await self._prompt()
            except Exception:  # it must go on whatever one prompt meets
                logger.exception("the idle prompt failed")
                self._failed("the host failed; see above")

    @property
    def _seconds(self) -> float:
        return pause_of(self.interval)

    def _due(self) -> bool:
        idle = bool(self.text) and not self._stopping.is_set() and self._free() and self._active() == 0
        return idle and time.monotonic() >= self._open_until

    async def _prompt(self) -> None:
        message_id = f"idle-{uuid.uuid4()}"
        answer: envelope.Answer | None = None
        gave_way = False

        async with anyio.create_task_group() as group:

            async def give_way() -> None:
                nonlocal gave_way
                while True:
                    self._changed = anyio.Event()
                    if self._active() > 1 and await self._messages.turns.cancel_message(message_id):
                        gave_way = True
                        return
                    await self._changed.wait()

            if self._gives_way:
                group.start_soon(give_way)
            wait = min(max(self._seconds, MIN_WAIT), MAX_WAIT)
            answer = await self._messages.send(self.text, message_id=message_id, kind=KIND, seconds=wait)
            group.cancel_scope.cancel()
        if gave_way:
            logger.info("the idle prompt gave way to a message")
        elif isinstance(answer, envelope.Failure):
            self._failed(answer.message)
        else:
            self._failures = 0
            logger.debug("the idle prompt was answered")

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures < BREAK_AFTER:
            logger.warning("the idle prompt failed: %s", reason)
            return
        self._open_until = time.monotonic() + BREAK_SECONDS
        logger.error(
            "the idle prompt failed %d times in a row; the next in %.0f s: %s", self._failures, BREAK_SECONDS, reason
        )

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._stopping.wait()
