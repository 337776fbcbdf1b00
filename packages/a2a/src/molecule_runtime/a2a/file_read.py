"""`GET /internal/file/read`: one file of the agent for its platform (contract `runtime.md` 11.3, `platform-api.md` 24.9)."""

from __future__ import annotations

import mimetypes
import os
import posixpath
import re
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio.to_thread
from starlette.responses import StreamingResponse

from molecule_runtime.a2a.folders import PathNotAllowedError
from molecule_runtime.a2a.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from molecule_runtime.a2a.folders import Folders

MAX_READ_BYTES = 100 * 1024 * 1024
"""Of one file; what an agent takes from a message at most (contract `runtime.md` 13)."""

_PIECE_BYTES = 256 * 1024
_ASCII = re.compile(r"[^A-Za-z0-9._ -]")


async def read(request: Request, folders: Folders, secrets: Sequence[Path]) -> Response:
    """Answer with the file that `path` names.

    Raises:
        Refusal: 400 for a path that may not be read, 404 where there is nothing, 413 for too much, 500 when the disk fails.
    """
    path = request.query_params.get("path", "")
    stack = ExitStack()
    try:
        # Not abandoned when the request is: a file that is opened for nobody would stay open.
        descriptor, status = await anyio.to_thread.run_sync(lambda: stack.enter_context(folders.opened(path, secrets)))
        if status.st_size > MAX_READ_BYTES:
            raise Refusal(413, "file too large", max_bytes=MAX_READ_BYTES, size=status.st_size)
    except PathNotAllowedError as exc:
        raise Refusal(400, "invalid path", hint=str(exc)) from None
    except FileNotFoundError:
        raise Refusal(404, "file not found", hint="nothing is there, or a symbolic link is on the way") from None
    except OSError as exc:
        detail = exc.strerror or type(exc).__name__
        raise Refusal(500, "the file cannot be read", detail=detail, hint="look at who may read it") from None
    except BaseException:
        stack.close()
        raise
    name = posixpath.basename(path)
    plain = _ASCII.sub("_", name)
    return _FileResponse(
        stack,
        descriptor,
        status.st_size,
        media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        headers={
            "Content-Length": str(status.st_size),
            "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
            # It is somebody's file, not a page of this server.
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


class _FileResponse(StreamingResponse):
    """Sends a file that is open, and closes it whatever happens to the request."""

    def __init__(
        self, stack: ExitStack, descriptor: int, size: int, *, media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(_pieces(descriptor, size), media_type=media_type, headers=headers)
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a client that does not take it loses its connection (`connections.STALL_SECONDS`)."""
        with self._stack:
            await super().__call__(scope, receive, send)


async def _pieces(descriptor: int, size: int) -> AsyncGenerator[bytes]:
    offset = 0
    while offset < size:
        wanted = min(_PIECE_BYTES, size - offset)
        piece = await anyio.to_thread.run_sync(os.pread, descriptor, wanted, offset)
        if not piece:
            raise OSError(f"the file became shorter while it was sent: {offset} of {size} bytes are there")
        offset += len(piece)
        yield piece
