"""Whatever stands in the file: findings or a configuration, never another error, and never a secret in a message."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molecule_runtime.core.config import WorkspaceConfig, load, load_config
from molecule_runtime.core.config.review import fields_of
from molecule_runtime.core.config.values import model_of
from molecule_runtime.core.errors import ConfigurationError

SECRET = "ghp_" + "Ab3" * 12

KEYS = sorted(
    {*fields_of(WorkspaceConfig)}
    | {
        key
        for info in fields_of(WorkspaceConfig).values()
        if (model := model_of(info.annotation))
        for key in fields_of(model)
    }
)

fuzz = settings(max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just(SECRET),
    st.just(f"x {SECRET} y"),
)
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=12), st.just(SECRET))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
mappings = st.dictionaries(keys, values, max_size=8)

PIECES = [
    *KEYS,
    SECRET,
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "!x ",
    "%YAML 1.1\n",
    "\\U99999999",
    "off",
    "1.0",
    "0755",
    "1e999",
]
_PUNCTUATION = [
    ": ",
    ":",
    "\n",
    "\n  ",
    "\t",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "'",
    '"',
    "|",
    ">",
    "#",
    "---",
    "...",
    "? ",
    "~",
    "\\",
    "@",
    "`",
]
_ODD = ["\ufeff", "\x00", "\ud800", "é"]
yamlish = st.lists(st.sampled_from([*PIECES, *_PUNCTUATION, *_ODD]), max_size=30).map("".join)
environs = st.dictionaries(
    st.sampled_from(["MODEL", "MODEL_PROVIDER", "LLM_PROVIDER", "DELEGATION_TIMEOUT", "SANDBOX_BACKEND", "LOG_LEVEL"]),
    st.one_of(st.text(max_size=20), st.just(SECRET)),
    max_size=3,
)


def survives(data: bytes, environ: dict[str, str], *, strict: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.yaml").write_bytes(data)
        loaded = load(folder, environ, strict=strict)
        assert (loaded.config is None) == bool(loaded.errors)
        for finding in loaded.findings:
            assert SECRET not in str(finding)
            assert SECRET not in json.dumps(finding.to_dict())
            str(finding).encode()
            assert len(str(finding)) < 2000
        with contextlib.suppress(ConfigurationError):
            # By text: a value that is no number equals nothing, not even itself.
            assert repr(load_config(folder, environ, strict=strict)) == repr(loaded.config)


@fuzz
@given(data=st.binary(max_size=200), environ=environs)
def test_any_bytes_are_a_configuration_or_findings(data: bytes, environ: dict[str, str]) -> None:
    survives(data, environ, strict=False)


@fuzz
@given(text=st.one_of(st.text(max_size=200), yamlish), environ=environs, strict=st.booleans())
def test_any_text_is_a_configuration_or_findings(text: str, environ: dict[str, str], strict: bool) -> None:
    survives(text.encode(errors="surrogatepass"), environ, strict=strict)


@fuzz
@given(mapping=mappings, environ=environs, strict=st.booleans())
def test_any_mapping_is_a_configuration_or_findings(
    mapping: dict[str, object], environ: dict[str, str], strict: bool
) -> None:
    survives(yaml.safe_dump(mapping, allow_unicode=True).encode(errors="surrogatepass"), environ, strict=strict)


@fuzz
@given(mapping=mappings)
def test_json_is_yaml_and_reads_as_the_same_values(mapping: dict[str, object]) -> None:
    try:
        text = json.dumps({"runtime_config": {"own": mapping}}, allow_nan=False)
    except ValueError:
        return
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "config.yaml").write_text(text, encoding="utf-8")
        loaded = load(name, {})
    if loaded.config is not None:
        assert loaded.config.runtime_config["own"] == json.loads(text)["runtime_config"]["own"]


@pytest.mark.parametrize("size", [10_000, 250_000])
@pytest.mark.parametrize("piece", ["[", "{", "a: ", "- ", "\n", "'", '"', "&a ", "? ", "x", "#", "%", "!", "a:\n"])
def test_a_large_file_of_one_piece_ends(tmp_path: Path, piece: str, size: int) -> None:
    (tmp_path / "config.yaml").write_text((piece * size)[:size], encoding="utf-8")
    load(tmp_path, {})
