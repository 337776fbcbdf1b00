"""`config.yaml`, as a process that needs it sees it."""

from pathlib import Path

import pytest

from molecule_runtime.core.config import DEFAULT_MODEL, WorkspaceConfig, load_config
from molecule_runtime.core.errors import ConfigurationError

SECRET = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5bC7dE9f"  # noqa: S105 - made up


def loaded(folder: Path, text: str | bytes, environ: dict[str, str] | None = None) -> WorkspaceConfig:
    (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(folder, environ or {})


def refusal(folder: Path, text: str | bytes, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        loaded(folder, text, environ)
    assert str(folder / "config.yaml") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment\n", "---\n", "null\n", "{}\n", b"\xef\xbb\xbf{}"], ids=repr
)
def test_an_empty_file_means_the_defaults(text: str | bytes, tmp_path: Path) -> None:
    config = loaded(tmp_path, text)
    assert (config.name, config.version, config.tier, config.model) == ("Workspace", "1.0.0", 1, DEFAULT_MODEL)
    assert (config.a2a.port, config.a2a.streaming, config.rbac.roles[0]) == (8000, True, "operator")


def test_a_block_or_key_that_is_null_means_its_default(tmp_path: Path) -> None:
    config = loaded(tmp_path, "a2a:\nrbac: null\nskills:\nruntime_config: ~\nname:\nobservability:\n  log_level:\n")
    assert config.a2a.port == 8000
    assert list(config.rbac.roles) == ["operator"]
    assert list(config.skills) == []
    assert config.name == "Workspace"
    assert config.observability.log_level == "INFO"


def test_unknown_keys_are_kept_at_every_level(tmp_path: Path) -> None:
    config = loaded(tmp_path, "somebody_elses: {x: [1]}\na2a: {future_flag: yes}\n")
    assert config.model_extra == {"somebody_elses": {"x": [1]}}
    assert config.a2a.model_extra is not None
    assert config.a2a.model_extra.keys() == {"future_flag"}


@pytest.mark.parametrize("version", ["1.0", "1.10", "2", "1.0.0", "2026-07-01", '"1.0"'])
def test_a_version_stays_text(version: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, f"version: {version}\n").version == version.strip('"')


def test_every_wrong_value_is_named_by_its_key(tmp_path: Path) -> None:
    said = refusal(tmp_path, "tier: high\na2a:\n  port: 70000\n  delivery_mode: carrier-pigeon\nskills: 7\n")
    for key in ("tier", "a2a.port", "a2a.delivery_mode", "skills"):
        assert key in said


@pytest.mark.parametrize(
    "text",
    ["name: [", "a: b: c", "\tname: x", "- a\n- b", "just text", "7", b"\xff\xfe", b"name: \xe9", b"name: \x00", "[" * 20_000, "%YAML 9"],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_one_error_that_names_it(text: str | bytes, tmp_path: Path) -> None:
    assert refusal(tmp_path, text)


def test_a_file_that_is_missing_or_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="WORKSPACE_CONFIG_PATH"):
        load_config(tmp_path, {})
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(ConfigurationError):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    "text", [f"tier: {SECRET}\n", f"a2a:\n  port: {SECRET}\n", f"name: [{SECRET}\n", f"TOKEN={SECRET}\n"]
)
def test_no_error_shows_a_credential_of_the_file(text: str, tmp_path: Path) -> None:
    assert SECRET not in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("environ", "model"),
    [
        ({}, "openai:of-the-file"),
        ({"MODEL_PROVIDER": "x:deprecated"}, "x:deprecated"),
        ({"MODEL_PROVIDER": "x:deprecated", "MODEL": "x:model"}, "x:model"),
        ({"MODEL_PROVIDER": "x:deprecated", "MODEL": "x:model", "MOLECULE_MODEL": "x:ours"}, "x:ours"),
        ({"MODEL": " ", "MOLECULE_MODEL": ""}, "openai:of-the-file"),
    ],
)
def test_a_model_of_the_environment_wins_over_the_file(environ: dict[str, str], model: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, "model: openai:of-the-file\n", environ).model == model
