"""The folders that the platform may read from: what a path may say, and that no link leads out of them."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from molecule_runtime.a2a.folders import Folders, PathNotAllowedError, folders_of, open_folder, parse
from molecule_runtime.a2a.settings import load_settings


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    for name in ("configs", "workspace", "plugins"):
        (tmp_path / name).mkdir()
    return Folders(
        configs=tmp_path / "configs", workspace=tmp_path / "workspace", home=None, plugins=tmp_path / "plugins"
    )


def read(folders: Folders, path: str, *secrets: Path) -> bytes:
    with folders.opened(path, secrets) as (descriptor, status):
        return os.read(descriptor, status.st_size)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "configs/a",
        "/etc/passwd",
        "/",
        "//configs/a",
        "/configs/",
        "/configs//a",
        "/configs/./a",
        "/configs/../etc/passwd",
        "/configs/a/..",
        "/configs/a..b",
        "/configsx/a",
        "/configs/a\0b",
        "/configs/" + "a" * 5000,
    ],
)
def test_a_path_that_is_not_clean_or_not_under_a_root_is_refused(path: str) -> None:
    with pytest.raises(PathNotAllowedError):
        parse(path)


def test_a_file_is_read_under_the_root_that_stands_for_its_folder(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "workspace" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "workspace" / "deep" / "er" / "a b.txt").write_bytes(b"found")
    assert read(folders, "/workspace/deep/er/a b.txt") == b"found"
    assert folders.local("/workspace/deep/er/a b.txt") == tmp_path / "workspace" / "deep" / "er" / "a b.txt"
    with pytest.raises(FileNotFoundError):
        read(folders, "/workspace/deep/other")
    with pytest.raises(FileNotFoundError):
        read(folders, "/workspace/deep/er/a b.txt/below")
    with pytest.raises(FileNotFoundError):
        read(folders, "/workspace/" + "n" * 300)


def test_no_link_is_followed_below_a_root_and_the_root_itself_may_be_one(folders: Folders, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"secret")
    (tmp_path / "workspace" / "folder").symlink_to(outside)
    (tmp_path / "workspace" / "file").symlink_to(outside / "secret.txt")
    (tmp_path / "workspace" / "inside").symlink_to(tmp_path / "workspace")
    for path in ("/workspace/folder/secret.txt", "/workspace/inside/file"):
        with pytest.raises(FileNotFoundError):
            read(folders, path)
    with pytest.raises(PathNotAllowedError):
        read(folders, "/workspace/file")
    (tmp_path / "link").symlink_to(outside)
    linked = Folders(configs=tmp_path / "link", workspace=tmp_path / "workspace")
    assert read(linked, "/configs/secret.txt") == b"secret"


def test_only_regular_files_are_read(folders: Folders, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "workspace" / "pipe")
    (tmp_path / "workspace" / "folder").mkdir()
    # Bound by a short name: a socket's path may have 108 bytes.
    with socket.socket(socket.AF_UNIX) as sock:
        descriptor = os.open(tmp_path / "workspace", os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{descriptor}/socket")
        os.close(descriptor)
        for path in ("/workspace/pipe", "/workspace/folder", "/workspace/socket", "/workspace"):
            with pytest.raises(PathNotAllowedError):
                read(folders, path)


def test_a_secret_is_refused_by_name_and_under_any_other_name(folders: Folders, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    token = state / "token.txt"
    token.write_text("secret")
    for name in (".auth_token", ".platform_inbound_secret", "..auth_token.0123", ".AUTH_TOKEN"):
        (tmp_path / "configs" / name).write_text("secret")
        with pytest.raises(PathNotAllowedError):
            read(folders, f"/configs/{name}")
    os.link(token, tmp_path / "configs" / "harmless.txt")
    assert read(folders, "/configs/harmless.txt") == b"secret"
    with pytest.raises(PathNotAllowedError):
        read(folders, "/configs/harmless.txt", token, tmp_path / "not there")
    # As the file of a secret may be a link to where it is mounted.
    (state / "mounted").symlink_to(token)
    with pytest.raises(PathNotAllowedError):
        read(folders, "/configs/harmless.txt", state / "mounted")


def test_nothing_stays_open_whatever_is_asked_for(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "workspace" / "a").mkdir()
    (tmp_path / "workspace" / "a" / "b.txt").write_bytes(b"b")
    (tmp_path / "workspace" / "link").symlink_to("a")
    open_before = set(Path("/proc/self/fd").iterdir())
    assert read(folders, "/workspace/a/b.txt") == b"b"
    for path in ("/workspace/a/c", "/workspace/link/b.txt", "/workspace/a", "/workspace/x/y/z"):
        with pytest.raises((FileNotFoundError, PathNotAllowedError)):
            read(folders, path)
    os.close(open_folder(tmp_path / "workspace", ("new", "er"), create=True))
    with pytest.raises(OSError, match="link"):
        open_folder(tmp_path / "workspace", ("link", "er"), create=True)
    assert set(Path("/proc/self/fd").iterdir()) == open_before
    assert (tmp_path / "workspace" / "new").stat().st_mode & 0o777 == 0o700


def test_where_the_platform_mounted_nothing_the_agents_own_folders_stand_for_those_of_the_contract(
    tmp_path: Path,
) -> None:
    environ = {
        "WORKSPACE_ID": "ws-1",
        "WORKSPACE_CONFIG_PATH": str(tmp_path / "agent"),
        "CONFIGS_DIR": str(tmp_path / "state"),
        "PLUGINS_DIR": str(tmp_path / "plugins"),
    }
    settings = load_settings(environ)
    here = folders_of(settings)
    assert here == Folders(
        configs=tmp_path / "agent", workspace=tmp_path / "state" / "workspace", plugins=tmp_path / "plugins"
    )
    with pytest.raises(PathNotAllowedError, match="/home is not served"):
        here.local("/home/somebody/.ssh/id_ed25519")
    mounted = Folders(
        configs=Path("/configs"), workspace=Path("/workspace"), home=Path("/home"), plugins=tmp_path / "plugins"
    )
    assert folders_of(replace(settings, config_path=Path("/configs"))) == mounted
    assert folders_of(replace(settings, configs_dir=Path("/configs"))) == mounted
