"""A form of files that is streamed: its length is known before the first byte is read, and no file is held in memory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

_END = b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormFile:
    """One file of a form.

    Attributes:
        name: a base name; what no header can carry is replaced.
        mime_type: `type/subtype`.
        size: bytes that `chunks` yields, exactly.
        chunks: begins at the first byte each time that it is called: a request may have to be sent again.
    """

    name: str
    mime_type: str
    size: int
    chunks: Callable[[], AsyncIterator[bytes]] = field(repr=False)


class FilesForm:
    """The body of `multipart/form-data` with the repeated field `files` (contract `platform-api.md` 10.1)."""

    def __init__(self, files: Sequence[FormFile]) -> None:
        # Nobody who wrote a file can have known it.
        self._boundary = secrets.token_hex(16)
        self._parts = [(self._head(file), file) for file in files]
        self._tail = f"--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The header of the same name."""
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def length(self) -> int:
        """Bytes of the whole body."""
        return sum(len(head) + file.size + len(_END) for head, file in self._parts) + len(self._tail)

    async def stream(self) -> AsyncGenerator[bytes]:
        """Yield the body, from its first byte."""
        for head, file in self._parts:
            yield head
            async for chunk in file.chunks():
                yield chunk
            yield _END
        yield self._tail

    def _head(self, file: FormFile) -> bytes:
        name = "".join("_" if char in '"\\' or not char.isprintable() else char for char in file.name)
        disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'
        return f"--{self._boundary}\r\n{disposition}\r\nContent-Type: {file.mime_type}\r\n\r\n".encode(errors="replace")
