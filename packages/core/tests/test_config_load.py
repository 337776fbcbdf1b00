"""Prompts in files, the folder, and what `load_config` raises and logs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from molecule_runtime.core.config import (
    InvalidConfigError,
    MissingConfigError,
    WorkspaceConfig,
    load,
    load_config,
)
from molecule_runtime.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, text: str, **environ: str) -> WorkspaceConfig:
    loaded = load(write(folder, text), environ)
    assert loaded.config is not None, [str(finding) for finding in loaded.findings]
    return loaded.config


def at(config: WorkspaceConfig, path: str) -> Any:
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("key", ["initial_prompt", "idle_prompt"])
def test_a_prompt_may_stand_in_a_file_and_the_inline_one_wins(tmp_path: Path, key: str) -> None:
    folder = write(tmp_path, "")
    (folder / "prompt.md").write_text("\ufeff\n  Hello there.\n\n", encoding="utf-8")
    assert at(read(folder, f"{key}_file: prompt.md"), key) == "Hello there."
    assert at(read(folder, f"{key}_file: prompt.md\n{key}: inline"), key) == "inline"


def test_a_prompt_file_that_is_missing_means_no_prompt_and_a_word(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "idle_prompt_file: nowhere.md"), {})
    assert loaded.config is not None
    assert loaded.config.idle_prompt == ""
    assert [(finding.severity, finding.code, finding.key) for finding in loaded.findings] == [
        ("warning", "missing-file", "idle_prompt_file")
    ]


@pytest.mark.parametrize("name", ["../secret.md", "/etc/hostname", "link.md", "x\\0y", "a/../../secret.md"])
def test_a_prompt_file_stays_inside_the_folder_links_included(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "configs", f'initial_prompt_file: "{name}"\n')
    (tmp_path / "secret.md").write_text("secret", encoding="utf-8")
    (folder / "link.md").symlink_to(tmp_path / "secret.md")
    loaded = load(folder, {})
    assert loaded.config is None
    assert [finding.key for finding in loaded.errors] == ["initial_prompt_file"]


def test_prompt_files_stay_inside_the_folder_too(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "configs", "prompt_files: [a.md, ../b.md, sub/../c.md]"), {})
    assert [finding.key for finding in loaded.errors] == ["prompt_files[1]"]


def test_a_prompt_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    folder = write(tmp_path, "initial_prompt_file: p.md")
    (folder / "p.md").write_bytes(b"\xff\xfe\x00")
    assert [finding.code for finding in load(folder, {}).errors] == ["encoding"]
    (folder / "p.md").write_bytes(b"x" * 300_000)
    assert [finding.code for finding in load(folder, {}).errors] == ["too-large"]


# --- load_config ------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_a_file_not_found_error_and_ours(tmp_path: Path) -> None:
    with pytest.raises(MissingConfigError, match=r"config\.yaml does not exist") as caught:
        load_config(tmp_path, {})
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ConfigurationError)


def test_load_config_raises_with_every_error_at_once(tmp_path: Path) -> None:
    write(tmp_path, "tier: x\na2a: {port: 0}\nidle_interval_seconds: 0\n")
    with pytest.raises(InvalidConfigError) as caught:
        load_config(tmp_path, {})
    assert [finding.key for finding in caught.value.findings] == ["tier", "a2a.port", "idle_interval_seconds"]
    assert all(key in str(caught.value) for key in ("tier", "a2a.port", "idle_interval_seconds"))


def test_load_config_logs_each_warning_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "naem: x\n")
    with caplog.at_level(logging.WARNING):
        assert load_config(tmp_path, {}).name == "Workspace"
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'config.yaml'}:1:1: naem is not a known key; did you mean name?"
    ]


def test_the_folder_is_that_of_the_environment(tmp_path: Path) -> None:
    write(tmp_path / "named", "name: named")
    write(tmp_path / "state", "name: state")
    environ = {"CONFIGS_DIR": str(tmp_path / "state"), "HOME": str(tmp_path)}
    assert load_config(None, environ).name == "state"
    assert load_config(None, environ | {"WORKSPACE_CONFIG_PATH": str(tmp_path / "named")}).name == "named"
