"""What became of a request: one look, and waiting until it is decided."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core.errors import NotFoundError, PlatformError, RateLimitedError, UnavailableError
from molecule_runtime.tools import progress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.tools.approval_records import Api

logger = logging.getLogger(__name__)

OPEN: Final = frozenset({"pending", "info_requested"})
EXPIRED: Final = "expired"
"""Not a word of the platform: nobody decided in time, which is not a no."""

_AUTO_EXPIRED: Final = "auto-expired"
"""Who denies an old approval that nobody decided (contract `platform-api.md` 9.4)."""

_STATUSES: Final = {"denied": "rejected", "withdrawn": "cancelled", "escalated": "pending"}
"""The words of the older list, in those of the requests."""

_FIRST_PAUSE: Final = 0.3
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two looks (contract `platform-api.md` 9.6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a request stands.

    Attributes:
        status: a word of contract `platform-api.md` 24.8, or `EXPIRED`.
        decided: seconds since 1970; None while it is open, and where the platform does not say.
        decided_by: who decided, as the platform names them.
        by_agent: an agent answered, and no person.
    """

    status: str
    decided: float | None = None
    decided_by: str = ""
    by_agent: bool = False


async def look(client: PlatformClient, request_id: str, api: Api = "requests") -> Outcome:
    """Look how a request stands.

    Raises:
        NotFoundError: there is no such request, or the list of approvals no longer shows it.
        PlatformError: the platform does not say.
    """
    if api == "requests":
        row = (await client.request(request_id)).request
        by = " ".join(part for part in (row.responder_type, row.responder_id) if part)
        by_agent = row.responder_type == "agent"
        return Outcome(status=row.status, decided=_moment(row.responded_at), decided_by=by, by_agent=by_agent)
    for approval in await client.approvals():
        if approval.id == request_id:
            by = approval.decided_by or ""
            status = EXPIRED if by == _AUTO_EXPIRED else _STATUSES.get(approval.status, approval.status)
            return Outcome(status=status, decided=_moment(approval.decided_at), decided_by=by)
    raise NotFoundError(
        f"approval {request_id} is not among the newest that the platform shows",
        workspace_id=client.workspace_id,
        request="approvals",
    )


async def until_decided(
    client: PlatformClient,
    request_id: str,
    api: Api,
    *,
    seconds: float,
    say: Callable[[str], Awaitable[None]],
    questions_end: bool,
) -> Outcome | None:
    """Wait until a request is decided; None when it is still open after `seconds`.

    `say` is told now and then how it stands. With `questions_end` it also returns when somebody asks something about it,
    for a caller who can answer.

    Raises:
        NotFoundError: there is no such request.
    """
    started = time.monotonic()
    deadline, told, pause = started + seconds, started, _FIRST_PAUSE
    while True:
        status = "pending"
        try:
            outcome = await look(client, request_id, api)
            status = outcome.status
            if status not in OPEN or (questions_end and status == "info_requested"):
                return outcome
        except NotFoundError:
            raise
        except PlatformError as exc:
            logger.info("cannot see how request %s stands: %s", request_id, exc)
            if isinstance(exc, (RateLimitedError, UnavailableError)):
                pause = max(pause, exc.retry_after or 0)
        now = time.monotonic()
        if now >= deadline:
            return None
        if now - told >= progress.PROGRESS_SECONDS:
            told = now
            waits = "somebody asks about it" if status == "info_requested" else "nobody decided yet"
            await say(f"request {request_id}: {waits} ({now - started:.0f} s)")
        await anyio.sleep(min(pause * random.uniform(0.8, 1.2), deadline - now))  # noqa: S311 - jitter
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _moment(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
