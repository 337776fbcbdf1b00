"""The plugins that lie in the data folder, `plugins/<name>/plugin.yaml`, and their way to a workspace (contract 16). Runs in threads."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

MAX_PLUGIN_BYTES = 100 * 1024 * 1024
"""Of a plugin's folder (contract 16.1)."""

MAX_PLUGIN_FILES = 10_000
MANIFEST = "plugin.yaml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)

_MAX_MANIFEST_BYTES = 64 * 1024


class ShelfError(Exception):
    """A plugin cannot be used; the message says why, `status` is the HTTP status of the contract."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a `plugin.yaml` says."""

    name: str
    version: str
    description: str
    author: str
    tags: tuple[str, ...]
    skills: tuple[str, ...]
    runtimes: tuple[str, ...]

    def supports(self, runtime: str) -> bool:
        """Tell whether it says that it runs there; one that names no runtime runs everywhere (16.5)."""
        return not self.runtimes or runtime.replace("-", "_") in {name.replace("-", "_") for name in self.runtimes}

    def body(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def manifests(shelf: Path) -> list[Manifest]:
    """Return every plugin of a folder that can be read, by name."""
    try:
        names = sorted(entry.name for entry in shelf.iterdir() if entry.is_dir() and NAME.fullmatch(entry.name))
    except OSError:
        return []
    found: list[Manifest] = []
    for name in names:
        try:
            found.append(manifest_of(shelf, name))
        except ShelfError:
            continue  # a folder that is no plugin
    return found


def manifest_of(shelf: Path, name: str) -> Manifest:
    """Return one plugin of a folder.

    Raises:
        ShelfError: 404 when it is not there, 422 when its manifest cannot be read.
    """
    if not NAME.fullmatch(name):
        raise ShelfError(400, "a plugin's name has letters, digits, dots, hyphens and underscores")
    file = shelf / name / MANIFEST
    try:
        with file.open("rb") as handle:
            data: object = yaml.safe_load(handle.read(_MAX_MANIFEST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        raise ShelfError(404, f"there is no {name}/{MANIFEST} in the folder of plugins") from None
    except (OSError, yaml.YAMLError, ValueError) as exc:
        raise ShelfError(422, f"{name}/{MANIFEST} cannot be read ({type(exc).__name__})") from None
    fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    return Manifest(
        name=name,
        version=str(fields.get("version") or ""),
        description=str(fields.get("description") or ""),
        author=str(fields.get("author") or ""),
        tags=_texts(fields.get("tags")),
        skills=_texts(fields.get("skills")),
        runtimes=_texts(fields.get("runtimes")),
    )


def digest(folder: Path) -> str:
    """Return the SHA-256 over the plugin's files as `manifest.json` states it (contract 16.5): sorted path, NUL, content.

    Raises:
        ShelfError: it is too large, or holds something that is neither file nor folder.
    """
    total = hashlib.sha256()
    for relative, path in _files(folder):
        if relative != "manifest.json":
            total.update(relative.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def install(shelf: Path, name: str, folder: Path) -> None:
    """Copy a plugin to `<folder>/plugins/<name>`, instead of an older copy; a copy that fails leaves the older one.

    Raises:
        ShelfError: it is too large, or holds something that is neither file nor folder.
        OSError: it cannot be copied.
    """
    target = folder / "plugins" / name
    fresh = target.with_name(f".{name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True, mode=0o700)
        for relative, path in _files(shelf / name):
            copy = fresh / relative
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(path, copy)
            copy.chmod(0o700 if path.stat().st_mode & 0o100 else 0o600)
        uninstall(folder, name)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def uninstall(folder: Path, name: str) -> bool:
    """Remove the copy of a plugin; False when there is none."""
    target = folder / "plugins" / name
    if not target.is_dir():
        return False
    shutil.rmtree(target)
    return True


def packed(shelf: Path, name: str) -> bytes:
    """Return a plugin as `tar.gz`, the same bytes for the same files.

    Raises:
        ShelfError: it is too large, or holds something that is neither file nor folder.
    """
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for relative, path in _files(shelf / name):
            entry = tarfile.TarInfo(f"{name}/{relative}")
            entry.size = path.stat().st_size
            entry.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as handle:
                archive.addfile(entry, handle)
    return buffer.getvalue()


def _files(folder: Path) -> Generator[tuple[str, Path]]:
    """Yield every file with its path below the folder, sorted; links are refused, since they could lead out of it."""
    paths: list[tuple[str, Path]] = []
    size = 0
    for current, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = folder.joinpath(current, name)
            relative = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise ShelfError(422, f"{relative} is a link or a device; a plugin holds files and folders only")
            size += path.lstat().st_size
            paths.append((relative, path))
            if size > MAX_PLUGIN_BYTES or len(paths) > MAX_PLUGIN_FILES:
                raise ShelfError(413, f"the plugin is larger than {MAX_PLUGIN_BYTES} bytes or {MAX_PLUGIN_FILES} files")
    yield from sorted(paths)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in cast("list[object]", value)) if isinstance(value, list) else ()
