"""Files that leave the machine: from one folder, checked before they are read, and streamed.

Opened step by step from that folder without following a link, so that what was checked is what is sent. Names that begin with a dot,
credentials by name or content, and files that have another name somewhere (hard links) are refused.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from molecule_runtime.core import env
from molecule_runtime.core.platform.client import MAX_UPLOAD_BYTES
from molecule_runtime.core.platform.multipart import FormFile
from molecule_runtime.core.redaction import redact_text
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.tools.errors import ToolRefusedError
from molecule_runtime.tools.media_types import HEAD_BYTES, media_type_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
    from contextlib import ExitStack

WORKSPACE_FOLDER: Final = Path("/workspace")
"""The agent's own folder in a container (contract `consumers.md` 1.11)."""

OUR_FOLDERS: Final = (
    PurePosixPath(".molecule/chat-uploads"),
    PurePosixPath(".molecule/display/screenshots"),
)
"""The only folders with a dot whose files may be sent: what people uploaded, and screenshots (contract `runtime.md` 7.11)."""

MAX_TOTAL_BYTES: Final = 50 * 1024 * 1024
"""Of one message; contract `platform-api.md` 10.1."""

MAX_FILES: Final = 20
"""Of one message; what the platform takes (`GET /uploads/limits`)."""

_CHUNK = 256 * 1024
_MAX_SECRET = 64 * 1024
_MAX_NAME = 100
_MAX_PATH = 4096
_SECRET_NAMES = re.compile(
    r"(?:.*\.(?:pem|key|p12|pfx|p8|jks|keystore|kdbx|ppk|token|env)"
    r"|(?:id|ssh)_(?:rsa|dsa|ecdsa|ed25519)(?:[._-].*)?"
    r"|(?:.*[._-])?(?:auth|access|api|refresh|secret|admin)?[._-]?(?:token|secret|credential)s?(?:\.(?:txt|json|ya?ml|toml|ini))?"
    r"|(?:.*[._-])?(?:passwords?|passwd|shadow|kubeconfig|service[._-]account.*\.json|htpasswd))",
    re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]{0,24}PRIVATE KEY( BLOCK)?-----")


@dataclass(slots=True, kw_only=True)
class OpenFile:
    """A file that passed every check and stays open until it is sent."""

    name: str
    mime_type: str
    size: int
    descriptor: int = field(repr=False)

    def part(self) -> FormFile:
        """Return it as a part of a form."""
        return FormFile(name=self.name, mime_type=self.mime_type, size=self.size, chunks=self._chunks)

    async def _chunks(self) -> AsyncGenerator[bytes]:
        position = 0
        while position < self.size:
            wanted = min(_CHUNK, self.size - position)
            chunk = await anyio.to_thread.run_sync(os.pread, self.descriptor, wanted, position)
            if not chunk:
                raise ToolRefusedError(f"{self.name} became shorter while it was sent; nothing was sent to the user")
            position += len(chunk)
            yield chunk


def files_root(environ: Mapping[str, str] | None = None, *, started_in: Path | None = None) -> Path | None:
    """Return the folder whose files may be sent: `MOLECULE_FILES_DIR`, `/workspace`, or the folder that a process was started in.

    That last one does not count when it is the root of the disk or somebody's home: too much lies below. None for no folder.
    """
    if env.MOLECULE_FILES_DIR.is_set(environ):
        return expand_home(env.MOLECULE_FILES_DIR.get(environ))
    if WORKSPACE_FOLDER.is_dir():
        return WORKSPACE_FOLDER
    if started_in is None or started_in in {Path(started_in.anchor), expand_home("~")}:
        return None
    return started_in


def open_files(
    root: Path | None,
    wanted: Sequence[tuple[str, str, str | None]],
    *,
    private: Collection[Path] = (),
    tokens: Collection[str] = (),
    stack: ExitStack,
) -> list[OpenFile]:
    """Open files to send, all or none; the stack closes them. Blocking.

    Args:
        root: the only folder that they may lie in.
        wanted: for each the argument's name, its path and the name to show, if another.
        private: files and folders that are refused wherever they lie, such as the one with the tokens.
        tokens: those of this process, which no file may contain: one tenant's must not reach another's platform.
        stack: what closes them.

    Raises:
        ToolRefusedError: naming the argument, and why.
    """
    if not wanted:
        return []
    if root is None:
        raise ToolRefusedError(
            f"{wanted[0][0]}: no folder is named whose files may be sent; a person can name one in {env.MOLECULE_FILES_DIR.name}"
        )
    if len(wanted) > MAX_FILES:
        raise ToolRefusedError(f"attachments: {len(wanted)} files, and a message takes {MAX_FILES}")
    opened: list[OpenFile] = []
    total = 0
    for argument, path, shown in wanted:
        file = _open_one(root, argument, path, shown, private, stack)
        if _contains(file.descriptor, file.size, tokens):
            raise ToolRefusedError(f"{argument}: {path!r} contains a token of this process, which never leaves")
        total += file.size
        if total > MAX_TOTAL_BYTES:
            raise ToolRefusedError(f"{argument}: the files are more than {_megabytes(MAX_TOTAL_BYTES)} MB together")
        opened.append(file)
    return opened


