"""Brings answers to senders who do not wait on a connection: a person reads them in the chat, a peer gets a message."""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import anyio

from molecule_runtime.a2a.errors import StateFileError
from molecule_runtime.a2a.late_answers import LateAnswers
from molecule_runtime.a2a.senders import IN_REPLY_TO
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
    import asyncio
    from collections.abc import Mapping

    from molecule_runtime.a2a.late_answers import Waiting
    from molecule_runtime.a2a.senders import Sender
    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

MAX_BACKOFF = 60.0
MAX_UNKEPT = 64
"""Answers that wait in memory alone, because they could not be written to the disk."""

NOTIFY = "notify"
"""The method of a row that holds what this workspace said to its user (contract `platform-api.md` 7.3)."""

_AGAIN_SECONDS = 5.0
_SKEW_SECONDS = 300
"""By which the clocks of the platform and of this machine may differ."""

_ROWS = 200

EMPTY = "(no response generated)"

_TOO_LARGE = "The answer ({characters} characters) is larger than the platform takes; ask for less at once."
_NAMESPACE = uuid.UUID("5d8c0c0e-6f0e-4a53-9c53-3a4f6b6b6e0d")


class Answers:
    """Delivers answers through the platform, and tries until it took or refused them."""

    def __init__(self, client: PlatformClient, state: StateFile) -> None:
        self._client = client
        self._late = LateAnswers(state, client)
        self._unkept: deque[tuple[Sender, envelope.Answer]] = deque()
        self._more = anyio.Event()
        self._finishing = False
        self._running = False
        self._done = anyio.Event()

    async def run(self) -> None:
        """Deliver what was handed over with `later`, also to an earlier process, until `finish`."""
        self._running = True
        try:
            while True:
                self._more = anyio.Event()
                if await self._deliver_next():
                    continue
                if self._finishing:
                    return
                await self._more.wait()
        finally:
            self._done.set()

    def later(self, sender: Sender, answer: envelope.Answer) -> None:
        """Have an answer delivered without waiting for it; a process that ends before that leaves it to the next one."""
        if sender.expects_no_answer:
            return
        try:
            kept = self._late.add(sender, answer)
        except StateFileError as exc:
            self._unkept_because(exc, sender, answer)
            return
        kept.add_done_callback(lambda future: self._kept(future, sender, answer))

    def _kept(self, future: asyncio.Future[bool], sender: Sender, answer: envelope.Answer) -> None:
        if not future.cancelled():
            if (error := future.exception()) is not None:
                self._unkept_because(error, sender, answer)
            elif not future.result():
                logger.error("the answer to message %s is lost: too many wait already", sender.message_id)
        self._more.set()

    def _unkept_because(self, error: BaseException, sender: Sender, answer: envelope.Answer) -> None:
        """Deliver an answer all the same, when it cannot be kept: a full disk, for one."""
        if len(self._unkept) >= MAX_UNKEPT:
            logger.error("the answer to message %s is lost: %s", sender.message_id, error)
            return
        logger.warning("the answer to message %s would not survive a restart: %s", sender.message_id, error)
        self._unkept.append((sender, answer))
        self._more.set()

    async def _deliver_next(self) -> bool:
        """Deliver one answer; False when none waits."""
        try:
            if self._unkept:
                sender, answer = self._unkept.popleft()
                await self.deliver(sender, answer)
                return True
            waiting = await self._late.next()
            if waiting is None:
                return False
            try:
                if not await self._was_said(waiting):
                    await self._late.begin(waiting)
                    await self.deliver(waiting.sender, waiting.answer)
            except StateFileError:
                raise
            except Exception:  # one answer must not keep the others back
                logger.exception("the answer to message %s was not delivered", waiting.sender.message_id)
            await self._late.done(waiting)
        except StateFileError as exc:
            logger.error("answers wait: %s", exc)  # noqa: TRY400 - the reason is in the text
            await anyio.sleep(_AGAIN_SECONDS)
            return not self._finishing
        return True

    async def _was_said(self, waiting: Waiting) -> bool:
        """Whether a person has the answer, from a process that ended before it noted that.

        A peer knows a message that comes twice by its id. For a person the platform offers nothing of the kind, but it shows what was said.
        """
        if waiting.begun is None or waiting.sender.workspace_id is not None:
            return False
        text, _ = _content(waiting.answer)
        since = int(max(0.0, time.time() - waiting.begun)) + _SKEW_SECONDS
        try:
            rows = await self._client.activity(type="a2a_receive", since_secs=since, limit=_ROWS)
        except PlatformError as exc:
            logger.warning("the answer to message %s may be said twice: %s", waiting.sender.message_id, exc)
            return False
        return any(row.method == NOTIFY and _said(row.response_body) == text for row in rows)

    async def finish(self) -> None:
        """Wait for those that were handed over, and end. The caller bounds the wait; what is left is for the next process."""
        self._finishing = True
        self._more.set()
        if self._running:
            await self._done.wait()

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
                logger.error("the answer to message %s cannot be delivered: %s", sender.message_id, exc)  # noqa: TRY400 - the reason is in the text
                return
            except RequestRefusedError as exc:
                if failures < 0 or len(text) < 1000:
                    logger.error("the answer to message %s cannot be delivered: %s", sender.message_id, exc)  # noqa: TRY400 - the reason is in the text
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


def _said(body: object) -> object:
    return cast("dict[str, Any]", body).get("result") if isinstance(body, dict) else None


def _content(answer: envelope.Answer) -> tuple[str, tuple[envelope.File, ...]]:
    match answer:
        case envelope.Reply():
            return answer.text or ("" if answer.files else EMPTY) or EMPTY, answer.files
        case envelope.Failure():
            return answer.message or EMPTY, ()
        case envelope.Accepted():
            return EMPTY, ()
