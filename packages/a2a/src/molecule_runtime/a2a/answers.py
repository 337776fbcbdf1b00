"""Brings answers to senders who do not wait on a connection: a person reads them in the chat, a peer gets a message."""

from __future__ import annotations

import logging
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core import envelope
from molecule_runtime.core.errors import (
    AccessDeniedError,
    GoneError,
    InvalidWorkspaceIdError,
    NotFoundError,
    PlatformError,
    PlatformTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    UnavailableError,
)
from molecule_runtime.core.identity import validate_workspace_id
from molecule_runtime.core.platform import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

IN_REPLY_TO = "in_reply_to"
"""In the metadata of an answer that is sent as a message: the id of the one that it answers. It is not answered in turn, or two agents
would talk without end."""

MAX_BACKOFF = 60.0
MAX_WAITING = 256
"""Late answers that wait for a platform that cannot be reached; the next one is lost, and the log says so."""

EMPTY = "(no response generated)"

_TOO_LARGE = "The answer ({characters} characters) is larger than the platform takes; ask for less at once."
_NAMESPACE = uuid.UUID("5d8c0c0e-6f0e-4a53-9c53-3a4f6b6b6e0d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Whom an answer goes to.

    Attributes:
        workspace_id: of a peer; None for a person.
        message_id: of the message that is answered.
        context_id: of the conversation, where the sender named one.
        key: what makes the answer one and the same when it is sent again.
        expects_no_answer: whether the message was an answer itself.
    """

    workspace_id: str | None
    message_id: str
    context_id: str = ""
    key: str = ""
    expects_no_answer: bool = False

    @classmethod
    def of(cls, message: envelope.Inbound, *, workspace_id: str | None, key: str) -> Sender:
        """Read whom the answer to a message goes to."""
        return cls(
            workspace_id=workspace_id or None,
            message_id=message.message_id or key,
            context_id=message.context_id,
            key=key,
            expects_no_answer=bool(message.metadata.get(IN_REPLY_TO)),
        )


class Answers:
    """Delivers answers through the platform, and tries until it took or refused them."""

    def __init__(self, client: PlatformClient) -> None:
        self._client = client
        self._give, self._take = anyio.create_memory_object_stream[tuple[Sender, envelope.Answer]](MAX_WAITING)
        self._running = False
        self._done = anyio.Event()

    async def run(self) -> None:
        """Deliver what was handed over with `later`, until `finish`."""
        self._running = True
        try:
            async with self._take:
                async for sender, answer in self._take:
                    try:
                        await self.deliver(sender, answer)
                    except Exception:  # one answer must not keep the others back
                        logger.exception("the answer to message %s was not delivered", sender.message_id)
        finally:
            self._done.set()

    def later(self, sender: Sender, answer: envelope.Answer) -> None:
        """Have an answer delivered without waiting for it."""
        try:
            self._give.send_nowait((sender, answer))
        except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            logger.error("the answer to message %s is lost: %d wait already", sender.message_id, MAX_WAITING)  # noqa: TRY400

    async def finish(self) -> None:
        """Take no more, and wait for those that were handed over. The caller bounds the wait."""
        self._give.close()
        try:
            if self._running:
                await self._done.wait()
        finally:
            self._take.close()

    async def deliver(self, sender: Sender, answer: envelope.Answer) -> None:
        """Deliver one answer; returns when the platform took it, or will never take it."""
        if sender.expects_no_answer:
            return
        text, files = _content(answer)
        failures = 0
        while True:
            try:
                await self._once(sender, text, files)
            except (PlatformTimeoutError, UnavailableError) as exc:
                if sender.workspace_id and (isinstance(exc, PlatformTimeoutError) or exc.delivered):
                    # The peer has it, and is at work on it.
                    return
                pause = exc.retry_after if isinstance(exc, UnavailableError) else None
            except (AccessDeniedError, NotFoundError, GoneError, InvalidWorkspaceIdError) as exc:
                logger.error("the answer to message %s cannot be delivered: %s", sender.message_id, exc)  # noqa: TRY400
                return
            except RequestRefusedError as exc:
                if failures < 0 or len(text) < 1000:
                    logger.error("the answer to message %s cannot be delivered: %s", sender.message_id, exc)  # noqa: TRY400
                    return
                text, files, failures = _TOO_LARGE.format(characters=len(text)), (), -1
                continue
            except RateLimitedError as exc:
                pause = exc.retry_after
            except PlatformError:
                pause = None
            else:
                return
            failures = max(failures, 0) + 1
            seconds = max(min(2.0**failures, MAX_BACKOFF) * random.uniform(0.8, 1.2), pause or 0)  # noqa: S311 - jitter
            log = logger.warning if failures in {1, 4} or failures % 20 == 0 else logger.debug
            log("the answer to message %s is tried again in %.0f s", sender.message_id, seconds)
            await anyio.sleep(seconds)

    async def _once(self, sender: Sender, text: str, files: tuple[envelope.File, ...]) -> None:
        if sender.workspace_id is None:
            attachments = [
                wire.Attachment(uri=file.uri, name=file.name or "file", mimeType=file.mime_type or None, size=file.size)
                for file in files
            ]
            await self._client.notify(text, attachments=attachments)
            return
        await self._client.send_message(
            validate_workspace_id(sender.workspace_id),
            text,
            # The same each time, so that a peer that is told twice answers once.
            message_id=str(uuid.uuid5(_NAMESPACE, f"{self._client.workspace_id}/{sender.key}")),
            context_id=sender.context_id or None,
            files=files,
            metadata={IN_REPLY_TO: sender.message_id},
        )


def answer_of(result: Mapping[str, Any]) -> envelope.Answer:
    """Read what a turn came to, from its Message or Task as JSON."""
    return envelope.read_answer({"result": result})


def _content(answer: envelope.Answer) -> tuple[str, tuple[envelope.File, ...]]:
    match answer:
        case envelope.Reply():
            return answer.text or ("" if answer.files else EMPTY) or EMPTY, answer.files
        case envelope.Failure():
            return answer.message or EMPTY, ()
        case envelope.Accepted():
            return EMPTY, ()
