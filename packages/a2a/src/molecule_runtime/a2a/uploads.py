"""`POST /internal/chat/uploads/ingest`: the files of a chat, streamed to the agent's disk (contract `runtime.md` 11.2)."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from molecule_runtime.a2a.folders import WORKSPACE, open_folder
from molecule_runtime.a2a.forms import End, FormError, FormReader, Part, boundary_of
from molecule_runtime.a2a.refusals import CLOSE, Refusal
from molecule_runtime.core.file_names import clean_name, type_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from molecule_runtime.a2a.folders import Folders

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 25 * 1024 * 1024
MAX_REQUEST_BYTES = 50 * 1024 * 1024
"""Contract `platform-api.md` 10.1; what a form adds to its files comes on top."""

MAX_FILES, MAX_FIELDS = 64, 32
"""Contract `runtime.md` 11.2."""

UPLOADS = (".molecule", "chat-uploads")
"""The folder of the files, below `/workspace`."""

MAX_FORM_BYTES = MAX_REQUEST_BYTES + (MAX_FILES + MAX_FIELDS) * 1024

_FIELD = "files"
_WRITE_BYTES = 256 * 1024
_HIDDEN = ".arriving-"
_HIDDEN_SECONDS = 3600.0
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


async def ingest(request: Request, folders: Folders) -> Response:
    """Store the files of a form, all of them or none.

    Raises:
        Refusal: 400 for what is not a form with files, 413 for one that is too large, 500 when the disk does not take it.
    """
    try:
        reader = FormReader(boundary_of(request.headers.get("content-type", "")))
    except FormError as exc:
        raise _invalid(exc) from None
    async with _batch(folders.workspace) as batch:
        try:
            await _receive(request, reader, batch)
        except FormError as exc:
            raise _invalid(exc) from None
        except ClientDisconnect:
            raise Refusal(400, "invalid form", hint="the connection ended before the form did") from None
        if not batch.files:
            raise Refusal(400, "no files", hint=f"send each file in a field named `{_FIELD}`, with a file name")
        await _write(batch.keep)
    return JSONResponse({"files": [stored.described() for stored in batch.files]})


async def store(workspace: Path, stored: Stored, content: bytes) -> None:
    """Store one file that came another way than by a form; its size is noted in `stored`.

    Raises:
        Refusal: the disk does not take it.
    """
    stored.size = len(content)
    async with _batch(workspace) as batch:

        def write() -> None:
            batch.begin(stored)
            batch.write(content)
            batch.end()
            batch.keep()

        await _write(write)


@dataclass(slots=True, kw_only=True)
class Stored:
    """One file of an upload."""

    name: str
    mime_type: str
    key: str = field(default_factory=lambda: os.urandom(16).hex())
    size: int = 0

    @property
    def hidden_name(self) -> str:
        """Its name until the whole upload has arrived."""
        return f"{_HIDDEN}{self.key}"

    @property
    def final_name(self) -> str:
        """Its name from then on."""
        return f"{self.key}-{self.name}"

    @property
    def uri(self) -> str:
        """What names it in a message."""
        return f"workspace:{posixpath.join(WORKSPACE, *UPLOADS, self.final_name)}"

    def described(self) -> dict[str, Any]:
        """Return what the answer says of it."""
        return {"uri": self.uri, "name": self.name, "mimeType": self.mime_type, "size": self.size}


class Batch:
    """The files of one upload on the disk, hidden until `keep`. Everything here blocks: it runs in worker threads.

    Owns `folder` until `close`.
    """

    def __init__(self, folder: int) -> None:
        self.files: list[Stored] = []
        self._folder = folder
        self._descriptor = -1
        # A thread goes on when whoever waits for it is cancelled, and must not meet the clearing up.
        self._lock = threading.Lock()
        self._over = False

    def begin(self, stored: Stored) -> None:
        """Create the next file: exclusively, through no link, for its owner only."""
        with self._lock:
            if self._over:
                return
            self._descriptor = os.open(stored.hidden_name, _CREATE, 0o600, dir_fd=self._folder)
            self.files.append(stored)

    def write(self, data: bytes) -> None:
        """Append to the file that was begun last."""
        view = memoryview(data)
        with self._lock:
            while view and not self._over:
                view = view[os.write(self._descriptor, view) :]

    def end(self) -> None:
        """Close the file that was begun last; what is answered with 200 survives a crash."""
        with self._lock:
            if not self._over:
                os.fsync(self._descriptor)
                self._end()

    def drop(self) -> None:
        """Forget the file that was begun last."""
        with self._lock:
            if not self._over:
                self._end()
                self._unlink(self.files.pop().hidden_name)

    def keep(self) -> None:
        """Give every file its name."""
        with self._lock:
            if self._over:
                return
            for stored in self.files:
                os.rename(stored.hidden_name, stored.final_name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)

    def discard(self) -> None:
        """Leave nothing behind, whichever names the files have by now."""
        with self._lock:
            self._over = True
            self._end()
            for stored in self.files:
                self._unlink(stored.hidden_name)
                self._unlink(stored.final_name)

    def close(self) -> None:
        """Let go of the folder."""
        with self._lock:
            self._over = True
            os.close(self._folder)

    def sweep(self) -> None:
        """Delete what uploads left that a crash of this process cut off."""
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if not entry.name.startswith(_HIDDEN):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _HIDDEN_SECONDS:
                        self._unlink(entry.name)
        except OSError as exc:
            logger.warning("what earlier uploads left cannot be looked through: %s", exc.strerror)

    def _end(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.warning("a file of an upload that failed cannot be deleted: %s", exc.strerror)


@asynccontextmanager
async def _batch(workspace: Path) -> AsyncGenerator[Batch]:
    with _failures(posixpath.join(WORKSPACE, *UPLOADS), "the folder of the uploads cannot be made"):
        folder = await anyio.to_thread.run_sync(lambda: open_folder(workspace, UPLOADS, create=True))
    batch = Batch(folder)
    try:
        await anyio.to_thread.run_sync(batch.sweep)
        yield batch
    except BaseException:
        # Cancelled, refused or failed: all the same to the disk.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(batch.discard)
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(batch.close)


async def _receive(request: Request, reader: FormReader, batch: Batch) -> None:
    intake = _Intake(batch)
    async for piece in _bounded(request):
        for event in reader.feed(piece):
            await intake.take(event)
    reader.finish()


async def _bounded(request: Request) -> AsyncIterator[bytes]:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_FORM_BYTES:
            raise _too_large("the form", MAX_REQUEST_BYTES)
        yield piece


class _Intake:
    """Counts what arrives, and writes it in pieces that are worth a thread."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._stored: Stored | None = None
        self._pending = bytearray()
        self._unnamed = False
        self._total = 0
        self._files = 0
        self._fields = 0

    async def take(self, event: Part | bytes | End) -> None:
        match event:
            case Part():
                await self._begin(event)
            case End():
                await self._end()
            case _:
                await self._content(event)

    async def _begin(self, part: Part) -> None:
        if part.name != _FIELD or part.filename is None:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise Refusal(413, "too many fields", hint=f"send at most {MAX_FIELDS}", headers=CLOSE)
            return
        self._files += 1
        if self._files > MAX_FILES:
            raise Refusal(
                413, "too many files", max_files=MAX_FILES, hint="send them in several requests", headers=CLOSE
            )
        name = clean_name(part.filename)
        stored = Stored(name=name, mime_type=type_of(name, part.content_type))
        self._unnamed = not part.filename
        await _write(lambda: self._batch.begin(stored))
        self._stored = stored

    async def _content(self, data: bytes) -> None:
        if self._stored is None:
            return
        self._stored.size += len(data)
        self._total += len(data)
        if self._stored.size > MAX_FILE_BYTES:
            raise _too_large("a file", MAX_FILE_BYTES)
        if self._total > MAX_REQUEST_BYTES:
            raise _too_large("the files together", MAX_REQUEST_BYTES)
        self._pending += data
        if len(self._pending) >= _WRITE_BYTES:
            await self._flush()

    async def _end(self) -> None:
        if self._stored is None:
            return
        await self._flush()
        # A form in a browser sends this for a field in which no file was chosen.
        empty = self._unnamed and self._stored.size == 0
        await _write(self._batch.drop if empty else self._batch.end)
        self._stored = None

    async def _flush(self) -> None:
        if self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            await _write(lambda: self._batch.write(data))


async def _write(work: Callable[[], None]) -> None:
    with _failures(posixpath.join(WORKSPACE, *UPLOADS), "the files cannot be written"):
        await anyio.to_thread.run_sync(work)


@contextmanager
def _failures(path: str, error: str) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        logger.error("%s: %s: %s", path, error, exc.strerror)  # noqa: TRY400 - the reason is the whole story
        raise Refusal(
            500,
            error,
            path=path,
            errno=exc.errno,
            detail=exc.strerror or type(exc).__name__,
            hint="look at the space on the agent's disk and at the owner of this folder",
            headers=CLOSE,
        ) from None


def _invalid(exc: FormError) -> Refusal:
    hint = f"send multipart/form-data with a field `{_FIELD}` for each file"
    return Refusal(400, "invalid form", exception=type(exc).__name__, detail=str(exc), hint=hint, headers=CLOSE)


def _too_large(what: str, most: int) -> Refusal:
    return Refusal(413, f"{what} is too large", max_bytes=most, hint="send less at once", headers=CLOSE)
