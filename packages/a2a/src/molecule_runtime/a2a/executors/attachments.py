"""The files of a turn: those that came with a message are found on the disk or put there, those of the answer are checked."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from a2a.types import Part

from molecule_runtime.a2a import uploads
from molecule_runtime.a2a.errors import A2aError
from molecule_runtime.a2a.folders import CONFIGS, PLUGINS, ROOTS, WORKSPACE, folders_for
from molecule_runtime.a2a.refusals import Refusal
from molecule_runtime.a2a.statefile import FILE_NAME
from molecule_runtime.core import env
from molecule_runtime.core.envelope import File
from molecule_runtime.core.errors import MoleculeError
from molecule_runtime.core.file_names import clean_name
from molecule_runtime.core.identity import origin_of
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from molecule_runtime.a2a.folders import Folders
    from molecule_runtime.core.adapter import AdapterConfig
    from molecule_runtime.core.platform.client import PlatformClient

MAX_FILE_BYTES = 100 * 1024 * 1024
"""Of a file in or out (contract `runtime.md` 13.1)."""

MAX_INLINE_BYTES = 16 * 1024 * 1024
"""Of a file within a message, which is in memory."""

MAX_FILES = 64
"""Of one message (contract `runtime.md` 11.2)."""

FETCH_SECONDS = 60.0
"""For a file that waits on the platform (contract `runtime.md` 13.1)."""

_FALLBACK_TYPE = "application/octet-stream"


class AttachmentError(A2aError):
    """A file cannot be had, or may not be sent; the text says why, without a path of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The files of a message.

    Attributes:
        files: each with a `file://` URI on this machine, its type and size.
        problems: a line for each file that could not be had.
    """

    files: tuple[File, ...] = ()
    problems: tuple[str, ...] = ()

    def manifest(self) -> str:
        """Return what the agent is told of them; `""` when there is nothing to tell."""
        lines = [f"- {file.name} ({file.mime_type}, {file.size} bytes): {local_path(file)}" for file in self.files]
        if lines:
            lines.insert(0, "Files that came with this message:")
        return "\n".join([*lines, *self.problems])


def local_path(file: File) -> Path:
    """Return where a received file is."""
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(file.uri).path))


class Attachments:
    """Takes and gives files below the folders of one agent; no link leads out of them, and no credential is given out."""

    def __init__(
        self,
        folders: Folders,
        *,
        secrets: Sequence[Path] = (),
        workspace_id: str = "",
        platform: PlatformClient | None = None,
    ) -> None:
        self._folders = folders
        self._secrets = tuple(secrets)
        self._workspace_id = workspace_id
        self._platform = platform

    async def take(self, files: Sequence[File]) -> Received:
        """Have each file on the disk. Never raises: what cannot be had is a problem that the agent is told of."""
        found: list[File] = []
        problems: list[str] = []
        for number, file in enumerate(files):
            name = _name_of(file)
            try:
                if number >= MAX_FILES:
                    raise AttachmentError(f"a message may have {MAX_FILES} files")
                found.append(await self._take(file, name))
            except AttachmentError as exc:
                problems.append(f"(The file {name!r} that came with this message is not available: {exc})")
        return Received(files=tuple(found), problems=tuple(problems))

    def find(self, file: File) -> File:
        """Return a file that a message refers to and that is on this disk already. Blocking.

        Raises:
            AttachmentError: it is not there, or may not be read.
        """
        place = self._place_of(file.uri)
        size = self._size(place)
        return _local(self._folders.local(place), _name_of(file), file.mime_type, size)

    def sendable(self, path: str | Path) -> File:
        """Return a file that may be sent, under the path that the contract has for it. Blocking; `give` says what may be.

        Raises:
            AttachmentError: it may not be sent.
        """
        place = self._place(str(path))
        if any(part.startswith(".") for part in Path(place).parts[1:]):
            raise AttachmentError("hidden files are not sent")
        if not place.startswith(f"{WORKSPACE}/"):
            raise AttachmentError(f"only files below {WORKSPACE} are sent")
        name = clean_name(place)
        return File(uri=f"workspace:{place}", name=name, mime_type=_type_of(name), size=self._size(place))

    async def give(self, path: str | Path, *, name: str = "") -> Part:
        """Return the part that sends a file. It is not copied: the reader gets it from where it is.

        Args:
            path: of this machine or of the contract (`/workspace/...`).
            name: for the reader; the file's own by default.

        Raises:
            AttachmentError: it is outside of the agent's folders, hidden, a credential, too large, or not there.
        """
        file = await anyio.to_thread.run_sync(self.sendable, path)
        shown = clean_name(name) if name else file.name
        return Part(url=file.uri, filename=shown, media_type=_type_of(shown))

    async def _take(self, file: File, name: str) -> File:
        uri = file.uri
        if uri.startswith("data:"):
            return await self._store(name, *_inline(uri), declared=file.mime_type)
        if uri.startswith("platform-pending:"):
            return await self._fetch(uri.removeprefix("platform-pending:"), name, file.mime_type)
        return await anyio.to_thread.run_sync(self.find, file)

    def _place_of(self, uri: str) -> str:
        parts = urllib.parse.urlsplit(uri)
        match parts.scheme:
            case "workspace":
                return self._place(uri.removeprefix("workspace:"))
            case "file":
                if parts.netloc not in {"", "localhost"}:
                    raise AttachmentError("it is on another machine")
                return self._place(urllib.parse.unquote(parts.path))
            case "" if uri.startswith("/"):
                return self._place(uri)
            case "http" | "https":
                return self._place_at_platform(uri)
            case _:
                raise AttachmentError("its address is none that this workspace can read")

    def _place_at_platform(self, uri: str) -> str:
        """Return where the file of a download link of the platform is, which for this workspace's own files is on this disk."""
        parts = urllib.parse.urlsplit(uri)
        try:
            known = self._platform is not None and origin_of(uri) == origin_of(self._platform.target.platform_url)
        except ValueError:
            known = False
        words = parts.path.strip("/").split("/")
        if not known or len(words) != 4 or words[0] != "workspaces" or words[2:] != ["chat", "download"]:
            # Fetching any address that a stranger names would let them reach what only this machine can reach.
            raise AttachmentError("only files of the platform are fetched")
        if words[1] != self._workspace_id:
            raise AttachmentError("it belongs to another workspace")
        return self._place(urllib.parse.parse_qs(parts.query).get("path", [""])[0])

    def _place(self, path: str) -> str:
        """Return a path as the contract has it, whichever way it was written."""
        if any(path.startswith(f"{root}/") for root in ROOTS):
            return path
        for root in (WORKSPACE, CONFIGS, PLUGINS):
            folder = self._folders.of(root)
            if folder is not None and path.startswith(f"{folder}/"):
                return f"{root}{path[len(str(folder)) :]}"
        raise AttachmentError("it is outside of the agent's folders")

    def _size(self, place: str) -> int:
        try:
            with self._folders.opened(place, self._secrets) as (_, status):
                size = status.st_size
        except FileNotFoundError:
            raise AttachmentError("there is no such file") from None
        except OSError as exc:
            raise AttachmentError(f"it cannot be read ({exc.strerror})") from None
        except MoleculeError as exc:
            raise AttachmentError(str(exc)) from None
        if size > MAX_FILE_BYTES:
            raise AttachmentError(f"it has {size} bytes; {MAX_FILE_BYTES} are allowed")
        return size

    async def _fetch(self, where: str, name: str, declared: str) -> File:
        workspace_id, _, file_id = where.partition("/")
        if workspace_id != self._workspace_id or self._platform is None:
            raise AttachmentError("it belongs to another workspace")
        try:
            uuid.UUID(file_id)
        except ValueError:
            raise AttachmentError("its id is not one of the platform's") from None
        try:
            found = await self._platform.pending_upload(file_id, timeout=FETCH_SECONDS)
            file = await self._store(name, found.content, found.mime_type, declared=declared)
        except MoleculeError as exc:
            if isinstance(exc, AttachmentError):
                raise
            raise AttachmentError("the platform did not give it out") from None
        try:
            await self._platform.acknowledge_upload(file_id)
        except MoleculeError:
            # It expires there by itself.
            return file
        return file

    async def _store(self, name: str, content: bytes, mime_type: str, *, declared: str) -> File:
        stored = uploads.Stored(name=name, mime_type=declared or mime_type or _type_of(name))
        try:
            await uploads.store(self._folders.workspace, stored, content)
        except Refusal as refusal:
            raise AttachmentError(refusal.error) from None
        path = self._folders.local(stored.uri.removeprefix("workspace:"))
        return _local(path, name, stored.mime_type, len(content))


