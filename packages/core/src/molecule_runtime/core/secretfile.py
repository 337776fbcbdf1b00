"""Files that hold one secret: 0600 from birth, replaced whole, never half-written."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    # mkstemp opens with O_EXCL and mode 0600 whatever the umask is.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(name, path)  # noqa: PTH105 - name comes from mkstemp
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108
        raise


def read_secret(path: Path) -> str:
    """Return the one secret in `path`, stripped.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
        OSError: it cannot be read for another reason.
        ValueError: it is not UTF-8, is empty, too large, or holds more than one word (a paste of several tokens).
    """
    with path.open("rb") as handle:
        data = handle.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise ValueError("is larger than 64 KiB, so it is not a token")
    try:
        secret = data.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if not secret:
        raise ValueError("is empty")
    if len(secret.split()) != 1:
        raise ValueError("contains whitespace inside: it must hold exactly one token")
    return secret
