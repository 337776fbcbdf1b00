"""The folders that the platform names by their place in a container, and a way into them that no symbolic link leads out of.

The platform knows four of them (contract `platform-api.md` 10.3). On a machine of one's own the agent's folders stand for the first
two, and `/home` is nobody's: there it holds the files of a person, not of an agent.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.a2a.errors import A2aError
from molecule_runtime.core.configs_dir import CONTAINER_DIR
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from molecule_runtime.a2a.settings import HostSettings

CONFIGS, WORKSPACE, HOME, PLUGINS = "/configs", "/workspace", "/home", "/plugins"

ROOTS = (CONFIGS, WORKSPACE, HOME, PLUGINS)
"""What a path may begin with (contract `platform-api.md` 10.3)."""

WORKSPACE_FOLDER = "workspace"
"""In the folder of the state: what stands for `/workspace` outside of a container."""

MAX_PATH_CHARS = 4096

_SECRET_NAMES = (TOKEN_FILE_NAME, INBOUND_SECRET_FILE_NAME)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Non-blocking: opening a pipe would otherwise wait for a writer, for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


class PathNotAllowedError(A2aError, ValueError):
    """A path that may not be read, whatever is there."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path of the contract, taken apart: the root that it is under, and the names below that."""

    root: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where the roots of the contract are on this machine; None for one that is not served here."""

    configs: Path
    workspace: Path
    home: Path | None = None
    plugins: Path | None = None

    def of(self, root: str) -> Path | None:
        """Return the folder that stands for a root."""
        return {CONFIGS: self.configs, WORKSPACE: self.workspace, HOME: self.home, PLUGINS: self.plugins}[root]

    def local(self, path: str) -> Path:
        """Return the path on this machine that a path of the contract stands for; it need not exist.

        Raises:
            PathNotAllowedError: it is not a clean absolute path under one of the roots, or under one that is not served here.
        """
        place = parse(path)
        return self._required(place).joinpath(*place.names)

    @contextmanager
    def opened(self, path: str, secrets: Iterable[Path]) -> Generator[tuple[int, os.stat_result]]:
        """Open a regular file and give its descriptor and its status; blocking, so for a worker thread.

        Only the folder of a root may be a link: below it none is followed, wherever it leads.

        Raises:
            PathNotAllowedError: the path may not be read, is a link or no file, or what is there is a secret under whatever name.
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
        """
        place = parse(path)
        root = self._required(place)
        if any(name in part.casefold() for part in place.names for name in _SECRET_NAMES):
            raise PathNotAllowedError("this file holds a credential of the workspace, which is never given out")
        files = list(secrets)
        # Asked before and after: the file of a secret may be replaced at any moment.
        before = _identities(files)
        descriptor = _open_file(root, place.names)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PathNotAllowedError("this is not a regular file")
            if (status.st_dev, status.st_ino) in before | _identities(files):
                raise PathNotAllowedError("this file holds a credential of the workspace, which is never given out")
            yield descriptor, status
        finally:
            os.close(descriptor)

    def _required(self, place: Place) -> Path:
        folder = self.of(place.root)
        if folder is None:
            raise PathNotAllowedError(f"{place.root} is not served where the platform did not mount /configs")
        return folder


def folders_of(settings: HostSettings) -> Folders:
    """Return the folders of this host."""
    return folders_for(settings.config_path, settings.configs_dir, settings.plugins_dir)


def folders_for(config_path: Path, state_dir: Path, plugins: Path | None = None) -> Folders:
    """Return the folders of an agent: those of the contract where the platform mounted them, its own anywhere else.

    That this is some container says nothing: several agents of one person may share it, and none of them owns its `/workspace`.
    """
    if CONTAINER_DIR in (config_path, state_dir):
        return Folders(configs=CONTAINER_DIR, workspace=Path(WORKSPACE), home=Path(HOME), plugins=plugins)
    return Folders(configs=config_path, workspace=state_dir / WORKSPACE_FOLDER, plugins=plugins)


def parse(path: str) -> Place:
    """Take a path of the contract apart.

    Raises:
        PathNotAllowedError: it is not a clean absolute path under one of the roots.
    """
    clean = posixpath.normpath(path) if path else ""
    root = next((root for root in ROOTS if clean == root or clean.startswith(f"{root}/")), None)
    plain = len(path) <= MAX_PATH_CHARS and clean == path and ".." not in path and "\0" not in path
    if root is None or not plain:
        raise PathNotAllowedError(f"path must be absolute, without `.` and `..`, and under one of {', '.join(ROOTS)}")
    return Place(root, tuple(path[len(root) :].split("/")[1:]))


def open_folder(root: Path, names: Iterable[str], *, create: bool = False) -> int:
    """Return a descriptor of a folder below `root`, which is followed; links below it are not.

    Args:
        root: an existing folder, or one to create.
        names: of the folders below it, in order.
        create: make what is missing, 0700.

    Raises:
        OSError: there is no such folder, or it cannot be made or entered.
    """
    if create:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(root, _FOLDER)
    try:
        for name in names:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=descriptor)
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _open_file(root: Path, names: tuple[str, ...]) -> int:
    if not names:
        raise PathNotAllowedError("this is a folder; name a file in it")
    try:
        folder = open_folder(root, names[:-1])
        try:
            # Looked at before it is opened: opening a device may do something.
            mode = os.stat(names[-1], dir_fd=folder, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode):
                raise PathNotAllowedError("this is not a regular file (links are not followed)")
            return os.open(names[-1], _FILE, dir_fd=folder)
        finally:
            os.close(folder)
    except OSError as exc:
        if exc.errno in _NOT_THERE:
            # A link in the way counts as nothing being there: what it leads to is not ours to tell.
            raise FileNotFoundError(errno.ENOENT, "no such file", str(root)) from None
        raise


def _identities(files: Iterable[Path]) -> frozenset[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return frozenset(found)
