"""The steps of a boot, one after the other, and what keeps running after them."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable  # noqa: TC003 - the fields of the dataclasses say what they are
from dataclasses import dataclass

import anyio

from molecule_runtime.a2a.errors import BootError

logger = logging.getLogger(__name__)

RESTART_SECONDS, MAX_RESTART_SECONDS = 1.0, 60.0
"""Before a service that failed begins again: doubled with each failure, with jitter, and short again once it ran for longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the boot.

    Attributes:
        name: in the log.
        seconds: that it may take.
        run: what it does.
        of_the_agent: whether it fails on account of the agent: the workspace is then reachable all the same, and says why it does not work.
    """

    name: str
    seconds: float
    run: Callable[[], Awaitable[None]]
    of_the_agent: bool = False

    async def take(self) -> None:
        """Take the step, and log how long it took.

        Raises:
            BootError: it took too long.
        """
        started = time.monotonic()
        try:
            with anyio.fail_after(self.seconds):
                await self.run()
        except TimeoutError:
            if time.monotonic() - started < self.seconds:
                # Of something inside.
                raise
            raise BootError(f"{self.name}: not finished within {self.seconds:.0f} s") from None
        logger.info("boot: %s took %.2f s", self.name, time.monotonic() - started)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What runs beside the server until the host stops; one that ends by itself has nothing more to do.

    Attributes:
        name: in the log.
        run: what it does.
    """

    name: str
    run: Callable[[], Awaitable[None]]

    async def keep_running(self) -> None:
        """Run it, and again after a failure: none of them is a reason for the workspace to go."""
        pause = RESTART_SECONDS
        while True:
            started = time.monotonic()
            try:
                await self.run()
            except Exception:  # a service must not take the others with it
                if time.monotonic() - started > MAX_RESTART_SECONDS:
                    pause = RESTART_SECONDS
                logger.exception("%s failed; beginning again in %.0f s", self.name, pause)
                await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter
                pause = min(pause * 2, MAX_RESTART_SECONDS)
            else:
                return
