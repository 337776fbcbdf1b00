"""The first prompt: one turn in the life of a workspace, once it is ready (contract `workspace-host.md` 5.4).

It is marked done when its turn begins, before the agent sees it: a host that is killed earlier sends it again, one that is killed later
does not. Attempts are counted on disk, so that a host which dies each time before that ends its attempts too.
"""

from __future__ import annotations

import json
import logging
import os
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
import anyio.to_thread

from molecule_runtime.core import envelope
from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from molecule_runtime.a2a.self_messages import SelfMessages

logger = logging.getLogger(__name__)

DONE_NAME = ".initial_prompt_done"
"""As the predecessor named it, with its content: what it marked is done (contract `workspace-host.md` 3)."""

DONE = "attempted"
ATTEMPTS_NAME = ".initial_prompt_attempts"

MAX_ATTEMPTS = 5
"""Over all starts of the workspace."""

ANSWER_SECONDS = 600.0
"""Contract `workspace-host.md` 5.4. The turn may go on for longer."""

KIND = "initial_prompt"

_LOOK_SECONDS = 0.2
_MAX_BACKOFF = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt: its number, from 1, and the message id that all of them have."""

    number: int
    message_id: str


class Marker:
    """What is on disk about the first prompt. Blocking, so for a worker thread.

    Done counts in any of `folders`; it is written to the first of them that can be written.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def done(self) -> bool:
        """Tell whether the prompt was accepted, by this host or by its predecessor."""
        return any((folder / DONE_NAME).exists() for folder in self._folders)

    def begin(self) -> Attempt | None:
        """Count an attempt; None when there were enough.

        Raises:
            OSError: it cannot be counted.
        """
        path = self._folder() / ATTEMPTS_NAME
        known = _read(path)
        count, message_id = known.get("attempts"), known.get("message_id")
        number = count + 1 if isinstance(count, int) else 1
        if number > MAX_ATTEMPTS:
            return None
        attempt = Attempt(
            number=number,
            message_id=message_id if isinstance(message_id, str) and message_id else f"initial-{uuid.uuid4()}",
        )
        write_private(path, json.dumps({"attempts": attempt.number, "message_id": attempt.message_id}))
        return attempt

    def accepted(self) -> None:
        """Mark the prompt done.

        Raises:
            OSError: it cannot be marked.
        """
        folder = self._folder()
        write_private(folder / DONE_NAME, DONE)
        (folder / ATTEMPTS_NAME).unlink(missing_ok=True)

    def _folder(self) -> Path:
        for folder in self._folders:
            if folder.is_dir() and os.access(folder, os.W_OK):
                return folder
        raise OSError(f"none of {', '.join(map(str, self._folders))} can be written")


class InitialPrompt:
    """Sends the first prompt. `ready` tells whether the workspace takes messages."""

    def __init__(self, messages: SelfMessages, marker: Marker, text: str, ready: Callable[[], bool]) -> None:
        self._messages = messages
        self._marker = marker
        self._text = text
        self._ready = ready
        self._accepted = False

    async def run(self) -> None:
        """Send it where that is still to be done, and return when it was accepted or is given up."""
        if not self._text or await anyio.to_thread.run_sync(self._marker.done):
            return
        while not self._accepted:
            while not self._ready():  # noqa: ASYNC110 - it changes on the presence thread
                await anyio.sleep(_LOOK_SECONDS)
            try:
                attempt = await anyio.to_thread.run_sync(self._marker.begin)
            except OSError as exc:
                # Sent all the same, it would be sent at each start.
                logger.error("the initial prompt is not sent, since that cannot be noted: %s", exc)  # noqa: TRY400 - the reason is in the text
                return
            if attempt is None:
                logger.error(
                    "the initial prompt was sent %d times in vain and is given up; remove %s to try again",
                    MAX_ATTEMPTS,
                    ATTEMPTS_NAME,
                )
                return
            answer = await self._messages.send(
                self._text,
                message_id=attempt.message_id,
                kind=KIND,
                seconds=ANSWER_SECONDS,
                on_begin=self._accept,
            )
            if isinstance(answer, envelope.Failure):
                logger.warning("the initial prompt failed (attempt %d): %s", attempt.number, answer.message)
            if isinstance(answer, envelope.Reply):
                # Also one that an earlier attempt of another process got.
                await self._accept()
            if not self._accepted:
                await anyio.sleep(min(2.0**attempt.number, _MAX_BACKOFF) * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def _accept(self) -> None:
        if self._accepted:
            return
        self._accepted = True
        try:
            await anyio.to_thread.run_sync(self._marker.accepted)
        except OSError as exc:
            logger.error("the initial prompt may be sent again at the next start: %s", exc)  # noqa: TRY400 - the reason is in the text
        else:
            logger.info("the initial prompt was accepted")


def _read(path: Path) -> dict[str, object]:
    try:
        read: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return cast("dict[str, object]", read) if isinstance(read, dict) else {}
