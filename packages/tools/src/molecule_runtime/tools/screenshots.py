"""Pictures of the desktop on disk: in a folder of their own, 0600, never over another file or through a link, and bounded in number."""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

FOLDER: Final = (".molecule", "display", "screenshots")
"""In the agent's folder; contract `runtime.md` 7.11."""

MAX_PICTURES: Final = 200
"""The oldest make room."""


def keep(root: Path, name: str, picture: bytes) -> Path:
    """Write a picture below `root` and return its path; a name that is taken gets an ending. Blocking.

    Raises:
        OSError: it cannot be written, or a folder on the way is a link.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as opened:
        folder = _opened(opened, root, None)
        for part in FOLDER:
            with suppress(FileExistsError):
                # What is there may be a link, which opening it refuses.
                os.mkdir(part, 0o700, dir_fd=folder)
            folder = _opened(opened, part, folder)
        stem = name.removesuffix(".png")[:80] or "screenshot"
        free = f"{stem}.png"
        try:
            descriptor = _create(folder, free)
        except FileExistsError:
            free = f"{stem}-{secrets.token_hex(4)}.png"
            descriptor = _create(folder, free)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(picture)
        _make_room(folder)
    return root.joinpath(*FOLDER, free)


def _opened(opened: ExitStack, folder: str | Path, parent: int | None) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (os.O_NOFOLLOW if parent is not None else 0)
    descriptor = os.open(folder, flags, dir_fd=parent)
    opened.callback(os.close, descriptor)
    return descriptor


def _create(folder: int, name: str) -> int:
    return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)


def _make_room(folder: int) -> None:
    pictures = [name for name in os.listdir(folder) if name.endswith(".png")]
    if len(pictures) <= MAX_PICTURES:
        return
    ages = {name: os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns for name in pictures}
    for name in sorted(pictures, key=ages.__getitem__)[: len(pictures) - MAX_PICTURES]:
        os.unlink(name, dir_fd=folder)
