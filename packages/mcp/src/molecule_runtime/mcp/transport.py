"""stdin and stdout as the streams of an MCP session, with an end that leaves no request unanswered.

Instead of the SDK's own transport: it takes over what came in before the SDK was loaded, answers lines that are no messages, and its
reading thread holds nothing up when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import select
import stat
from contextlib import asynccontextmanager
from os import fstat
from typing import TYPE_CHECKING, Any, cast

import anyio
import mcp_types as types
from mcp.shared.message import SessionMessage

from molecule_runtime.mcp.wire import MAX_LINE, Intake, Line, TooLong, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from types import TracebackType
    from typing import Self

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from molecule_runtime.mcp.early_calls import EarlyCalls

    Incoming = SessionMessage | Exception

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 1.0
"""How long requests under way may still take when stdin has ended; clients wait about two seconds before they send a signal."""

REPLAY_SECONDS = 10.0
"""How long the session may take over the handshake that was answered before it was there."""

_PIPE_BYTES = 4096
"""What a pipe that is ready takes at once (POSIX promises 512, Linux has 4,096)."""

_ID_TYPES = (str, int)


@asynccontextmanager
async def session_streams(
    intake: Intake | None = None, replay: Sequence[tuple[bytes, bytes | None]] = (), early: EarlyCalls | None = None
) -> AsyncGenerator[tuple[MemoryObjectReceiveStream[Incoming], Answers]]:
    """Open stdin and stdout for one session.

    The SDK cancels what is under way as soon as stdin ends, so `printf ... | molecule-mcp` would not answer its last lines; here the
    end is passed on when the answers are out.

    Args:
        intake: reads the lines already; None to take stdin and stdout now.
        replay: lines that were dealt with before, each with the answer that the client got, None for a notification. The session
            gets them first, and what it answers goes nowhere.
        early: the calls that are answered without the session.
    """
    if intake is None:
        intake = Intake(Wire.claim())
        intake.start()
    sender, receiver = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    async with sender, receiver, anyio.create_task_group() as group:
        answers = Answers(intake.wire, group.cancel_scope, early)
        group.start_soon(_relay, intake, replay, sender, answers)
        yield receiver, answers
        group.cancel_scope.cancel()


class Answers:
    """The stream of outgoing messages, which knows the requests that have no answer yet."""

    def __init__(self, wire: Wire, session: anyio.CancelScope, early: EarlyCalls | None = None) -> None:
        self._wire = wire
        self._session = session
        self._open: set[types.RequestId] = set()
        self._changed = anyio.Event()
        self._replayed: dict[types.RequestId, bytes] = {}
        self._turn = anyio.Lock()
        self.first = anyio.Event()
        """Set when the client got its first answer from this session."""
        self._early = early
        if early is not None and early.answered:
            self.first.set()
        self._ready: select.poll | None = None
        if stat.S_ISFIFO(fstat(wire.writing).st_mode):
            self._ready = select.poll()
            self._ready.register(wire.writing, select.POLLOUT)

    def expect(self, item: Incoming) -> None:
        """Note what an incoming message asks for."""
        message = item.message if isinstance(item, SessionMessage) else None
        match message:
            case types.JSONRPCRequest():
                self._open.add(message.id)
            case types.JSONRPCNotification(
                method="notifications/cancelled", params={"requestId": str() | int() as known}
            ):
                # A cancelled request is never answered.
                self._settle(known)
                if self._early is not None:
                    self._early.cancel(known)
            case _:
                pass

    def keep_back(self, request_id: types.RequestId, answered: bytes) -> None:
        """Do not write the answer to this request: the client has it."""
        self._replayed[request_id] = answered

    async def all_sent(self) -> None:
        """Wait until every request was answered."""
        while self._open:
            await self._changed.wait()

    async def drained(self) -> None:
        """Wait until every request was answered, by whomever."""
        await self.all_sent()
        if self._early is not None:
            await self._early.all_answered()

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message.

        Raises:
            anyio.BrokenResourceError: the client does not read any more; the session is cancelled.
        """
        message = item.message
        data = message.model_dump_json(by_alias=True, exclude_unset=True).encode()
        if isinstance(message, (types.JSONRPCResponse, types.JSONRPCError)) and message.id is not None:
            if (before := self._replayed.pop(message.id, None)) is not None:
                if before != data:
                    logger.warning(
                        "the handshake that was answered from prepared data is not what the session would say"
                    )
            else:
                await self.write(data)
                self.first.set()
            self._settle(message.id)
        else:
            await self.write(data)

    async def write(self, data: bytes) -> None:
        """Write one line."""
        try:
            # The turn is for those who leave the loop meanwhile; who writes at once, behind nobody, needs none.
            if not self._turn.locked() and self._takes(data):
                self._wire.write_line(data)
                return
            async with self._turn:
                if self._takes(data):
                    self._wire.write_line(data)
                else:
                    await anyio.to_thread.run_sync(self._wire.write_line, data, abandon_on_cancel=True)
        except OSError as exc:
            self._session.cancel()
            raise anyio.BrokenResourceError from exc

    def _takes(self, data: bytes) -> bool:
        """Tell whether the pipe takes this line without making anybody wait."""
        return len(data) < _PIPE_BYTES and self._ready is not None and bool(self._ready.poll(0))

    async def aclose(self) -> None:
        """Close the stream; the descriptor stays with the process."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _settle(self, request_id: types.RequestId) -> None:
        self._open.discard(request_id)
        self._changed.set()
        self._changed = anyio.Event()


async def _relay(
    intake: Intake,
    replay: Sequence[tuple[bytes, bytes | None]],
    sink: MemoryObjectSendStream[Incoming],
    answers: Answers,
) -> None:
    with contextlib.suppress(anyio.BrokenResourceError):
        async with sink:
            for replayed, answered in replay:
                item = SessionMessage(types.jsonrpc_message_adapter.validate_json(replayed, by_name=False))
                answers.expect(item)
                if answered is not None and isinstance(item.message, types.JSONRPCRequest):
                    answers.keep_back(item.message.id, answered)
                await sink.send(item)
                with anyio.move_on_after(REPLAY_SECONDS):
                    # The session must be where the client believes it to be before it gets anything else.
                    await answers.all_sent()
            async for line in _lines(intake):
                if isinstance(line, bytes) and not line.strip():
                    continue
                try:
                    message = types.jsonrpc_message_adapter.validate_json(_text(line), by_name=False)
                except ValueError:
                    if (problem := _problem(line)) is not None:
                        await answers.write(problem)
                    continue
                item = SessionMessage(message)
                answers.expect(item)
                await sink.send(item)
            with anyio.move_on_after(DRAIN_SECONDS):
                await answers.drained()


async def _lines(intake: Intake) -> AsyncGenerator[Line]:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(arrived.set)

    is_reading = False

    def read() -> None:
        nonlocal is_reading
        if not intake.read():
            is_reading = False
            loop.remove_reader(reading)
        arrived.set()

    reading = intake.wire.reading
    mode = fstat(reading).st_mode
    # Of a file no loop tells when it is ready, and a terminal may be shared with others who read.
    intake.attach(wake, take_over=stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
    try:
        while True:
            await arrived.wait()
            arrived.clear()
            # Before what waits is taken: the thread has put everything there by then.
            takes_over = intake.has_left
            lines, ended = intake.take()
            for line in lines:
                yield line
            if ended:
                return
            if takes_over and not is_reading:
                is_reading = True
                loop.add_reader(reading, read)
    finally:
        loop.remove_reader(reading)


def _text(line: Line) -> bytes:
    if isinstance(line, TooLong):
        raise ValueError("too long")  # noqa: TRY004 - as a line that cannot be parsed
    return line


def _problem(line: Line) -> bytes | None:
    """Return the error that answers a line which is no message; None for a broken answer, which none answers."""
    if isinstance(line, TooLong):
        return _error(None, types.PARSE_ERROR, f"Parse error: the line is longer than {MAX_LINE} bytes")
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return _error(None, types.PARSE_ERROR, "Parse error: the line is no JSON")
    if not isinstance(value, dict):
        return _error(None, types.INVALID_REQUEST, "Invalid Request: a message is one JSON object on one line")
    fields = cast("dict[str, Any]", value)
    known = fields.get("id")
    if "method" not in fields and ("result" in fields or "error" in fields):
        return None
    known = known if isinstance(known, _ID_TYPES) and not isinstance(known, bool) else None
    return _error(known, types.INVALID_REQUEST, "Invalid Request: the object is no JSON-RPC 2.0 message")


def _error(request_id: str | int | None, code: int, message: str) -> bytes:
    # ASCII: an id that holds half a character must not break the stream.
    return json.dumps(
        {"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": message}}, separators=(",", ":")
    ).encode()
