"""Where delegations stand on the platform: one look serves everybody who waits, and an answer is read whole, in whatever shape."""

from __future__ import annotations

import base64
import binascii
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from molecule_runtime.core import envelope
from molecule_runtime.core.errors import NotFoundError, PlatformError

if TYPE_CHECKING:
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.platform.client import PlatformClient

ENDED: Final = frozenset({"completed", "failed"})
"""Nothing follows these; a delegation that is `stuck` may end all the same (contract `platform-api.md` 24.6)."""

LISTED: Final = 50
"""What the platform shows at most (contract `platform-api.md` 6.2)."""

_AT_ONCE: Final = 16
"""Half of the short requests that one origin takes at once, so that others have room."""

_ACTIVITY_ROWS: Final = 200
_REPLY_ROWS: Final = 50
SHARED_SECONDS: Final = 0.2
"""The age of a list that serves all who wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at a delegation.

    Attributes:
        row: the platform's row to believe; None when it shows none.
        answer: what it came to; None before its end.
        queue_id: where to look next time; `""` for nowhere.
    """

    row: wire.Delegation | None = None
    answer: envelope.Reply | envelope.Failure | None = None
    queue_id: str = ""


@dataclass(slots=True)
class _Looks:
    """What was last seen of one workspace's delegations, and the lock under which one looks for all."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    at: float = float("-inf")
    rows: list[wire.Delegation] = field(default_factory=list["wire.Delegation"])


class DelegationWatch:
    """Looks at delegations for the tools of one process; one client is asked once at a time."""

    def __init__(self) -> None:
        self._looks: dict[int, tuple[PlatformClient, _Looks]] = {}
        self.turn = anyio.Semaphore(_AT_ONCE)
        """For the small requests around a delegation: of a thousand that begin together none is to wait so long that it fails."""

    async def rows(self, client: PlatformClient, *, age: float = 0.0) -> list[wire.Delegation]:
        """Return the platform's list, at most `age` seconds old."""
        # The client is kept with it: an id() of one that is gone may come again.
        _, looks = self._looks.setdefault(id(client), (client, _Looks()))
        async with looks.lock:
            if age <= 0 or time.monotonic() - looks.at > age:
                # A row that another workspace made is nobody's result here (contract `runtime.md` 20.3, 48).
                own = {None, "", client.workspace_id}
                looks.rows = [row for row in await client.delegations() if row.source_id in own]
                looks.at = time.monotonic()
            return looks.rows

    async def look(
        self, client: PlatformClient, delegation_id: str, target_id: str, queue_id: str = "", *, age: float = 0.0
    ) -> Seen:
        """Look where a delegation stands, or stood at most `age` seconds ago.

        Raises:
            PlatformError: the platform does not say.
        """
        rows = await self.rows(client, age=age)
        row = folded(rows).get(delegation_id)
        if (row is not None and row.status in ENDED) or (row is None and len(rows) >= LISTED):
            whole = await _whole(client, delegation_id)
            answer = answer_of(row, whole)
            if answer is not None:
                return Seen(row=row, answer=answer)
        if queue_id and target_id:
            answer, queue_id = await _from_queue(client, target_id, queue_id)
            return Seen(row=row, answer=answer, queue_id=queue_id)
        return Seen(row=row)

    async def reply_to(self, client: PlatformClient, message_id: str, target_id: str) -> envelope.Reply | None:
        """Return what a peer that reads its inbox answered to a message, as a message of its own; None before that.

        Only what names the message counts: its id is ours, and nobody names it by chance. What a peer says without that, such as a
        delegation of its own, may be an answer or another matter, and is left to the agent that reads it.
        """
        rows = await client.activity(type="a2a_receive", peer_id=target_id, limit=_REPLY_ROWS)
        for row in rows:
            said = envelope.read_message(row.request_body)
            if row.source_id == target_id and said.refers_to(message_id):
                return envelope.Reply(text=said.text, files=said.files)
        return None


def folded(rows: list[wire.Delegation]) -> dict[str, wire.Delegation]:
    """Keep one row per delegation, newest first: the one with a result, else the one in a final state.

    A June server has one row each; an April one has two (contract `platform-api.md` 6.2).
    """
    found: dict[str, wire.Delegation] = {}
    for row in rows:
        key = row.delegation_id or ""
        known = found.get(key)
        if key and (known is None or _weight(row) > _weight(known)):
            found[key] = row
    return found


def answer_of(row: wire.Delegation | None, whole: wire.ActivityRow | None) -> envelope.Reply | envelope.Failure | None:
    """Read how a delegation ended from its row and from the one that has the whole answer, as far as they are there."""
    status = (whole.status if whole is not None else None) or (row.status if row is not None else "")
    text = ""
    body: object = None if whole is None else whole.response_body
    if isinstance(body, dict):
        said = cast("dict[str, Any]", body).get("text")
        text = said if isinstance(said, str) else ""
    if status == "completed":
        return _unwrapped(text or (row.response_preview if row is not None else None) or "")
    if status == "failed":
        reason = (row.error if row is not None else None) or (whole.error_detail if whole is not None else None)
        return envelope.Failure(message=reason or text or "it failed, and the platform does not say why")
    return None


def _unwrapped(text: str) -> envelope.Reply | envelope.Failure:
    """Read an answer that a platform kept as it came: a JSON-RPC body where the agent's was not read (contract 6.1)."""
    if text.startswith("{"):
        try:
            body: object = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        if isinstance(body, dict) and "jsonrpc" in body and body.keys() & {"result", "error"}:
            answer = envelope.read_answer(cast("dict[str, Any]", body))
            if not isinstance(answer, envelope.Accepted):
                return answer
    return envelope.Reply(text=text)


async def _whole(client: PlatformClient, delegation_id: str) -> wire.ActivityRow | None:
    """Find the row with the whole answer; the list has only its beginning (contract `platform-api.md` 6.2)."""
    try:
        rows = await client.activity(type="delegation", limit=_ACTIVITY_ROWS)
    except PlatformError:
        # The beginning is better than nothing, and it says that it was cut.
        return None
    for row in rows:
        body = row.response_body
        if row.method != "delegate_result" or row.source_id != client.workspace_id or not isinstance(body, dict):
            continue
        if row.status in ENDED and cast("dict[str, Any]", body).get("delegation_id") == delegation_id:
            return row
    return None


async def _from_queue(
    client: PlatformClient, target_id: str, queue_id: str
) -> tuple[envelope.Reply | envelope.Failure | None, str]:
    """Look at the message that waits for a busy peer; returns what it was answered, and where to look next time."""
    try:
        queued = await client.queued_message(target_id, queue_id)
    except NotFoundError:
        return None, ""
    if queued.status in {"failed", "dropped"}:
        reason = queued.last_error or "no reason was given"
        return envelope.Failure(message=f"the platform did not bring it to the peer: {reason}"), ""
    if queued.status != "completed" or not queued.response_body:
        return None, queue_id
    try:
        body: object = json.loads(base64.b64decode(queued.response_body, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return envelope.Failure(message="the peer's answer is not readable"), ""
    answer = envelope.read_answer(body)
    if isinstance(answer, envelope.Accepted):
        # It met a busy peer again and waits under another id (contract `platform-api.md` 5.6).
        return None, answer.queue_id
    return answer, ""


def _weight(row: wire.Delegation) -> int:
    return 2 * (row.status in ENDED) + (row.response_preview is not None and row.status != "queued")
