"""Files that people left on the platform for this workspace: fetched to the agent's disk, once (contract `platform-api.md` 24.9).

A file is on the disk and in the state file before the platform hears that it may let go of it.
"""

from __future__ import annotations

import logging
import random
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from a2a.types import Part

from molecule_runtime.a2a import uploads
from molecule_runtime.a2a.errors import A2aError
from molecule_runtime.a2a.refusals import Refusal
from molecule_runtime.core.errors import NotFoundError, PlatformError, RateLimitedError, UnavailableError
from molecule_runtime.core.identity import origin_of

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from a2a.types import Message

    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import Download, PlatformClient

logger = logging.getLogger(__name__)

SCHEME = "platform-pending:"
MAX_REMEMBERED = 1024
"""Files of which it is known where they are (contract `runtime.md` 4.4)."""

MAX_FILES = 64
"""Of one message (contract `runtime.md` 11.2)."""

MAX_AT_ONCE = 2
"""Downloads, each of which is in memory until it is written."""

MAX_ATTEMPTS = 4
MAX_BACKOFF = 8.0

_NOTE = "(The file {name!r:.120} that came with this message could not be fetched: {reason})"


class UploadLostError(A2aError):
    """A file that waits on the platform cannot be had; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that waits on the platform, as its row or a message says.

    Attributes:
        file_id: of the platform, a UUID.
    """

    file_id: str
    name: str = ""
    mime_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A file on the agent's disk."""

    uri: str
    name: str
    mime_type: str
    size: int


class PendingUploads:
    """Fetches the files of one workspace into its chat-uploads folder below `workspace`."""

    def __init__(self, client: PlatformClient, state: StateFile, workspace: Path) -> None:
        self._client = client
        self._state = state
        self._workspace = workspace
        self._whose = (origin_of(client.target.platform_url), client.workspace_id)
        self._places = anyio.Semaphore(MAX_AT_ONCE)
        self._under_way: dict[str, anyio.Lock] = {}

    async def fetch(self, upload: Upload) -> Fetched:
        """Return where a file is, and fetch it if it is not here.

        Raises:
            UploadLostError: it cannot be had.
            StateFileError: it cannot be noted where it is.
        """
        try:
            # One and the same name each time, so that a fetch that is cut off leaves no second copy.
            key = uuid.UUID(upload.file_id).hex
        except ValueError:
            raise UploadLostError("its id is not one of the platform's") from None
        lock = self._under_way.setdefault(key, anyio.Lock())
        try:
            async with lock:
                known = await self._state.run(lambda db: self._find(db, key))
                if known is not None:
                    return known
                async with self._places:
                    found = await self._download(upload)
                    name = uploads.clean_name(upload.name)
                    stored = uploads.Stored(
                        name=name, mime_type=uploads.type_of(name, found.mime_type, upload.mime_type), key=key
                    )
                    try:
                        await uploads.store(self._workspace, stored, found.content)
                    except Refusal as refusal:
                        raise UploadLostError(f"{refusal.error} ({refusal.hint})") from None
                    del found
                fetched = Fetched(uri=stored.uri, name=name, mime_type=stored.mime_type, size=stored.size)
                await self._state.run(lambda db: self._remember(db, key, fetched))
        finally:
            if not lock.statistics().tasks_waiting:
                self._under_way.pop(key, None)
        await self._acknowledge(upload)
        return fetched

    async def resolve(self, message: Message) -> None:
        """Have a message refer to files on the disk; what cannot be had is said in the message."""
        pending = [part for part in message.parts if part.url.startswith(SCHEME)]
        for number, part in enumerate(pending):
            name = part.filename or "file"
            try:
                if number >= MAX_FILES:
                    raise UploadLostError(f"a message may have {MAX_FILES} files")
                workspace_id, _, file_id = part.url.removeprefix(SCHEME).partition("/")
                if workspace_id != self._client.workspace_id:
                    raise UploadLostError("it belongs to another workspace")
                fetched = await self.fetch(Upload(file_id=file_id, name=part.filename, mime_type=part.media_type))
            except UploadLostError as exc:
                logger.warning("a file of message %s cannot be had: %s", message.message_id, exc)
                part.CopyFrom(Part(text=_NOTE.format(name=name, reason=exc)))
            else:
                part.url = fetched.uri
                part.filename = part.filename or fetched.name
                part.media_type = part.media_type or fetched.mime_type

    async def _download(self, upload: Upload) -> Download:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._client.pending_upload(upload.file_id)
            except NotFoundError:
                raise UploadLostError("the platform does not have it any more") from None
            except PlatformError as exc:
                pause = min(2.0**attempt, MAX_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                if isinstance(exc, (RateLimitedError, UnavailableError)) and exc.retry_after is not None:
                    pause = max(pause, min(exc.retry_after, MAX_BACKOFF))
                if attempt >= MAX_ATTEMPTS:
                    logger.warning("file %s cannot be fetched: %s", upload.file_id, exc)
                    raise UploadLostError("the platform did not give it out") from None
                logger.info("file %s is not here yet (attempt %d): %s", upload.file_id, attempt, exc)
                await anyio.sleep(pause)

    async def _acknowledge(self, upload: Upload) -> None:
        try:
            await self._client.acknowledge_upload(upload.file_id)
        except PlatformError as exc:
            # It expires there by itself.
            logger.info("file %s was not acknowledged: %s", upload.file_id, exc)

    def _find(self, db: sqlite3.Connection, key: str) -> Fetched | None:
        row = db.execute(
            "SELECT uri, name, mime_type, size FROM pending_uploads WHERE origin = ? AND workspace_id = ? AND file_id = ?",
            (*self._whose, key),
        ).fetchone()
        if row is None:
            return None
        uri, name, mime_type, size = row
        return Fetched(uri=uri, name=name, mime_type=mime_type, size=size)

    def _remember(self, db: sqlite3.Connection, key: str, file: Fetched) -> None:
        db.execute(
            "INSERT OR REPLACE INTO pending_uploads (origin, workspace_id, file_id, uri, name, mime_type, size)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*self._whose, key, file.uri, file.name, file.mime_type, file.size),
        )
        db.execute(
            "DELETE FROM pending_uploads WHERE number IN (SELECT number FROM pending_uploads WHERE origin = ? AND workspace_id = ?"
            " ORDER BY number DESC LIMIT -1 OFFSET ?)",
            (*self._whose, MAX_REMEMBERED),
        )
