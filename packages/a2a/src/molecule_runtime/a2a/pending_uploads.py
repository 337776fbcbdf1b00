"""Files that people left on the platform for this workspace: fetched to the agent's disk, once (contract `platform-api.md` 24.9).

A file is on the disk and in the state file before the platform hears that it may let go of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from a2a.types import Part

from molecule_runtime.a2a import uploads
from molecule_runtime.a2a.refusals import Refusal
from molecule_runtime.core.file_names import clean_name, type_of
from molecule_runtime.core.identity import origin_of
from molecule_runtime.core.platform.pending_uploads import (
    SCHEME,
    UploadLostError,
    acknowledge,
    download,
    file_id_of,
    key_of,
)

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from a2a.types import Message

    from molecule_runtime.a2a.statefile import StateFile
    from molecule_runtime.core.platform.client import PlatformClient

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 1024
"""Files of which it is known where they are (contract `runtime.md` 4.4)."""

MAX_FILES = 64
"""Of one message (contract `runtime.md` 11.2)."""

MAX_AT_ONCE = 2
"""Downloads, each of which is in memory until it is written."""

MAX_ATTEMPTS = 4
MAX_BACKOFF = 8.0

_NOTE = "(The file {name!r:.120} that came with this message could not be fetched: {reason})"


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
        # One and the same name each time, so that a fetch that is cut off leaves no second copy.
        key = key_of(upload.file_id)
        lock = self._under_way.setdefault(key, anyio.Lock())
        try:
            async with lock:
                known = await self._state.run(lambda db: self._find(db, key))
                if known is not None:
                    return known
                async with self._places:
                    found = await download(self._client, upload.file_id, attempts=MAX_ATTEMPTS, max_backoff=MAX_BACKOFF)
                    name = clean_name(upload.name)
                    stored = uploads.Stored(
                        name=name, mime_type=type_of(name, found.mime_type, upload.mime_type), key=key
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
        await acknowledge(self._client, upload.file_id)
        return fetched

    async def resolve(self, message: Message) -> None:
        """Have a message refer to files on the disk; what cannot be had is said in the message."""
        pending = [part for part in message.parts if part.url.startswith(SCHEME)]
        for number, part in enumerate(pending):
            name = part.filename or "file"
            try:
                if number >= MAX_FILES:
                    raise UploadLostError(f"a message may have {MAX_FILES} files")
                file_id = file_id_of(part.url, own_id=self._client.workspace_id)
                fetched = await self.fetch(Upload(file_id=file_id, name=part.filename, mime_type=part.media_type))
            except UploadLostError as exc:
                logger.warning("a file of message %s cannot be had: %s", message.message_id, exc)
                part.CopyFrom(Part(text=_NOTE.format(name=name, reason=exc)))
            else:
                part.url = fetched.uri
                part.filename = part.filename or fetched.name
                part.media_type = part.media_type or fetched.mime_type

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
