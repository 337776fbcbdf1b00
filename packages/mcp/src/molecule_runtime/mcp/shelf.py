"""Where fetched files lie: in a folder of their own, 0600, until nobody needs them any more. Blocking, as the store is."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio

from molecule_runtime.core.platform.pending_uploads import UploadLostError
from molecule_runtime.core.secretfile import write_private

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from molecule_runtime.mcp.store import InboxStore, Mailbox

logger = logging.getLogger(__name__)

KEEP_SECONDS = 7 * 24 * 3600.0
"""How long a file is kept after it was fetched, and as long as a message that speaks of it waits."""

MAX_BYTES = 1024 * 1024 * 1024
"""Of all files together. The oldest of which no waiting message speaks go first; where that is not enough no more are fetched."""

SWEEP_SECONDS: Final = 3600.0
ORPHAN_SECONDS: Final = 3600.0
"""A file that is not noted is what a crash left; a younger one may still be noted."""

MAX_DOWNLOADS: Final = 2
"""Of a process at the same time: each is in memory until it is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFile:
    """A file on this machine. `size` in bytes."""

    uri: str
    name: str
    mime_type: str
    size: int


class FileShelf:
    """The fetched files of every mailbox of the process."""

    def __init__(self, store: InboxStore, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._swept = -SWEEP_SECONDS
        self.places = anyio.Semaphore(MAX_DOWNLOADS)

    def find(self, mailbox: Mailbox, file_id: str) -> StagedFile | None:
        """Return a file that was fetched before and is still here."""
        with self._store.database.reading() as db:
            row = db.execute(
                "SELECT uri, name, mime_type, size FROM files WHERE origin = ? AND workspace_id = ? AND file_id = ?",
                (mailbox.origin, mailbox.workspace_id, file_id),
            ).fetchone()
        if row is None:
            return None
        uri, name, mime_type, size = row
        staged = StagedFile(uri=uri, name=name, mime_type=mime_type, size=size)
        return staged if self._path(mailbox, file_id, name).is_file() else None

    def keep(self, mailbox: Mailbox, file_id: str, name: str, mime_type: str, content: bytes) -> StagedFile:
        """Write a file, and note it.

        Args:
            mailbox: whose it is.
            file_id: of the platform.
            name: one that `clean_name` gave.
            mime_type: of the file.
            content: of the file.

        Raises:
            UploadLostError: there is no room for it.
            OSError: it cannot be written.
        """
        self.sweep(room_for=len(content))
        path = self._path(mailbox, file_id, name)
        write_private(path, content)
        staged = StagedFile(uri=path.absolute().as_uri(), name=name, mime_type=mime_type, size=len(content))
        with self._store.database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    mailbox.origin,
                    mailbox.workspace_id,
                    file_id,
                    name,
                    staged.uri,
                    mime_type,
                    staged.size,
                    time.time(),
                ),
            )
        return staged

    def sweep(self, *, room_for: int = 0) -> None:
        """Remove what is old and of which no message that waits speaks, and the oldest of these where there is not enough room.

        Raises:
            UploadLostError: it is still not enough.
        """
        now = time.monotonic()
        if not room_for and now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        with self._store.database.transaction() as db:
            total, gone = self._chosen(db, room_for)
        for name in gone:
            self._unlink(name)
        self._remove_orphans()
        if total + room_for > MAX_BYTES:
            raise UploadLostError(
                f"the files of the messages that wait take {total} of {MAX_BYTES} bytes; pop some of these messages first"
            )

    def _chosen(self, db: sqlite3.Connection, room_for: int) -> tuple[int, list[str]]:
        rows = db.execute(
            "SELECT rowid, uri, size, staged_at, EXISTS (SELECT 1 FROM messages WHERE popped_at IS NULL"
            " AND instr(body, files.uri)) FROM files ORDER BY staged_at"
        ).fetchall()
        total = sum(int(row[2]) for row in rows)
        old = time.time() - KEEP_SECONDS
        gone: list[str] = []
        for rowid, uri, size, staged_at, is_needed in rows:
            if not is_needed and (staged_at < old or total + room_for > MAX_BYTES):
                db.execute("DELETE FROM files WHERE rowid = ?", (rowid,))
                total -= size
                gone.append(str(uri).rpartition("/")[2])
        return total, gone

    def _remove_orphans(self) -> None:
        if not self._folder.is_dir():
            return
        with self._store.database.reading() as db:
            noted = {str(row[0]).rpartition("/")[2] for row in db.execute("SELECT uri FROM files")}
        limit = time.time() - ORPHAN_SECONDS
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name not in noted and path.is_file() and path.stat().st_mtime < limit:
                    self._unlink(path.name)

    def _unlink(self, name: str) -> None:
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("the file %s cannot be removed: %s", name, exc.strerror)

    def _path(self, mailbox: Mailbox, file_id: str, name: str) -> Path:
        # One and the same name each time, so that a fetch that is cut off leaves no second copy; and the mailbox in it, so that no
        # tenant can overwrite the file of another by its id.
        key = hashlib.sha256("\n".join((mailbox.origin, mailbox.workspace_id, file_id)).encode()).hexdigest()[:32]
        return self._folder / f"{key}-{name}"
