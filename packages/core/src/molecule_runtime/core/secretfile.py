"""Files that hold one secret: 0600 from birth, replaced whole, never half-written."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

MAX_SECRET_BYTES = 64 * 1024
"""A file above this is not a token; reading stops there."""


def write_private(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` atomically with mode 0600, creating its folder (0700) when needed.

    The temporary file is created 0600 in the same folder and renamed over the old one, so a reader sees the old or the new
    content and nothing else.

    Raises:
        OSError: the folder cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    data = content.encode() if isinstance(content, str) else content
    # Not the tempfile module: it costs more to import than the rest of this wheel's light part. O_EXCL never follows a link; a
    # umask may take bits from the owner too, which chmod puts back.
    name = path.parent / f".{path.name}.{os.urandom(8).hex()}"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            name.chmod(0o600)
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        name.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            name.unlink()
        raise


def read_secret(path: Path) -> str:
    """Return the one secret in `path`, stripped.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
        OSError: it cannot be read for another reason.
        ValueError: it is not a regular file, not UTF-8, is empty, too large, holds more than one word (a paste of several
            tokens), or a character that no HTTP header can carry.
    """
    with open(path, "rb", opener=_open_regular) as handle:
        data = handle.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError("is larger than 64 KiB, so it is not a token")
    try:
        secret = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if problem := secret_problem(secret):
        raise ValueError(problem)
    return secret


def _open_regular(path: str, flags: int) -> int:
    # Non-blocking: opening a pipe would otherwise wait for a writer, for ever.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file; it is read anew for each use")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def secret_problem(secret: str) -> str | None:
    """Say why a stripped secret cannot go into an HTTP header, without showing it; None when it can."""
    if not secret:
        return "is empty"
    if len(secret.split()) != 1:
        return "contains whitespace inside: it must hold exactly one token"
    if not all(33 <= ord(character) <= 126 for character in secret):
        return "contains a character that is not printable ASCII, so it is not a token"
    return None


def expand_home(path: str) -> Path:
    """Return the path with `~` expanded, or as it stands when there is no such home directory."""
    # Path.expanduser raises RuntimeError where os.path.expanduser leaves the path alone.
    return Path(os.path.expanduser(path))  # noqa: PTH111