def attachments_of(config: AdapterConfig) -> Attachments:
    """Return the files of the workspace that an adapter was set up for."""
    config_path = Path(config.config_path)
    state_dir = Path(config.state_dir or config.config_path)
    return Attachments(
        folders_for(config_path, state_dir, expand_home(env.PLUGINS_DIR.get())),
        secrets=tuple(_secret_files(state_dir)),
        workspace_id=config.workspace_id,
        platform=config.platform,
    )


def _secret_files(state_dir: Path) -> Iterable[Path]:
    names = (TOKEN_FILE_NAME, INBOUND_SECRET_FILE_NAME, *(f"{FILE_NAME}{suffix}" for suffix in ("", "-wal", "-shm")))
    yield from (state_dir / name for name in names)
    # Of the tools wheel, which makes it when it first writes.
    yield state_dir / "audit_ledger.key"
    for variable in (env.MOLECULE_A2A_TOKEN_FILE, env.MOLECULE_WORKSPACE_TOKEN_FILE, env.AUDIT_LEDGER_KEY_FILE):
        if variable.is_set():
            yield expand_home(variable.get())


def _name_of(file: File) -> str:
    if file.uri.startswith("data:") and not file.name:
        return "file"
    return clean_name(file.name or urllib.parse.urlsplit(file.uri).path or "file")


def _inline(uri: str) -> tuple[bytes, str]:
    kind, comma, data = uri.removeprefix("data:").partition(",")
    if not comma:
        raise AttachmentError("its data cannot be read")
    if len(data) > MAX_INLINE_BYTES * 3:
        raise AttachmentError(f"a file within a message may have {MAX_INLINE_BYTES} bytes")
    mime_type, _, encoding = kind.rpartition(";")
    try:
        if encoding == "base64":
            content = base64.b64decode(urllib.parse.unquote(data), validate=True)
        else:
            content, mime_type = urllib.parse.unquote_to_bytes(data), kind
    except (binascii.Error, ValueError):
        raise AttachmentError("its data cannot be read") from None
    if len(content) > MAX_INLINE_BYTES:
        raise AttachmentError(f"a file within a message may have {MAX_INLINE_BYTES} bytes")
    return content, mime_type


def _local(path: Path, name: str, mime_type: str, size: int) -> File:
    return File(uri=path.absolute().as_uri(), name=name, mime_type=mime_type or _type_of(name), size=size)


def _type_of(name: str) -> str:
    return mimetypes.guess_type(name)[0] or _FALLBACK_TYPE
