"""A person's conversation with one agent: sends a message and gets the answer, in whatever way the agent gives it.

An agent that is called answers at once, or later when the turn is long or it is busy; one that polls writes to the person when it has read
its inbox. The events only say that something happened. What it was is read from the activity of the workspace, so nothing is lost or
taken twice, whatever becomes of the connection.
"""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import anyio

from molecule_runtime.core import console
from molecule_runtime.core.envelope import Accepted, Failure, File, Reply, message_send, read_answer, read_message
from molecule_runtime.localplatform.commands.remote import path_of, rows
from molecule_runtime.localplatform.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from molecule_runtime.core.envelope import Answer
    from molecule_runtime.localplatform.commands.frames import Frame, Link

    Row = dict[str, Any]

T = TypeVar("T")

_LOOK_SECONDS = 2.0
"""How often a queued message is looked at when no event comes."""

_READY_SECONDS = 15.0
_REMEMBERED = 100
_MAX_LISTED = 500


class Listener(Protocol):
    """Is told what happens beside the answer."""

    def message(self, said: Reply, *, late: bool = False) -> None:
        """Take what the agent said on its own account, or (`late`) its answer after nobody waited any more."""
        ...

    def request(self, row: Row) -> None:
        """Take what the agent asks of the person."""
        ...

    def waiting(self, why: str) -> None:
        """Take the reason why the answer is not there yet."""
        ...


@dataclass(slots=True, kw_only=True)
class _Turn:
    """A message that was sent.

    Attributes:
        polls: the agent reads its inbox, and answers by writing to the person.
        said: what it wrote.
        row: what the activity says of the turn, once it has ended.
        whole: the answer as an event carried it: the activity does not keep what is very large.
    """

    id: str
    polls: bool
    said: Reply | None = None
    row: Row | None = None
    whole: Row | None = None
    changed: anyio.Event = field(default_factory=anyio.Event)


