"""stdin and stdout as the streams of an MCP session: the SDK's transport, with an end that leaves no request unanswered."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from mcp import types
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType
    from typing import Self

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared._stream_protocols import ReadStream, WriteStream

    Incoming = SessionMessage | Exception

DRAIN_SECONDS = 1.0
"""How long requests under way may still take when stdin has ended; clients wait about two seconds before they send a signal."""


@asynccontextmanager
async def session_streams() -> AsyncGenerator[tuple[MemoryObjectReceiveStream[Incoming], Answers]]:
    """Open stdin and stdout for one session.

    The SDK cancels what is under way as soon as stdin ends, so `printf ... | molecule-mcp` would not answer its last lines; here the
    end is passed on when the answers are out.
    """
    async with stdio_server() as (read_stream, write_stream):
        answers = Answers(write_stream)
        sender, receiver = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        async with sender, receiver, anyio.create_task_group() as group:
            group.start_soon(_relay, read_stream, sender, answers)
            yield receiver, answers
            group.cancel_scope.cancel()


class Answers:
    """The stream of outgoing messages, which knows the requests that have no answer yet."""

    def __init__(self, stream: WriteStream[SessionMessage]) -> None:
        self._stream = stream
        self._open: set[types.RequestId] = set()
        self._changed = anyio.Event()

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
            case _:
                pass

    async def all_sent(self) -> None:
        """Wait until every request was answered."""
        while self._open:
            await self._changed.wait()

    async def send(self, item: SessionMessage, /) -> None:
        """Write one message."""
        await self._stream.send(item)
        if isinstance(item.message, (types.JSONRPCResponse, types.JSONRPCError)) and item.message.id is not None:
            self._settle(item.message.id)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

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


async def _relay(source: ReadStream[Incoming], sink: MemoryObjectSendStream[Incoming], answers: Answers) -> None:
    async with source, sink:
        async for item in source:
            answers.expect(item)
            await sink.send(item)
        with anyio.move_on_after(DRAIN_SECONDS):
            await answers.all_sent()
