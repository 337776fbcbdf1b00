"""Waits for the answer to one synchronous delegation: tells how it stands, and looks for what was only acknowledged."""

from __future__ import annotations

import logging
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core import envelope
from molecule_runtime.core.errors import PlatformError, RateLimitedError, UnavailableError
from molecule_runtime.core.platform import wire
from molecule_runtime.tools import delegation_records as records
from molecule_runtime.tools.delegation_watch import SHARED_SECONDS
from molecule_runtime.tools.journal import Owner
from molecule_runtime.tools.progress import ticking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import DelegateTask
    from molecule_runtime.tools.context import Call

logger = logging.getLogger(__name__)

MAX_SUMMARY_CHARS: Final = 256
"""Contract `runtime.md` 7.5."""

MAX_ERROR_CHARS: Final = 4096
"""Contract `runtime.md` 7.5."""

INBOX_PATIENCE: Final = 60.0
"""Seconds for a peer that reads its inbox: its answer may come as a message, to an agent that must not be kept from reading it."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 3.0
"""Seconds between two looks (contract `runtime.md` 7.3)."""


class Following:
    """One delegation that somebody waits for."""

    def __init__(self, call: Call[DelegateTask], client: PlatformClient, entry: records.Entry, name: str) -> None:
        self._call = call
        self._client = client
        self._entry = entry
        self._name = name
        self._owner = Owner.of(client)
        self._started = time.monotonic()
        self._doing = ""
        self._recorded = False

    @asynccontextmanager
    async def progress(self) -> AsyncGenerator[None]:
        """Tell the caller to whom the task goes, and now and then how it stands."""
        await self._say(f"delegating to {self._name}")
        async with ticking(self._say, lambda: self._doing or f"waiting for {self._name}"):
            yield

    async def until_answered(self, accepted: envelope.Accepted) -> envelope.Answer:
        """Look for the answer to a message that was only acknowledged, within the time of the call; `accepted` when there is none."""
        polls = accepted.mode == "poll"
        self._doing = f"{self._name} {'reads its inbox' if polls else 'is busy'}; the task waits there"
        await self._say(self._doing)
        await self._move("queued", accepted.queue_id)
        patience = self._call.context.delegation_timeout - (time.monotonic() - self._started)
        deadline = time.monotonic() + (min(patience, INBOX_PATIENCE) if polls else patience)
        queue_id, pause = accepted.queue_id, _FIRST_PAUSE
        while (left := deadline - time.monotonic()) > 0:
            await anyio.sleep(min(pause * random.uniform(0.8, 1.2), left))  # noqa: S311 - jitter
            pause = min(pause * 1.6, _LONGEST_PAUSE)
            try:
                answer, queue_id = await self._look(queue_id, polls=polls)
            except PlatformError as exc:
                logger.info("cannot see how delegation %s stands: %s", self._entry.delegation_id, exc)
                if isinstance(exc, (RateLimitedError, UnavailableError)):
                    pause = max(pause, exc.retry_after or 0)
                continue
            if answer is not None:
                return answer
        return accepted if polls else await self._leave(accepted, queue_id)

    async def log(self, answer: envelope.Answer) -> None:
        """Write the exchange into our own activity log, so that chat_history shows both sides. Best effort."""
        task = self._call.arguments.task
        request = wire.ActivityRequest(
            activity_type="a2a_send",
            method="message/send",
            source_id=self._client.workspace_id,
            target_id=self._entry.target_id,
            summary=f"Delegated to {self._name}: {task}"[:MAX_SUMMARY_CHARS],
            status="error" if isinstance(answer, envelope.Failure) else "ok",
            duration_ms=int((time.monotonic() - self._started) * 1000),
            request_body={"task": task},
        )
        if isinstance(answer, envelope.Reply):
            request = request.model_copy(update={"response_body": {"result": answer.text}})
        elif isinstance(answer, envelope.Failure):
            request = request.model_copy(update={"error_detail": answer.message[:MAX_ERROR_CHARS]})
        try:
            async with self._call.context.delegations.turn:
                await self._client.log_activity(request)
        except PlatformError as exc:
            logger.info("the delegation to %s is not in the activity log: %s", self._entry.target_id, exc)

    async def _look(
        self, queue_id: str, *, polls: bool, leaving: bool = False
    ) -> tuple[envelope.Reply | envelope.Failure | None, str]:
        watch, entry = self._call.context.delegations, self._entry
        if polls:
            return await watch.reply_to(self._client, entry.delegation_id, entry.target_id), ""
        if not queue_id:
            # An older platform, which says nothing of its queue: the answer goes into the row of a delegation that is on the books.
            await self._record()
        seen = await watch.look(
            self._client, entry.delegation_id, entry.target_id, queue_id, age=0 if leaving else SHARED_SECONDS
        )
        if seen.answer is None and seen.queue_id != queue_id:
            await self._move("queued", seen.queue_id)
        return seen.answer, seen.queue_id

    async def _leave(self, accepted: envelope.Accepted, queue_id: str) -> envelope.Answer:
        """Put what still waits on the platform's books, where the host of this workspace sees its end and tells the agent."""
        try:
            await self._record()
            # It may have been answered just before that, and then nobody writes it into the row.
            answer, _ = await self._look(queue_id, polls=False, leaving=True)
        except PlatformError as exc:
            logger.warning("delegation %s is not on the platform's books: %s", self._entry.delegation_id, exc)
            return accepted
        return answer or accepted

    async def _record(self) -> None:
        if not self._recorded:
            task = self._call.arguments.task
            await self._client.record_delegation(self._entry.target_id, task, self._entry.delegation_id)
            self._recorded = True

    async def _move(self, state: records.State, queue_id: str) -> None:
        delegation_id = self._entry.delegation_id
        await self._call.context.journal.run(lambda db: records.moved(db, self._owner, delegation_id, state, queue_id))

    async def _say(self, text: str) -> None:
        await self._call.progress(text)
