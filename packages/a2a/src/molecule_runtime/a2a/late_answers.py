"""The answers that wait to be sent, in the state file: a restart loses none of them."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from molecule_runtime.a2a.senders import Sender
from molecule_runtime.core import envelope
from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import asyncio
    import sqlite3

    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient

MAX_WAITING = 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Of answers that wait for a platform that cannot be reached; the next one is lost, and the log says so."""

MAX_WAITING_SECONDS = 7 * 24 * 3600.0
"""For which an answer is of use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An answer that waits.

    Attributes:
        begun: when it was about to be sent last (seconds since 1970); None when it never was.
    """

    number: int
    sender: Sender
    answer: envelope.Answer
    begun: float | None


class LateAnswers:
    """The answers of one workspace that wait; each sender's key has one."""

    def __init__(self, state: StateFile, client: PlatformClient) -> None:
        self._state = state
        self._whose = (origin_of(client.target.platform_url), client.workspace_id)

    def add(self, sender: Sender, answer: envelope.Answer) -> asyncio.Future[bool]:
        """Begin to keep an answer; the future says whether there was room for it.

        Raises:
            StateFileError: the file is closed.
        """
        said, now = _encoded(answer), time.time()
        values = (*self._whose, sender.key, json.dumps(asdict(sender)), said, len(said), now)

        def write(db: sqlite3.Connection) -> bool:
            count, size = db.execute("SELECT count(*), total(bytes) FROM late_answers").fetchone()
            if count >= MAX_WAITING or size + len(said) > MAX_WAITING_BYTES:
                return False
            db.execute(
                "INSERT INTO late_answers (origin, workspace_id, answer_key, sender, answer, bytes, added)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values,
            )
            return True

        return self._state.begin(write)

    async def next(self) -> Waiting | None:
        """Return the oldest answer that waits."""

        def read(db: sqlite3.Connection) -> Waiting | None:
            db.execute("DELETE FROM late_answers WHERE added < ?", (time.time() - MAX_WAITING_SECONDS,))
            row = db.execute(
                "SELECT number, sender, answer, begun FROM late_answers WHERE origin = ? AND workspace_id = ?"
                " ORDER BY number LIMIT 1",
                self._whose,
            ).fetchone()
            if row is None:
                return None
            number, sender, answer, begun = row
            return Waiting(number=number, sender=Sender(**json.loads(sender)), answer=_decoded(answer), begun=begun)

        return await self._state.run(read)

    async def begin(self, waiting: Waiting) -> None:
        """Note that an answer is about to be sent."""
        await self._state.run(
            lambda db: db.execute("UPDATE late_answers SET begun = ? WHERE number = ?", (time.time(), waiting.number))
        )

    async def done(self, waiting: Waiting) -> None:
        """Let go of an answer: it was sent, or never can be."""
        await self._state.run(lambda db: db.execute("DELETE FROM late_answers WHERE number = ?", (waiting.number,)))


def _encoded(answer: envelope.Answer) -> str:
    match answer:
        case envelope.Failure():
            return json.dumps({"failure": answer.message})
        case envelope.Reply():
            return json.dumps({"text": answer.text, "files": [asdict(file) for file in answer.files]})
        case envelope.Accepted():
            return json.dumps({"text": "", "files": []})


def _decoded(text: str) -> envelope.Answer:
    data = json.loads(text)
    if "failure" in data:
        return envelope.Failure(message=data["failure"])
    return envelope.Reply(text=data["text"], files=tuple(envelope.File(**file) for file in data["files"]))