class Conversation:
    """Talks to one agent; `serve` must run for as long as it is used."""

    def __init__(self, workspace_id: str, name: str, listener: Listener) -> None:
        self.name = name
        self._id = workspace_id
        self._listener = listener
        self._link: Link | None = None
        self._linked = anyio.Event()
        self._news = anyio.Event()
        self._looking = anyio.Lock()
        self._seq: int | None = None
        self._turn: _Turn | None = None
        self._left: deque[str] = deque(maxlen=_REMEMBERED)
        self._asked: deque[str] = deque(maxlen=_MAX_LISTED)

    async def serve(self, link: Link) -> None:
        """Use a connection until it ends."""
        if self._seq is None:
            newest = rows(await link.get("/admin/activity", workspace_id=self._id, limit=1))
            self._seq = int(newest[-1]["seq"]) if newest else 0
        await self._look(link)
        self._link = link
        self._linked.set()
        try:
            async with anyio.create_task_group() as group:

                async def read_news() -> None:
                    # The platform went away between an event and the list: the next connection reads on from here.
                    with contextlib.suppress(CommandError):
                        await self._read_news(link)
                    group.cancel_scope.cancel()

                group.start_soon(read_news)
                async with contextlib.aclosing(link.frames()) as frames:
                    async for frame in frames:
                        if frame.workspace_id == self._id:
                            self._keep_answer(frame)
                            self._news.set()
                group.cancel_scope.cancel()
        finally:
            self._link = None
            self._linked = anyio.Event()

    async def ready(self) -> None:
        """Wait until nothing that happens from now on is missed.

        Raises:
            CommandError: the platform went away first.
        """
        with anyio.move_on_after(_READY_SECONDS) as scope:
            await self._connected()
        if scope.cancelled_caught:
            raise CommandError("the platform went away; start it again with: molecule-local up")

    async def ask(self, text: str, files: list[Path], *, seconds: float) -> Reply:
        """Send a message and return the answer.

        Raises:
            CommandError: it could not be sent, the agent failed, or it did not answer in time.
        """
        turn: _Turn | None = None
        try:
            with anyio.fail_after(seconds):
                link = await self._connected()
                row = cast("Row", await link.get(path_of("workspaces", self._id)))
                uploaded = await self._upload(link, files)
                turn = self._turn = _Turn(id=str(uuid.uuid4()), polls=row.get("delivery_mode") == "poll")
                body = message_send(text, message_id=turn.id, files=uploaded)
                sent = await link.post(path_of("workspaces", self._id, "a2a"), body, patient=True)
                answer = await self._outcome(turn, read_answer(sent))
                # What the agent wrote and asked before it answered belongs before the answer.
                with contextlib.suppress(CommandError), anyio.move_on_after(_LOOK_SECONDS):
                    await self._look(await self._connected())
        except TimeoutError:
            self._leave(turn)
            raise CommandError(
                f"{self.name} did not answer within {seconds:g} s; what it answers later is in: molecule-local logs {self._id}"
            ) from None
        except anyio.get_cancelled_exc_class():
            self._leave(turn)
            raise
        finally:
            self._turn = None
        if isinstance(answer, Failure):
            raise CommandError(f"{self.name} failed: {console.one_line(answer.message)}")
        return answer

    async def new_session(self) -> None:
        """Begin a new chat session: the agent's next turn does not continue the last one.

        Raises:
            CommandError: the platform did not do it.
        """
        link = await self._connected()
        await link.post(path_of("workspaces", self._id, "chat-session", "new"), {})

    async def _outcome(self, turn: _Turn, answer: Answer) -> Reply | Failure:
        if not isinstance(answer, Accepted):
            return answer
        if answer.mode == "poll":
            turn.polls = True
            self._listener.waiting(f"{self.name} reads its inbox; waiting for what it says")
            return await self._until(turn, lambda: turn.said)
        if answer.queue_id:
            self._listener.waiting(f"{self.name} is busy; the message waits in its queue")
            return await self._outcome(turn, await self._dequeued(turn, answer.queue_id))
        self._listener.waiting(f"{self.name} is still at work; waiting for its answer")
        return await self._outcome(turn, await self._until(turn, lambda: _late_answer(turn)))

    async def _dequeued(self, turn: _Turn, queue_id: str) -> Answer:
        """Wait until a queued message was delivered, and return the agent's answer."""
        while True:
            link = await self._connected()
            try:
                row = cast("Row", await link.get(path_of("workspaces", self._id, "a2a", "queue", queue_id)))
            except CommandError as exc:
                if exc.status is not None:
                    raise
                row = {}  # the platform is gone for now
            if row.get("status") == "completed":
                return _decoded(row.get("response_body"))
            if row.get("status") in {"failed", "dropped"}:
                return Failure(message=str(row.get("last_error") or "the message was not delivered"))
            with anyio.move_on_after(_LOOK_SECONDS):
                await turn.changed.wait()
            turn.changed = anyio.Event()

    async def _until(self, turn: _Turn, ready: Callable[[], T | None]) -> T:
        while (found := ready()) is None:
            await turn.changed.wait()
            turn.changed = anyio.Event()
        return found

    async def _connected(self) -> Link:
        while (link := self._link) is None:
            await self._linked.wait()
        return link

    async def _upload(self, link: Link, files: list[Path]) -> list[File]:
        if not files:
            return []
        answer = await link.upload(path_of("workspaces", self._id, "chat", "uploads"), files)
        stored = rows(cast("Row", answer).get("files")) if isinstance(answer, dict) else []
        # The platform names them as the agent will find them; the reader of messages reads them as it reads parts.
        found = read_message({"parts": [{"kind": "file", "file": file} for file in stored]}).files
        if len(found) != len(files):
            raise CommandError(
                f"the platform stored {len(found)} of {console.count(len(files), 'file')}; nothing was sent"
            )
        return list(found)

    def _keep_answer(self, frame: Frame) -> None:
        turn, body = self._turn, frame.payload.get("response_body")
        if turn is None or frame.event != "A2A_RESPONSE" or not isinstance(body, dict):
            return
        answer = cast("Row", body)
        if answer.get("id") == turn.id:
            turn.whole = answer
            turn.changed.set()

    async def _read_news(self, link: Link) -> None:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self._look(link)
            if self._turn is not None:
                self._turn.changed.set()

    async def _look(self, link: Link) -> None:
        """Take what happened since the last look, in the order in which it happened."""
        async with self._looking:
            happened: list[Row] = []
            asked: list[Row] = []
            try:
                await self._read_rows(link, happened)
                asked = await self._new_requests(link)
                if asked:
                    # What came between the two lists may have come before what was asked.
                    await self._read_rows(link, happened)
            finally:
                # The platform may go away in between; what was read is taken all the same.
                news = [(str(row.get("created_at")), self._take, row) for row in happened]
                news += [(str(row.get("created_at")), self._listener.request, row) for row in asked]
                for _, take, row in sorted(news, key=lambda item: item[0]):
                    take(row)

    async def _read_rows(self, link: Link, found: list[Row]) -> None:
        while page := rows(await link.get("/admin/activity", workspace_id=self._id, since_seq=self._seq)):
            found += page
            self._seq = int(page[-1]["seq"])

    async def _new_requests(self, link: Link) -> list[Row]:
        found = [
            row
            for row in reversed(rows(await link.get("/requests/pending", limit=_MAX_LISTED)))
            if row.get("requester_id") == self._id and row["id"] not in self._asked
        ]
        self._asked.extend(str(row["id"]) for row in found)
        return found

    def _take(self, row: Row) -> None:
        turn = self._turn
        if row.get("method") == "notify":
            said = _message_in(row)
            if turn is not None and turn.polls and turn.said is None:
                turn.said = said
            else:
                self._listener.message(said)
            return
        if row.get("activity_type") != "a2a_receive" or not _has_ended(row):
            return
        message_id = read_message(row.get("request_body")).message_id
        if turn is not None and message_id == turn.id:
            turn.row = row
        elif message_id in self._left:
            self._left.remove(message_id)
            answer = _answer_in(row)
            said = answer if isinstance(answer, Reply) else Reply(text=f"failed: {getattr(answer, 'message', '')}")
            self._listener.message(said, late=True)

    def _leave(self, turn: _Turn | None) -> None:
        if turn is not None:
            self._left.append(turn.id)


