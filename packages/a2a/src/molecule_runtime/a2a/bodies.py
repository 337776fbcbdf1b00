"""The body of a request on its way in: its announced size, a deadline for its arrival, and what is left of it when it is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from molecule_runtime.a2a.refusals import CLOSE, Refusal

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope

_DRAIN_SECONDS = 5.0
_DRAIN_BYTES = 64 * 1024 * 1024


class Body:
    """The `receive` of one request, with one deadline for all of its body.

    Attributes:
        more: whether something of the body has not been received yet.
    """

    def __init__(self, scope: Scope, receive: Receive, *, seconds: float) -> None:
        self.more = has_body(scope)
        self._receive = receive
        self._seconds = seconds
        self._deadline = anyio.current_time() + seconds
        # Such a client waits to be told to go on, and is not.
        self._unsent = bool(header_values(scope, b"expect"))

    async def receive(self) -> Message:
        """Give the next message on.

        Raises:
            Refusal: 408, the body takes too long.
        """
        if not self.more:
            # From here on it waits for the client to go away.
            return await self._receive()
        self._unsent = False
        try:
            with anyio.fail_after(self._deadline - anyio.current_time()):
                message = await self._receive()
        except TimeoutError:
            self.more = False
            hint = f"send the whole body within {self._seconds:g} s"
            raise Refusal(408, "the body did not arrive in time", hint=hint, headers=CLOSE) from None
        self.more = bool(message.get("more_body", False))
        return message

    async def whole(self, most: int) -> Receive:
        """Take all of it, so that whoever reads it next neither waits for a slow sender nor holds more than `most` bytes.

        Raises:
            Refusal: 408, it takes too long; 413, it is larger.
        """
        pieces: list[bytes] = []
        size = 0
        while self.more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                return _first(message, self._receive)
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > most:
                raise too_large(most)
        return _first({"type": "http.request", "body": b"".join(pieces), "more_body": False}, self._receive)

    async def drain(self) -> None:
        """Read what is still on its way: closing a connection with unread bytes resets it, and the answer is lost on its way."""
        if self._unsent:
            return
        size = 0
        with anyio.move_on_after(_DRAIN_SECONDS):
            while self.more and size <= _DRAIN_BYTES:
                message = await self._receive()
                size += len(message.get("body", b""))
                self.more = bool(message.get("more_body", False))


def has_body(scope: Scope) -> bool:
    """Tell whether a request announces a body."""
    return bool(header_values(scope, b"transfer-encoding")) or (declared_size(scope) or 0) > 0


def declared_size(scope: Scope) -> int | None:
    """Return the announced size of the body, where there is one."""
    values = header_values(scope, b"content-length")
    return int(values[0][:20]) if values and values[0].isdigit() else None


def too_large(most: int) -> Refusal:
    """Return the refusal of a body that is larger than `most` bytes."""
    return Refusal(413, "the body is too large", max_bytes=most, hint=f"send at most {most} bytes", headers=CLOSE)


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Return every value of a header."""
    return [value for key, value in scope["headers"] if key == name]


def _first(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
