"""Reads a multipart form (RFC 7578) as it arrives, piece by piece, so that no file of it is ever in memory as a whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import unquote

from molecule_runtime.a2a.errors import A2aError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_HEAD_BYTES = 4 * 1024
"""Of the headers of one part."""

MAX_BOUNDARY_CHARS = 70
"""RFC 2046 5.1.1."""

_MAX_PADDING = 64
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER = re.compile(r';\s*([!#$&+.^_`|~\w*-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class FormError(A2aError, ValueError):
    """The body is not the form that its Content-Type announces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The head of a part.

    Attributes:
        name: of the field.
        filename: as the sender calls the file; None for a field that is not a file.
        content_type: as the sender states it, or `""`.
    """

    name: str
    filename: str | None = None
    content_type: str = ""


class End(Enum):
    """The end of a part."""

    OF_PART = "of part"


class _At(Enum):
    PREAMBLE = "preamble"
    BOUNDARY = "boundary"
    HEAD = "head"
    BODY = "body"
    EPILOGUE = "epilogue"


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a `Content-Type` names.

    Raises:
        FormError: it is not that of a form, or names no usable boundary.
    """
    kind, _, _ = content_type.partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise FormError("Content-Type is not multipart/form-data")
    boundary = _parameters(content_type).get("boundary", "")
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARS or not _BOUNDARY.fullmatch(boundary):
        raise FormError("Content-Type names no usable boundary")
    return boundary.encode()


class FormReader:
    """Takes the bytes of a form in pieces of any size, and gives its parts as they come: a head, pieces of content, an end."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter may stand at the very beginning, where no line ends before it.
        self._buffer = bytearray(b"\r\n")
        self._at = _At.PREAMBLE

    def feed(self, data: bytes) -> Iterator[Part | bytes | End]:
        """Take the next piece, and give what it completes.

        Raises:
            FormError: this is not a form.
        """
        self._buffer += data
        while True:
            match self._at:
                case _At.PREAMBLE:
                    if self._content() is None:
                        return
                    self._at = _At.BOUNDARY
                case _At.BOUNDARY:
                    following = self._after_boundary()
                    if following is None:
                        return
                    self._at = following
                case _At.HEAD:
                    part = self._head()
                    if part is None:
                        return
                    yield part
                    self._at = _At.BODY
                case _At.BODY:
                    content = self._content()
                    if content is None:
                        if rest := self._surely_content():
                            yield rest
                        return
                    if content:
                        yield content
                    yield End.OF_PART
                    self._at = _At.BOUNDARY
                case _At.EPILOGUE:
                    self._buffer.clear()
                    return

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            FormError: the form has not ended.
        """
        if self._at is not _At.EPILOGUE:
            raise FormError("the form ends in the middle")

    def _content(self) -> bytes | None:
        """Take what stands before the next delimiter, and the delimiter; None when there is none yet."""
        found = self._buffer.find(self._delimiter)
        if found < 0:
            if self._at is _At.PREAMBLE:
                self._surely_content()
            return None
        content = bytes(self._buffer[:found])
        del self._buffer[: found + len(self._delimiter)]
        return content

    def _surely_content(self) -> bytes:
        """Take what cannot be the beginning of a delimiter."""
        sure = max(0, len(self._buffer) - len(self._delimiter) + 1)
        content = bytes(self._buffer[:sure])
        del self._buffer[:sure]
        return content

    def _after_boundary(self) -> _At | None:
        if self._buffer.startswith(b"--"):
            return _At.EPILOGUE
        found = self._buffer.find(b"\r\n", 0, _MAX_PADDING + 2)
        if found < 0:
            if len(self._buffer) > _MAX_PADDING or self._buffer.strip(b" \t\r-"):
                raise FormError("a line that begins with the boundary has something else behind it")
            return None
        if self._buffer[:found].strip(b" \t"):
            raise FormError("a line that begins with the boundary has something else behind it")
        # The line's end stays where a head without headers is looked for.
        del self._buffer[:found]
        return _At.HEAD

    def _head(self) -> Part | None:
        found = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if found < 0:
            if len(self._buffer) >= MAX_HEAD_BYTES:
                raise FormError(f"the headers of a part are larger than {MAX_HEAD_BYTES} bytes")
            return None
        lines = bytes(self._buffer[2:found]).split(b"\r\n") if found else []
        del self._buffer[: found + 4]
        return _part(lines)


def _part(lines: list[bytes]) -> Part:
    headers: dict[bytes, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise FormError("a part has a header that is none")
        headers[name.lower()] = value.strip().decode("utf-8", "replace")
    disposition = headers.get(b"content-disposition", "")
    parameters = _parameters(disposition)
    if disposition.partition(";")[0].strip().lower() != "form-data" or "name" not in parameters:
        raise FormError("a part has no `Content-Disposition: form-data` with a name")
    filename = parameters.get("filename")
    extended = parameters.get("filename*", "")
    if extended.lower().startswith("utf-8'"):
        filename = unquote(extended.split("'", 2)[-1])
    return Part(name=parameters["name"], filename=filename, content_type=headers.get(b"content-type", ""))


def _parameters(value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in _PARAMETER.findall(value):
        plain = re.sub(r'\\(["\\])', r"\1", text[1:-1]) if text.startswith('"') else text
        found.setdefault(name.lower(), plain)
    return found
