"""Secrets on disk, and where a token comes from."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from molecule_runtime.core.secretfile import MAX_SECRET_BYTES, read_secret, write_private
from molecule_runtime.core.tokens import FirstOf, StaticToken, TokenFile, workspace_token

TOKEN = "the-token-that-nobody-may-see"  # noqa: S105 - made up


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Writing


def test_a_secret_is_private_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_private(path, TOKEN)
    assert mode_of(path) == 0o600
    assert path.read_bytes() == TOKEN.encode()


def test_a_secret_is_private_from_birth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    rename = os.replace

    def watch(source: str, target: Path) -> None:
        modes.append(mode_of(Path(source)))
        assert Path(source).parent == target.parent
        rename(source, target)

    monkeypatch.setattr("molecule_runtime.core.secretfile.os.replace", watch)
    before = os.umask(0)
    try:
        write_private(tmp_path / "token", TOKEN)
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_a_public_file_becomes_private_when_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_private(path, b"new")
    assert mode_of(path) == 0o600
    assert path.read_bytes() == b"new"


def test_the_folder_of_a_secret_is_created_private(tmp_path: Path) -> None:
    write_private(tmp_path / "a" / "b" / "token", TOKEN)
    assert mode_of(tmp_path / "a" / "b") == 0o700


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_other_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    write_private(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"molecule_runtime.core.secretfile.os.{step}", fail)
    with pytest.raises(OSError, match="No space"):
        write_private(path, "new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OSError):  # noqa: PT011 - FileExistsError or NotADirectoryError
        write_private(tmp_path / "file" / "token", TOKEN)


# Reading


@pytest.mark.parametrize(
    "content", [TOKEN, f"{TOKEN}\n", f"  {TOKEN}\r\n", f"\ufeff{TOKEN}\n"], ids=["bare", "newline", "spaces", "bom"]
)
def test_a_secret_is_read_without_what_an_editor_adds(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    assert read_secret(path) == TOKEN


@pytest.mark.parametrize(
    "content",
    [
        b"", b" \n\t", b"one two", b"one\ntwo\n", b"one\ttwo", "one\u00a0two".encode(), b"\xff\xfe\x00t", "tökén".encode(),
        b"tok\x00en", b"tok\x7fen", b"tok\x1ben", b"x" * (MAX_SECRET_BYTES + 1),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_cannot_be_a_token_is_refused_without_showing_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^(is|contains) ") as caught:
        read_secret(path)
    for word in ("one", "tok", "xxx"):
        assert word not in str(caught.value).replace("token", "").replace("one token", "").replace("exactly one", "")
    assert TokenFile(path).read() == ""


def test_a_secret_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"x" * MAX_SECRET_BYTES)
    assert len(read_secret(path)) == MAX_SECRET_BYTES


def test_a_pipe_or_a_folder_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(ValueError, match="regular file"):
            read_secret(path)
    with pytest.raises(FileNotFoundError):
        read_secret(tmp_path / "absent")


# Token files


def test_a_missing_or_unusable_token_file_gives_no_token(tmp_path: Path) -> None:
    assert TokenFile(tmp_path / "absent").read() == ""
    assert TokenFile(tmp_path).read() == ""
    assert TokenFile(tmp_path / "a\x00b").read() == ""


def test_a_rotated_token_file_is_picked_up(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "token")
    file.save("first-token")
    assert file.read() == "first-token"
    write_private(file.path, "second-token\n")
    assert file.read() == "second-token"


def test_saving_strips_and_does_not_write_the_same_token_again(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "token")
    file.save(f"  {TOKEN}\n")
    assert file.path.read_bytes() == TOKEN.encode()
    before = file.path.stat().st_ino
    file.save(TOKEN)
    assert file.path.stat().st_ino == before
    file.save("another-token")
    assert file.path.stat().st_ino != before


@pytest.mark.parametrize("token", ["", "  \n", "two words", "tökén", "to\x00ken"], ids=repr)
def test_a_token_that_could_not_be_read_back_is_not_saved(token: str, tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "token")
    file.save(TOKEN)
    with pytest.raises(ValueError, match="refusing"):
        file.save(token)
    assert file.read() == TOKEN


# Precedence


def test_in_the_container_folder_the_file_comes_before_the_environment(tmp_path: Path) -> None:
    named = tmp_path / "named"
    environ = {"MOLECULE_WORKSPACE_TOKEN": "from-env", "MOLECULE_WORKSPACE_TOKEN_FILE": str(named)}
    source = workspace_token(Path("/configs"), environ)
    assert isinstance(source, FirstOf)
    assert source.sources == (
        TokenFile(Path("/configs/.auth_token")),
        StaticToken("from-env", description="environment variable MOLECULE_WORKSPACE_TOKEN"),
        TokenFile(named),
    )


@pytest.mark.parametrize("folder", ["/configs/team", "/configs2", "/srv/configs", "configs"])
def test_only_exactly_that_folder_counts_as_the_container(folder: str) -> None:
    source = workspace_token(Path(folder), {"MOLECULE_WORKSPACE_TOKEN": "from-env"})
    assert isinstance(source, FirstOf)
    assert isinstance(source.sources[0], StaticToken)


def test_elsewhere_the_environment_comes_before_a_file_left_behind(tmp_path: Path) -> None:
    TokenFile(tmp_path / ".auth_token").save("left-behind")
    source = workspace_token(tmp_path, {"MOLECULE_WORKSPACE_TOKEN": " from-env "})
    assert source.read() == "from-env"
    assert source.description == "environment variable MOLECULE_WORKSPACE_TOKEN"
    assert workspace_token(tmp_path, {}).read() == "left-behind"


def test_the_next_source_takes_over_when_the_first_has_no_token(tmp_path: Path) -> None:
    source = workspace_token(tmp_path, {"MOLECULE_WORKSPACE_TOKEN_FILE": str(tmp_path / "named")})
    assert source.read() == ""
    assert str(tmp_path / "named") in source.description
    assert str(tmp_path / ".auth_token") in source.description
    TokenFile(tmp_path / ".auth_token").save("from-default")
    assert source.read() == "from-default"
    TokenFile(tmp_path / "named").save("from-named")
    assert source.read() == "from-named"


def test_no_representation_or_description_shows_a_token(tmp_path: Path) -> None:
    TokenFile(tmp_path / ".auth_token").save(TOKEN)
    source = workspace_token(tmp_path, {"MOLECULE_WORKSPACE_TOKEN": TOKEN})
    for shown in (source, StaticToken(TOKEN), TokenFile(tmp_path / ".auth_token")):
        assert TOKEN not in repr(shown)
        assert TOKEN not in str(shown)
        assert TOKEN not in shown.description
