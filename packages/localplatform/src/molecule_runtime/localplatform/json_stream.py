"""Reads a large JSON document piece by piece: the structure is walked through, and only what is small is read whole."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VALUE_CHARS = 64 * 1024 * 1024
"""Of a value that is read whole."""

_CHUNK_CHARS = 256 * 1024
_SPACE = " \t\r\n"
_NUMBER = "0123456789.eE+-"


class JsonStreamError(ValueError):
    """The document is not JSON, or holds a value that is too large."""


class JsonStream:
    """The document in a text file.

    The members of an object and the items of an array must be taken in order, and each of them, as a value or as an object or array in
    turn, before the next one.
    """

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._buffer = ""
        self._position = 0
        self._passed = 0
        self._at_end = False

    def members(self) -> Iterator[str]:
        """Iterate over the keys of an object; the value of each must be taken before the next.

        Raises:
            JsonStreamError: there is none here.
        """
        self._expect("{", "an object")
        if self._take("}"):
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                self._fail("a key in quotes was expected")
            self._expect(":", "':'")
            yield key
            if self._take("}"):
                return
            self._expect(",", "',' or '}'")

    def items(self) -> Iterator[None]:
        """Iterate over the items of an array; each must be taken before the next.

        Raises:
            JsonStreamError: there is none here.
        """
        self._expect("[", "an array")
        if self._take("]"):
            return
        while True:
            yield None
            if self._take("]"):
                return
            self._expect(",", "',' or ']'")

    def value(self) -> Any:
        """Read a value whole.

        Raises:
            JsonStreamError: it is not JSON, or too large.
        """
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except RecursionError:
                self._fail("nested too deeply")
            except JsonStreamError as exc:
                self._fail(str(exc))
            except ValueError as exc:
                # Perhaps only because its end has not been read yet.
                if self._at_end:
                    self._fail(str(exc).partition(":")[0])
            else:
                if self._at_end or not self._may_go_on(end):
                    self._position = end
                    return value
            if len(self._buffer) - self._position > MAX_VALUE_CHARS:
                self._fail(f"a value is malformed, or has more than {MAX_VALUE_CHARS} characters")
            # As much again: a large value is tried a few times, not once for each chunk.
            self._fill(max(_CHUNK_CHARS, len(self._buffer) - self._position))

    def end(self) -> None:
        """Make sure that nothing follows.

        Raises:
            JsonStreamError: something does.
        """
        if self._peek():
            self._fail("something follows after the end")

    def _may_go_on(self, end: int) -> bool:
        """Tell whether what was read up to `end` may be the beginning of a longer number: `1` of `1.5`."""
        while end < len(self._buffer):
            if self._buffer[end] not in _NUMBER:
                return False
            end += 1
        return True

    def _peek(self) -> str:
        """Return the next character that is not white space, without taking it; `""` at the end."""
        while True:
            while self._position < len(self._buffer):
                if self._buffer[self._position] not in _SPACE:
                    return self._buffer[self._position]
                self._position += 1
            if self._at_end:
                return ""
            self._fill(_CHUNK_CHARS)

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._position += 1
        return True

    def _expect(self, character: str, what: str) -> None:
        if not self._take(character):
            self._fail(f"{what} was expected")

    def _fill(self, characters: int) -> None:
        try:
            chunk = self._text.read(characters)
        except UnicodeDecodeError:
            raise JsonStreamError("it is not UTF-8 text") from None
        self._passed += self._position
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        self._at_end = not chunk

    def _fail(self, reason: str) -> NoReturn:
        raise JsonStreamError(f"{reason} (at character {self._passed + self._position + 1})")


def _refuse_constant(name: str) -> NoReturn:
    raise JsonStreamError(f"{name} is not JSON")