def _has_ended(row: Row) -> bool:
    return row.get("response_body") is not None or row.get("status") == "error"


def _late_answer(turn: _Turn) -> Answer | None:
    if turn.whole is not None:
        return read_answer(turn.whole)
    # Of one that is too large to be kept, the event brings all.
    return None if turn.row is None or _is_cut(turn.row) else _answer_in(turn.row)


def _answer_in(row: Row) -> Answer:
    """Read the answer from the record of a turn."""
    if row.get("status") == "error" and row.get("error_detail"):
        return Failure(message=str(row["error_detail"]))
    if _is_cut(row):
        return Reply(text="(the answer is too large for the log)")
    return read_answer(row.get("response_body"))


def _is_cut(row: Row) -> bool:
    body = row.get("response_body")
    return isinstance(body, dict) and "result" not in body and cast("Row", body).get("truncated") is True


def _message_in(row: Row) -> Reply:
    """Read what an agent wrote to the person (contract 7.3)."""
    body = row.get("response_body")
    stored = cast("Row", body) if isinstance(body, dict) else {}
    return Reply(text=str(stored.get("result") or ""), files=read_message(stored).files)


def _decoded(body: object) -> Answer:
    try:
        return read_answer(json.loads(base64.b64decode(str(body or ""))))
    except (ValueError, RecursionError):
        return Failure(message="its answer cannot be read")
