"""Files that people sent: fetched from the platform to this machine before the agent gets the message that speaks of them.

A message waits for its files for `HOLD_SECONDS` at most, and delays no other. What could not be had by then says so in the message.
A file is on the disk and in the inbox file before the platform hears that it may let go of it (contract `platform-api.md` 24.9).
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from molecule_runtime.core.file_names import clean_name, type_of
from molecule_runtime.core.platform import pending_uploads
from molecule_runtime.core.platform.pending_uploads import SCHEME, UploadLostError
from molecule_runtime.mcp.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.core.platform.client import Download, PlatformClient
    from molecule_runtime.mcp.inbox import PolledInbox
    from molecule_runtime.mcp.shelf import FileShelf, StagedFile
    from molecule_runtime.mcp.store import InboxStore, Mailbox
    from molecule_runtime.tools import InboxMessage

logger = logging.getLogger(__name__)

HOLD_SECONDS = 65.0
"""How long a message waits for its files (contract `runtime.md` 4.4)."""

MAX_FILES = 64
"""Of one message that are fetched (contract `runtime.md` 11.2)."""

MAX_MESSAGES = 16
"""Of one mailbox whose files are fetched at the same time."""


def is_pending(attachment: Mapping[str, Any]) -> bool:
    """Tell whether a file is still on the platform, and nothing is known to keep it there."""
    return str(attachment.get("uri", "")).startswith(SCHEME) and "error" not in attachment


def awaits_files(message: InboxMessage) -> bool:
    """Tell whether a message speaks of files that have to be fetched."""
    return any(is_pending(attachment) for attachment in message.attachments)


def missing_files_said(message: InboxMessage) -> InboxMessage:
    """Say of files that are not here that they are not: the wait for them is over, and what fetches them did not say why."""
    if not awaits_files(message):
        return message
    attachments = (
        _lost(attachment, "it is not here yet") if is_pending(attachment) else attachment
        for attachment in message.attachments
    )
    return replace(message, attachments=tuple(attachments))


class UploadStager:
    """Fetches the files of one workspace's messages."""

    def __init__(
        self, client: PlatformClient, store: InboxStore, inbox: PolledInbox, mailbox: Mailbox, shelf: FileShelf
    ) -> None:
        self._client = client
        self._store = store
        self._inbox = inbox
        self._mailbox = mailbox
        self._shelf = shelf
        self._under_way: set[str] = set()
        self._files: dict[str, anyio.Lock] = {}
        self._places = anyio.Semaphore(MAX_MESSAGES)
        self._woken = anyio.Event()

    def wake(self) -> None:
        """Look for messages whose files are to be fetched."""
        self._woken.set()
        self._woken = anyio.Event()

    async def run(self) -> None:
        """Fetch what the messages wait for, until cancelled."""
        await anyio.to_thread.run_sync(self._store.hold_again, self._mailbox, time.time() + HOLD_SECONDS)
        await anyio.to_thread.run_sync(self._shelf.sweep)
        async with anyio.create_task_group() as group:
            while True:
                woken = self._woken
                for message, until in await anyio.to_thread.run_sync(self._store.held, self._mailbox):
                    if message.activity_id not in self._under_way:
                        self._under_way.add(message.activity_id)
                        group.start_soon(self._serve, message, until)
                await woken.wait()

    async def _serve(self, message: InboxMessage, until: float) -> None:
        try:
            async with self._places:
                resolved = await self.resolve(message, until=until)
            await anyio.to_thread.run_sync(self._store.let_go, self._mailbox, resolved)
            self._inbox.arrived(self._mailbox)
        except StateError:
            # It is handed out when its time is over, and says that its files are not here.
            logger.exception("the files of message %s cannot be noted", message.activity_id)
        finally:
            self._under_way.discard(message.activity_id)

    async def resolve(self, message: InboxMessage, *, until: float) -> InboxMessage:
        """Return a message whose files are on this machine, or say why they are not; at `until` (Unix seconds) at the latest."""
        attachments = list(message.attachments)
        places = [place for place, attachment in enumerate(attachments) if is_pending(attachment)]
        for place in places[MAX_FILES:]:
            attachments[place] = _lost(attachments[place], f"a message may have {MAX_FILES} files")

        async def fetch(place: int) -> None:
            attachments[place] = await self._fetched(attachments[place])

        with anyio.move_on_after(max(0.0, until - time.time())):
            async with anyio.create_task_group() as group:
                for place in places[:MAX_FILES]:
                    group.start_soon(fetch, place)
        for place in places:
            if is_pending(attachments[place]):
                attachments[place] = _lost(
                    attachments[place], f"the platform did not give it out within {HOLD_SECONDS:g} s"
                )
        return replace(message, attachments=tuple(attachments))

    async def _fetched(self, attachment: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return await self._fetch(attachment)
        except UploadLostError as exc:
            logger.warning("a file for workspace %s cannot be had: %s", self._mailbox.workspace_id, exc)
            return _lost(attachment, str(exc))
        except OSError as exc:
            logger.warning("a file for workspace %s cannot be written: %s", self._mailbox.workspace_id, exc.strerror)
            return _lost(attachment, f"it cannot be written on this machine: {exc.strerror}")

    async def _fetch(self, attachment: Mapping[str, Any]) -> dict[str, Any]:
        name, mime_type = (_text(attachment.get(key)) for key in ("name", "mime_type"))
        file_id = pending_uploads.file_id_of(str(attachment["uri"]), own_id=self._mailbox.workspace_id)
        key = pending_uploads.key_of(file_id)
        lock = self._files.setdefault(key, anyio.Lock())
        try:
            async with lock:
                # Two rows may speak of one file: that which announces it, and the message that it belongs to.
                staged = await anyio.to_thread.run_sync(self._shelf.find, self._mailbox, key)
                if staged is None:
                    async with self._shelf.places:
                        found = await pending_uploads.download(self._client, file_id)
                        cleaned = clean_name(name)
                        kind = type_of(cleaned, found.mime_type, mime_type)
                        staged = await self._keep(key, cleaned, kind, found)
                    await pending_uploads.acknowledge(self._client, file_id)
        finally:
            if not lock.statistics().tasks_waiting:
                self._files.pop(key, None)
        shown = name or staged.name
        return {**attachment, "uri": staged.uri, "mime_type": mime_type or staged.mime_type, "name": shown}

    async def _keep(self, key: str, name: str, mime_type: str, found: Download) -> StagedFile:
        return await anyio.to_thread.run_sync(self._shelf.keep, self._mailbox, key, name, mime_type, found.content)


def _lost(attachment: Mapping[str, Any], reason: str) -> dict[str, Any]:
    return {**attachment, "error": f"the file could not be fetched: {reason}"}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
