"""Where tokens and state live."""

import logging
import stat
from pathlib import Path

import pytest

from molecule_runtime.core import configs_dir
from molecule_runtime.core.errors import ConfigurationError


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """Stand in for /configs."""
    return tmp_path / "configs"


def test_the_named_folder_wins_and_is_created_private_with_its_parents(
    home: Path, container: Path, tmp_path: Path
) -> None:
    container.mkdir()
    named = tmp_path / "a" / "b"
    assert configs_dir.resolve({"CONFIGS_DIR": f" {named} ", "HOME": str(home)}, container_dir=container) == named
    assert mode_of(named) == 0o700
    assert not home.exists()


def test_a_tilde_in_the_named_folder_is_the_home_directory() -> None:
    assert configs_dir.resolve({"CONFIGS_DIR": "~/state"}) == Path("~/state").expanduser()


def test_without_a_name_the_container_folder_is_taken_where_it_is_writable(home: Path, container: Path) -> None:
    container.mkdir(mode=0o755)
    for blank in ({}, {"CONFIGS_DIR": ""}, {"CONFIGS_DIR": "  "}):
        assert configs_dir.resolve(blank | {"HOME": str(home)}, container_dir=container) == container
    assert mode_of(container) == 0o755
    assert list(container.iterdir()) == []


def test_without_a_container_folder_the_home_directory_is_taken_and_private(home: Path, container: Path) -> None:
    chosen = configs_dir.resolve({"HOME": str(home)}, container_dir=container)
    assert chosen == home / ".molecule-workspace"
    assert mode_of(chosen) == 0o700
    assert not container.exists()


def test_a_container_folder_that_is_a_file_leads_to_the_home_directory(home: Path, container: Path) -> None:
    container.write_text("in the way", encoding="utf-8")
    assert configs_dir.resolve({"HOME": str(home)}, container_dir=container) == home / ".molecule-workspace"


def test_a_container_folder_that_was_named_but_cannot_be_made_leads_home_with_a_warning(
    home: Path, container: Path, caplog: pytest.LogCaptureFixture
) -> None:
    container.write_text("in the way", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        chosen = configs_dir.resolve({"CONFIGS_DIR": str(container), "HOME": str(home)}, container_dir=container)
    assert chosen == home / ".molecule-workspace"
    assert str(container) in caplog.text


def test_any_other_named_folder_that_cannot_be_made_is_an_error_that_names_it(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    named = tmp_path / "file" / "state"
    with pytest.raises(ConfigurationError) as caught:
        configs_dir.resolve({"CONFIGS_DIR": str(named), "HOME": str(home)})
    assert str(named) in str(caught.value)
    assert "CONFIGS_DIR" in str(caught.value)


@pytest.mark.parametrize("named", ["~no-such-user/state", "a\x00b"], ids=repr)
def test_a_named_folder_that_is_no_path_here_is_an_error_or_stays_as_it_is(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        assert configs_dir.resolve({"CONFIGS_DIR": named}) == Path(named)
    except ConfigurationError:
        assert "\x00" in named


def test_without_any_usable_folder_the_error_says_what_to_set(container: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="CONFIGS_DIR"):
        configs_dir.resolve({"HOME": str(tmp_path / "file")}, container_dir=container)


def test_nothing_is_cached(home: Path, container: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = {"HOME": str(home)}
    assert configs_dir.resolve(environ, container_dir=container) == home / ".molecule-workspace"
    container.mkdir()
    assert configs_dir.resolve(environ, container_dir=container) == container
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path / "one"))
    assert configs_dir.resolve() == tmp_path / "one"
    monkeypatch.setenv("CONFIGS_DIR", str(tmp_path / "two"))
    assert configs_dir.resolve() == tmp_path / "two"
