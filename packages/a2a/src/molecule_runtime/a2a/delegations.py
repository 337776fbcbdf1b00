"""Watches the delegations that this workspace made, and wakes the agent once for each that ended.

The list of delegations is the one source: an inbox row that says that one ended is a reason to look, since anyone may have sent it. A
result is kept in the state file before it is told, and the turn that tells it has one id and one text however often it is begun, so
that a host that is killed tells it after the next start, and not twice (contract `workspace-host.md` 14.2, 14.3).
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING

import anyio

from molecule_runtime.a2a.delegation_rows import answers_in, listing_of, result_in, result_of
from molecule_runtime.a2a.delegation_store import DelegationStore
from molecule_runtime.a2a.errors import StateFileError
from molecule_runtime.core.errors import PlatformError, RateLimitedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.a2a.delegation_store import Telling
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.platform.wire import ActivityRow

logger = logging.getLogger(__name__)

IDLE_INTERVAL = 30.0
"""Seconds between looks while nothing is under way (contract `runtime.md` 8)."""

OPEN_INTERVAL = 5.0
"""Seconds between looks while a delegation is."""

MAX_BACKOFF = 60.0
MAX_ATTEMPTS = 5
"""Beginnings of one turn, whether the host failed or ended in it."""

_LISTED = 50
"""What the platform shows at most (contract `platform-api.md` 6.2)."""

_ACTIVITY_ROWS = 200


class Delegations:
    """The delegations of one workspace.

    `wake` runs a turn, and returns whether it was run: one that was not is run later.
    """

    def __init__(self, client: PlatformClient, state: StateFile, wake: Callable[[Telling], Awaitable[bool]]) -> None:
        self._client = client
        self._store = DelegationStore(state, client, since=time.time())
        self._wake = wake
        self._stopping = anyio.Event()
        self._hint = anyio.Event()
        self._more = anyio.Event()
        self._pending = False

    @property
    def pending(self) -> bool:
        """Whether there is a result that the agent was not told of."""
        return self._pending

    def look_soon(self) -> None:
        """Look at the list now: there is word that something ended."""
        self._hint.set()

    def stop(self) -> None:
        """Look no more, and begin no turn."""
        self._stopping.set()
        self._hint.set()
        self._more.set()

    async def run(self) -> None:
        """Watch and tell until `stop`, and return when the turn that was begun is over."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell)
            failures = 0
            while not self._stopping.is_set():
                self._hint = anyio.Event()
                try:
                    pause = OPEN_INTERVAL if await self._look() else IDLE_INTERVAL
                    failures = 0
                except (PlatformError, StateFileError) as exc:
                    failures += 1
                    pause = min(2.0**failures, MAX_BACKOFF)
                    if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
                        pause = max(pause, exc.retry_after)
                    log = logger.warning if failures in {1, 3} or failures % 20 == 0 else logger.debug
                    log("cannot look at the delegations (attempt %d): %s", failures, exc)
                with anyio.move_on_after(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                    # Word that something ended does not make a platform that fails be asked faster.
                    await (self._stopping if failures else self._hint).wait()

    async def _look(self) -> bool:
        """Take note of what is new in the list; True while a delegation is under way."""
        own_id = self._client.workspace_id
        rows = await self._client.delegations()
        listing = listing_of(rows, own_id)
        news = await self._store.news(listing)
        missing: set[str] = set()
        if len(rows) >= _LISTED:
            # Newer ones have pushed them out of the list; their ends are found in the activity alone.
            missing = await self._store.open() - listing.own.keys()
        whole = await self._whole(own_id) if news or missing else {}
        # Oldest first, and so they are told.
        results = {identifier: result_in(whole[identifier], identifier) for identifier in missing & whole.keys()}
        for identifier in reversed(news):
            results[identifier] = result_of(listing.own[identifier], whole.get(identifier))
        for identifier, source in await self._store.note(listing, results):
            logger.warning(
                "the result of delegation %s is refused: workspace %r made it, not this one", identifier, source
            )
        if results:
            logger.info("%d delegation(s) ended: %s", len(results), ", ".join(sorted(results)))
            self._pending = True
            self._more.set()
        return bool(await self._store.open())

    async def _whole(self, own_id: str) -> dict[str, ActivityRow]:
        """Return the rows with the whole answers; the list has only the beginning of each."""
        try:
            return answers_in(await self._client.activity(type="delegation", limit=_ACTIVITY_ROWS), own_id)
        except PlatformError as exc:
            logger.warning("the answers of delegations cannot be read whole, and are told from the list: %s", exc)
            return {}

    async def _tell(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._more = anyio.Event()
            try:
                telling = await self._store.next()
                if telling is None:
                    self._pending = False
                    await self._more.wait()
                    continue
                self._pending = True
                if await self._tell_once(telling):
                    failures = 0
                    continue
            except StateFileError as exc:
                logger.error("results of delegations wait: %s", exc)  # noqa: TRY400 - the reason is in the text
            except Exception:  # whatever it was, it may go better the next time
                logger.exception("the agent was not told of results of delegations")
            failures += 1
            with anyio.move_on_after(min(2.0**failures, MAX_BACKOFF) * random.uniform(0.8, 1.2)):  # noqa: S311 - jitter
                await self._stopping.wait()

    async def _tell_once(self, telling: Telling) -> bool:
        names = ", ".join(telling.delegation_ids)
        given_up = telling.begun > MAX_ATTEMPTS
        if given_up:
            logger.error("the result of delegation(s) %s was begun %d times and is given up", names, telling.begun - 1)
        elif not await self._wake(telling):
            await self._store.put_back(telling)
            return False
        await self._store.told(telling)
        if not given_up:
            # Only now: after this line no start tells it again.
            logger.info("the agent was told of delegation(s) %s", names)
        return True
