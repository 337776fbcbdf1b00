"""Work that goes on when the call that began it has returned: a client that cuts calls after a minute must not cut what they do.

Whoever opens a `ToolContext` for such clients opens a `Background` around it, and everything that is under way ends with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast

import anyio

from molecule_runtime.tools.errors import ToolRefusedError, ToolsError

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

logger = logging.getLogger(__name__)

MAX_RUNNING: Final = 1024
"""Pieces of work at once; a delegation that waits takes 20 to 30 KiB (README, "What a call costs")."""

KEPT_SECONDS: Final = 600.0
"""That an outcome which nobody has taken is kept for the one who asks for it again."""

LISTEN_SECONDS: Final = 2.0
"""That a word about how it stands may take to be taken."""

T = TypeVar("T")

_Progress: TypeAlias = Callable[[str], Awaitable[None]]


class Running(Generic[T]):
    """One piece of work, and whoever waits for it."""

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._outcome: list[T] = []
        self._error: Exception | None = None
        self._listeners: list[_Progress] = []
        self.ended = 0.0
        """When it ended (`time.monotonic`); 0 before that."""

    async def run(self, work: Callable[[_Progress], Awaitable[T]], seconds: float) -> None:
        """Do the work, for `seconds` at most. Never raises but when it is cancelled from outside."""
        try:
            with self._scope, anyio.fail_after(seconds):
                self._outcome.append(await work(self._say))
        except Exception as exc:  # it goes to whoever waits for the outcome, and must not end what else is under way
            self._error = exc
            if not self._listeners:
                logger.warning("work that nobody waits for any more failed: %s: %s", type(exc).__name__, exc)
        finally:
            self.ended = time.monotonic()
            self._done.set()

    async def wait(self, seconds: float, progress: _Progress) -> bool:
        """Wait until it has ended, for `seconds` at most, and hear meanwhile how it stands; tell whether it has.

        It is not heard of after that. A waiter who is cancelled cancels the work, unless somebody else waits for it too.
        """
        self._listeners.append(progress)
        try:
            with anyio.move_on_after(seconds):
                await self._done.wait()
        except anyio.get_cancelled_exc_class():
            if self._listeners == [progress]:
                self._scope.cancel()
            raise
        finally:
            self._listeners.remove(progress)
        return self._done.is_set()

    def outcome(self) -> T:
        """Return what came of work that has ended.

        Raises:
            ToolsError: it was cancelled, by somebody else who waited for it or because the process ends.
            Exception: whatever the work raised.
        """
        if self._error is not None:
            raise self._error
        if not self._outcome:
            raise ToolsError("it was cancelled before it ended; nobody knows how far it came")
        return self._outcome[0]

    async def _say(self, text: str) -> None:
        for listener in list(self._listeners):
            # Whoever cannot or does not listen must not hold up the work, which may be somebody else's by now.
            with anyio.move_on_after(LISTEN_SECONDS):
                try:
                    await listener(text)
                except Exception:
                    logger.debug("%r was not heard", text, exc_info=True)


class Background:
    """The work of one process that outlives its calls; cancelled when this is closed.

    Args:
        most: pieces of work at once.
    """

    def __init__(self, *, most: int = MAX_RUNNING) -> None:
        self._most = most
        self._group: TaskGroup | None = None
        self._running: dict[Hashable, Running[Any]] = {}

    async def __aenter__(self) -> Background:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        group, self._group = self._group, None
        assert group is not None  # noqa: S101 - it was entered
        group.cancel_scope.cancel()
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return await group.__aexit__(kind, error, trace)
        # The group would wrap an error that comes from around it; none comes from within.
        await group.__aexit__(None, None, None)
        return None

    def start(
        self, key: Hashable, work: Callable[[_Progress], Awaitable[T]], *, seconds: float, keep: bool = False
    ) -> Running[T]:
        """Begin a piece of work, or return that of this key which is under way.

        Args:
            key: names it.
            work: gets a function that tells who waits how it stands.
            seconds: it may take.
            keep: its outcome stays for `KEPT_SECONDS`, for a caller who left, until `taken`.

        Raises:
            ToolRefusedError: too much is under way.
        """
        self._forget()
        known = self._running.get(key)
        if known is not None:
            return cast("Running[T]", known)
        self.check_room()
        assert self._group is not None  # noqa: S101 - there is room
        running = self._running[key] = Running[T]()

        async def run() -> None:
            try:
                await running.run(work, seconds)
            finally:
                if not keep:
                    self._running.pop(key, None)

        self._group.start_soon(run)
        return running

    def check_room(self) -> None:
        """Return when something new can begin.

        Raises:
            ToolRefusedError: too much is under way, or the process is ending.
        """
        if self._group is None:
            raise ToolRefusedError("this process is ending: nothing new is begun")
        if len(self._running) >= self._most:
            raise ToolRefusedError(
                f"{self._most} calls that returned before they ended are still under way: let some of them end first (check_task_status)"
            )

    def taken(self, key: Hashable) -> None:
        """Forget an outcome that its caller has."""
        self._running.pop(key, None)

    def _forget(self) -> None:
        old = time.monotonic() - KEPT_SECONDS
        for key in [key for key, each in self._running.items() if each.ended and each.ended < old]:
            del self._running[key]
