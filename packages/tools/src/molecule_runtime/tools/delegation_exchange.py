"""One exchange with a peer: the task goes out once, and its answer is looked for until it is there, whoever still waits for it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import anyio

from molecule_runtime.core import delegation_chain, envelope
from molecule_runtime.core.errors import (
    PlatformError,
    PlatformTimeoutError,
    UnavailableError,
    UnexpectedResponseError,
)
from molecule_runtime.tools import delegation_records as records
from molecule_runtime.tools.delegation_following import Following
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.journal import Owner

if TYPE_CHECKING:
    from molecule_runtime.core.platform.client import PlatformClient
    from molecule_runtime.core.registry.arguments import DelegateTask
    from molecule_runtime.tools.context import Call, Progress

GRACE_SECONDS: Final = 15.0
"""On top of the time of a delegation, for what is written down at its end."""

_RELEASE_SECONDS: Final = 2.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How far an exchange came.

    Attributes:
        answer: what came back.
        uncertain: it failed, and nobody knows whether the task arrived.
    """

    answer: envelope.Answer
    uncertain: bool = False


class Exchange:
    """A task of ours and what a peer makes of it.

    Args:
        call: of `delegate_task`.
        client: of the workspace that gives the task.
        entry: the journal's row of it.
        name: of the peer.
    """

    def __init__(self, call: Call[DelegateTask], client: PlatformClient, entry: records.Entry, name: str) -> None:
        self._call = call
        self._client = client
        self._entry = entry
        self._name = name
        self._owner = Owner.of(client)

    async def wait(self) -> Ended | None:
        """Return how it ended; None after `ToolContext.max_wait`, and then it goes on and its answer goes into the journal."""
        context = self._call.context
        if context.max_wait is None or context.background is None:
            return await self._run(self._call.progress)
        try:
            running = context.background.start(
                (self._owner, self._entry.delegation_id),
                self._run_and_keep,
                seconds=context.delegation_timeout + GRACE_SECONDS,
            )
        except ToolRefusedError:
            await self._release()
            raise
        ended = await running.wait(self._call.held(context.delegation_timeout + GRACE_SECONDS), self._call.progress)
        return running.outcome() if ended else None

    async def _run_and_keep(self, progress: Progress) -> Ended:
        ended = await self._run(progress)
        answer = ended.answer
        journal, delegation_id = self._call.context.journal, self._entry.delegation_id
        if isinstance(answer, envelope.Reply):
            text = _text_of(answer)
            await journal.run(lambda db: records.answered(db, self._owner, delegation_id, "completed", text))
        elif isinstance(answer, envelope.Failure) and not ended.uncertain:
            reason = answer.message
            await journal.run(lambda db: records.answered(db, self._owner, delegation_id, "failed", reason))
        return ended

    async def _run(self, progress: Progress) -> Ended:
        following = Following(dataclasses.replace(self._call, progress=progress), self._client, self._entry, self._name)
        try:
            async with following.progress():
                ended = await self._ask()
                if isinstance(ended.answer, envelope.Accepted):
                    ended = Ended(answer=await following.until_answered(ended.answer))
        except anyio.get_cancelled_exc_class():
            await self._release()
            raise
        await following.log(ended.answer)
        return ended

    async def _ask(self) -> Ended:
        """Send the task, unless the platform has it already. The id of the delegation is that of the message, however often it is sent."""
        entry = self._entry
        if entry.state == "queued":
            return Ended(answer=envelope.Accepted(mode="busy" if entry.queue_id else "poll", queue_id=entry.queue_id))
        metadata = {
            "delegation_id": entry.delegation_id,
            delegation_chain.METADATA_KEY: delegation_chain.handed_on_by(
                self._client.target.id, self._call.came_through
            ),
        }
        try:
            answer = await self._client.send_message(
                entry.target_id,
                self._call.arguments.task,
                message_id=entry.delegation_id,
                metadata=metadata,
                timeout=self._call.context.delegation_timeout,
            )
        except PlatformError as exc:
            await gave_up(self._call, self._client, entry, exc)
            return Ended(answer=envelope.Failure(message=str(exc)), uncertain=may_have_arrived(exc))
        return Ended(answer=answer)

    async def _release(self) -> None:
        """Let the same call, made again, be this delegation: its caller went away, and the peer may be at work on it."""
        with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
            await self._call.context.journal.run(
                lambda db: records.released(db, self._owner, self._entry.delegation_id)
            )


async def gave_up(call: Call[Any], client: PlatformClient, entry: records.Entry, exc: PlatformError) -> None:
    """Note that a task could not be sent, or that nobody knows whether it was."""
    state: records.State = "unknown" if may_have_arrived(exc) else "failed"
    await call.context.journal.run(lambda db: records.moved(db, Owner.of(client), entry.delegation_id, state))


def may_have_arrived(exc: PlatformError) -> bool:
    """Tell whether a request may have been taken although it failed."""
    if isinstance(exc, UnavailableError):
        return exc.delivered is not False
    return isinstance(exc, (PlatformTimeoutError, UnexpectedResponseError))


def _text_of(reply: envelope.Reply) -> str:
    """Return what the journal keeps of an answer: its text, and what its files are called and where they are."""
    files = [f"[file {file.name or '(no name)'}: {file.uri}]" for file in reply.files]
    return "\n".join([reply.text, *files] if reply.text or not files else files)