def clean_name(name: str) -> str:
    """Return a file name as contract `platform-api.md` 10.2 has it: the base name, safe characters, at most 100 of them."""
    base = name.replace("\\", "/").rpartition("/")[2].replace(" ", "_")
    base = re.sub(r"[^A-Za-z0-9._-]", "_", base).lstrip(".") or "file"
    if len(base) <= _MAX_NAME:
        return base
    stem, dot, extension = base.rpartition(".")
    if not dot or len(extension) > 16:
        return base[:_MAX_NAME]
    return f"{stem[: _MAX_NAME - len(extension) - 1]}.{extension}"


def _open_one(
    root: Path, argument: str, path: str, shown: str | None, private: Collection[Path], stack: ExitStack
) -> OpenFile:
    relative = _relative(root, argument, path)
    _check_names(argument, relative)
    real = Path(os.path.realpath(root))
    for folder in (Path(os.path.realpath(item)) for item in private):
        # A folder above the root would leave nothing to send.
        inside = real == folder or not real.is_relative_to(folder)
        if inside and Path(os.path.realpath(root / relative)).is_relative_to(folder):
            raise ToolRefusedError(f"{argument}: {path!r} is among the runtime's own files, which never leave")
    try:
        descriptor = _open_below(root, relative)
    except FileNotFoundError:
        raise ToolRefusedError(f"{argument}: there is no file {path!r} in {root}") from None
    except OSError as exc:
        # A link on the way says ELOOP or ENOTDIR.
        raise ToolRefusedError(
            f"{argument}: {path!r} cannot be opened ({exc.strerror}); links are not followed"
        ) from None
    stack.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ToolRefusedError(f"{argument}: {path!r} is not a regular file")
    if status.st_nlink > 1:
        raise ToolRefusedError(f"{argument}: {path!r} has another name somewhere (a hard link); send a copy of it")
    if status.st_size > MAX_UPLOAD_BYTES:
        size, most = _megabytes(status.st_size), _megabytes(MAX_UPLOAD_BYTES)
        raise ToolRefusedError(f"{argument}: {path!r} has {size} MB, and a file may have {most}")
    head = os.pread(descriptor, HEAD_BYTES, 0)
    if _PRIVATE_KEY.search(head) or _is_one_secret(descriptor, status.st_size):
        raise ToolRefusedError(f"{argument}: {path!r} holds a key or a token, which never leave")
    name = clean_name(shown or relative.name)
    return OpenFile(name=name, mime_type=media_type_of(name, head), size=status.st_size, descriptor=descriptor)


def _relative(root: Path, argument: str, path: str) -> PurePosixPath:
    if "\0" in path or len(path) > _MAX_PATH:
        raise ToolRefusedError(f"{argument}: a path has no null character and at most {_MAX_PATH} characters")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:workspace|platform-pending):", path):
        raise ToolRefusedError(
            f"{argument}: {path!r} is an address and no local file: give an object with its uri and name"
        )
    given = PurePosixPath(expand_home(path))
    if given.is_absolute():
        real = PurePosixPath(os.path.realpath(root))
        base = next((base for base in (PurePosixPath(root), real) if given.is_relative_to(base)), None)
        if base is None:
            raise ToolRefusedError(f"{argument}: {path!r} is not in {root}, the only folder whose files may be sent")
        given = given.relative_to(base)
    if ".." in given.parts or not given.parts:
        raise ToolRefusedError(f"{argument}: {path!r} must name a file in {root}, without '..'")
    return given


def _check_names(argument: str, relative: PurePosixPath) -> None:
    ours = next((folder for folder in OUR_FOLDERS if relative.is_relative_to(folder)), None)
    for part in relative.relative_to(ours).parts if ours is not None else relative.parts:
        if part.startswith("."):
            raise ToolRefusedError(f"{argument}: names that begin with a dot ({part!r}) are not sent")
        if _SECRET_NAMES.fullmatch(part):
            raise ToolRefusedError(f"{argument}: {part!r} is the name of a key or of credentials, which are not sent")


def _open_below(root: Path, relative: PurePosixPath) -> int:
    """Open a file below a folder, following no link on the way."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in relative.parts[:-1]:
        try:
            following = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)
        folder = following
    try:
        # O_NONBLOCK: a named pipe would wait for its other end.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(relative.parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)


def _is_one_secret(descriptor: int, size: int) -> bool:
    """Tell whether a file is nothing but a credential, under whatever name."""
    if not 0 < size <= _MAX_SECRET:
        return False
    try:
        text = os.pread(descriptor, _MAX_SECRET, 0).decode().strip()
    except UnicodeDecodeError:
        return False
    return bool(text) and re.fullmatch(r"(?:[A-Z0-9_]{0,80}=)?\[REDACTED:[a-z0-9_]+\]", redact_text(text)) is not None


def _contains(descriptor: int, size: int, words: Collection[str]) -> bool:
    """Tell whether a file contains one of some words."""
    sought = [word.encode() for word in words if word]
    overlap = max(map(len, sought), default=1) - 1
    position = 0
    while sought and position < size:
        chunk = os.pread(descriptor, _CHUNK + overlap, position)
        if any(word in chunk for word in sought):
            return True
        position += _CHUNK
    return False


def _megabytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f}".removesuffix(".0")
