"""The file that `MOLECULE_WORKSPACES_FILE` names: the same JSON array, which may be changed while a process runs."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.core.targets.entries import Entry, parse_array

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_FILE_BYTES = 4 * 1024 * 1024
"""More than ten thousand entries; reading stops there."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one version of a file from the next without reading it."""

    device: int
    inode: int
    size: int
    mode: int
    modified: int
    changed: int


def workspaces_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the absolute path that `MOLECULE_WORKSPACES_FILE` names, or None."""
    named = env.MOLECULE_WORKSPACES_FILE.get(environ)
    # Absolute now: the process may change its folder while it watches the file.
    return expand_home(named).absolute() if named else None


def fingerprint(path: Path) -> Fingerprint | None:
    """Look at the file without opening it; None where there is none that can be seen. Blocking."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return Fingerprint(found.st_dev, found.st_ino, found.st_size, found.st_mode, found.st_mtime_ns, found.st_ctime_ns)


def read_file(path: Path) -> tuple[list[Entry], list[str]]:
    """Return the entries of the file that can be used, and every problem; an empty array is no problem. Blocking."""
    where = f"{env.MOLECULE_WORKSPACES_FILE.name} {str(path)!r}"
    try:
        text = _read_private(path)
    except FileNotFoundError:
        return [], [f"{where} not found"]
    except PermissionError:
        return [], [f"{where}: permission denied; make it readable by this user"]
    except OSError as exc:
        return [], [f"{where} cannot be read: {exc.strerror or type(exc).__name__}"]
    except UnicodeDecodeError:
        # Before ValueError, of which it is one.
        return [], [f"{where} is not UTF-8 text"]
    except ValueError as exc:
        return [], [f"{where} {exc}"]
    # Relative paths in a file are meant beside it.
    entries, errors = parse_array(text, name=str(path), base=path.parent, may_be_empty=True)
    return entries, [error if error.startswith(str(path)) else f"{path}{error}" for error in errors]


def _read_private(path: Path) -> str:
    # Non-blocking: opening a pipe would otherwise wait for a writer, for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as handle:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("is not a regular file; it is read again whenever it changes")
        if mode & 0o077:
            raise ValueError(
                f"is open to others (mode {stat.S_IMODE(mode):04o}), and holds tokens: run chmod 600 {str(path)!r}"
            )
        data = handle.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES} bytes, so it is no list of workspaces")
    return data.decode("utf-8-sig")
