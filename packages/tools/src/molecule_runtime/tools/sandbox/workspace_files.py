"""Files into a sandbox and out of it: plain names, bounded sizes, no links followed."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from molecule_runtime.tools.sandbox.job import MAX_COLLECTED_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CHUNK: Final = 1024 * 1024


def in_memory(content: bytes, stack: ExitStack) -> int:
    """Return a descriptor of a file that exists nowhere, at its start; the stack closes it."""
    descriptor = os.memfd_create("sandbox", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def read_all(descriptor: int, limit: int) -> bytes | None:
    """Read a file from its start; None where it is longer than `limit`. Blocking."""
    content = bytearray()
    while chunk := os.pread(descriptor, _CHUNK, len(content)):
        content += chunk
        if len(content) > limit:
            return None
    return bytes(content)


def collect(folder: int, names: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read files of a folder, by its descriptor, once nothing can change them any more. Blocking.

    Returns:
        The contents by name, and for each other name why there is none.
    """
    files: dict[str, bytes] = {}
    refused: dict[str, str] = {}
    left = MAX_COLLECTED_BYTES
    for name in names:
        content = _content(folder, name, left)
        if isinstance(content, bytes):
            files[name] = content
            left -= len(content)
        else:
            refused[name] = content
    return files, refused


def save(root: Path, folder: Sequence[str], files: Mapping[str, bytes]) -> None:
    """Write new files into a new folder below `root`, following no link on the way; only this user may read them. Blocking.

    Raises:
        OSError: they cannot be written, or a folder on the way is a link.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as opened:
        inside = _opened(opened, root, None)
        for part in folder:
            with suppress(FileExistsError):
                # What is there may be a link, which opening it refuses.
                os.mkdir(part, 0o700, dir_fd=inside)
            inside = _opened(opened, part, inside)
        for name, content in files.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(name, flags, 0o600, dir_fd=inside), "wb") as handle:
                handle.write(content)


def _opened(opened: ExitStack, folder: str | Path, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if parent is not None else 0)
    descriptor = os.open(folder, flags, dir_fd=parent)
    opened.callback(os.close, descriptor)
    return descriptor


def _content(folder: int, name: str, limit: int) -> bytes | str:
    try:
        # O_NONBLOCK: a named pipe would wait for its other end.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return "the code did not write it"
    except OSError as exc:
        return f"it cannot be opened ({exc.strerror}); links are not followed"
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"
        # A file may claim any size and hold nothing: it counts as what would be read.
        content = read_all(descriptor, limit) if status.st_size <= limit else None
    finally:
        os.close(descriptor)
    if content is None:
        return f"with it there would be more than {MAX_COLLECTED_BYTES // _CHUNK} MB to collect"
    return content
