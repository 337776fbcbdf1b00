"""A message that is sent again is the same message: it runs once, and whoever sent it gets the answer that it had.

Senders try again when a connection breaks, and cannot know whether the agent is at work already. A message is recognised by its
`messageId`, its caller and its content: senders that use one id for everything they say are common, and must not get old answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

import anyio
from a2a.server.owner_resolver import resolve_user_scope
from a2a.types import Message

from molecule_runtime.a2a.errors import StateFileError
from molecule_runtime.a2a.tasks import TaskLimits

if TYPE_CHECKING:
    import sqlite3

    from a2a.server.context import ServerCallContext
    from a2a.types import SendMessageRequest
    from a2a.utils.errors import A2AError

    from molecule_runtime.a2a.statefile import StateFile

logger = logging.getLogger(__name__)

_EVICT_EVERY = 32

_IMPATIENT = "molecule.impatient"

Key: TypeAlias = tuple[str, str, str]
"""Who sent a message, under which id, and what it says."""


class Acknowledge(Enum):
    """When a sender hears of its task before the turn is over."""

    NEVER = "never"
    IF_BUSY = "if busy"
    AT_ONCE = "at once"


@dataclass(slots=True, eq=False)
class Delivery:
    """One message on its way through the host.

    Attributes:
        key: what it is recognised by; None for one that cannot be.
        acknowledge: when its sender hears of the task.
        task_id: of its turn, once that has begun.
        reply: the one Message that it was answered with, where it was.
        known: set once it is known whether the answer is a Message or a Task.
        late: whether its sender asked for an answer and got an acknowledgement.
        ready: set once there is something to tell its sender: the answer, an acknowledgement, or `error`.
        error: why there is no answer, in the protocol's words.
    """

    key: Key | None = None
    acknowledge: Acknowledge = Acknowledge.NEVER
    task_id: str = ""
    owner: str = ""
    reply: Message | None = None
    late: bool = False
    known: anyio.Event = field(default_factory=anyio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    error: A2AError | None = None


class Once:
    """The messages that are being answered, and the answers of those that were."""

    def __init__(self, state: StateFile, limits: TaskLimits | None = None) -> None:
        self._state = state
        self._limits = limits or TaskLimits()
        self._running: dict[Key, Delivery] = {}
        self._stored: OrderedDict[Key, None] = OrderedDict()
        self._since = 0

    async def start(self) -> None:
        """Read which messages were answered before this process began."""
        limits = self._limits

        def begin(db: sqlite3.Connection) -> list[Key]:
            _evict(db, limits)
            return db.execute("SELECT caller, message_id, content FROM answers ORDER BY number").fetchall()

        self._stored = OrderedDict.fromkeys(await self._state.run(begin))

    async def begin(self, params: SendMessageRequest, context: ServerCallContext) -> tuple[Delivery, bool]:
        """Return the delivery of a message, and whether it is new: one that is not runs, or was answered, already."""
        key = key_of(params, context)
        if key is None:
            return Delivery(), True
        running = self._running.get(key)
        if running is not None:
            return running, False
        delivery = self._running[key] = Delivery(key, owner=resolve_user_scope(context))
        if key not in self._stored:
            return delivery, True
        try:
            found = await self._find(key)
        except BaseException:
            self.release(delivery)
            raise
        if not found:
            return delivery, True
        delivery.task_id, reply = found
        delivery.reply = Message.FromString(reply) if reply is not None else None
        self.release(delivery)
        return delivery, False

    def forget(self, delivery: Delivery) -> None:
        """Have a message run when it comes again: what is known of it is of no use."""
        if delivery.key is not None:
            self._stored.pop(delivery.key, None)

    def release(self, delivery: Delivery) -> None:
        """Let the next one with the same key be a new message, or find the answer that was stored."""
        if delivery.key is not None and self._running.get(delivery.key) is delivery:
            del self._running[delivery.key]
        delivery.known.set()

    async def answered(self, delivery: Delivery) -> None:
        """Keep the answer of a delivery whose turn is over."""
        key = delivery.key
        if key is not None:
            self._stored[key] = None
            self._stored.move_to_end(key)
            while len(self._stored) > self._limits.max_finished:
                self._stored.popitem(last=False)
            reply = delivery.reply.SerializeToString() if delivery.reply is not None else None
            values = (*key, time.time(), delivery.owner, delivery.task_id, reply, len(reply or b""))
            self._since += 1
            # Counting takes longer than storing: a few may be over the limit for a while.
            limits = self._limits if self._since % _EVICT_EVERY == 0 else None
            try:
                await self._state.later(lambda db: _store(db, values, limits), "the answer to a message")
            except StateFileError as exc:
                logger.error("the answer to a message was not stored: %s", exc)  # noqa: TRY400 - the reason is in the text
        self.release(delivery)

    async def _find(self, key: Key) -> tuple[str, bytes | None] | None:
        oldest = time.time() - self._limits.max_age
        try:
            return await self._state.run(
                lambda db: db.execute(
                    "SELECT task_id, reply FROM answers WHERE caller = ? AND message_id = ? AND content = ? AND answered >= ?",
                    (*key, oldest),
                ).fetchone()
            )
        except StateFileError as exc:
            logger.error("an answered message cannot be looked up: %s", exc)  # noqa: TRY400 - the reason is in the text
            return None


def is_patient(context: ServerCallContext) -> bool:
    """Tell whether a sender wants the answer and nothing less; a 0.3 sender that says nothing about it does not."""
    return not context.state.get(_IMPATIENT)


def be_impatient(context: ServerCallContext) -> None:
    """Note that the sender of this call takes an acknowledgement as well."""
    context.state[_IMPATIENT] = True


def key_of(params: SendMessageRequest, context: ServerCallContext) -> Key | None:
    """Return what a message is recognised by, or None for one without an id."""
    message = params.message
    if not message.message_id:
        return None
    # Who the sender says it is does not prove anything; it only keeps the ids of two honest senders apart.
    claimed = message.metadata["source_workspace_id"] if "source_workspace_id" in message.metadata else ""  # noqa: SIM401 - a Struct has no get()
    content = Message(
        role=message.role,
        context_id=message.context_id,
        task_id=message.task_id,
        parts=message.parts,
        reference_task_ids=message.reference_task_ids,
    )
    digest = hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
    caller = f"{context.tenant}\n{resolve_user_scope(context)}\n{claimed if isinstance(claimed, str) else ''}"
    return caller, message.message_id, digest


def _store(db: sqlite3.Connection, values: tuple[object, ...], limits: TaskLimits | None) -> None:
    db.execute(
        "INSERT OR REPLACE INTO answers (caller, message_id, content, answered, owner, task_id, reply, bytes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    if limits is not None:
        _evict(db, limits)


def _evict(db: sqlite3.Connection, limits: TaskLimits) -> None:
    db.execute("DELETE FROM answers WHERE answered < ?", (time.time() - limits.max_age,))
    count, size = db.execute("SELECT count(*), total(bytes) FROM answers").fetchone()
    while count > 1 and (count > limits.max_finished or size > limits.max_bytes):
        number, freed = db.execute("SELECT number, bytes FROM answers ORDER BY number LIMIT 1").fetchone()
        db.execute("DELETE FROM answers WHERE number = ?", (number,))
        count, size = count - 1, size - freed
