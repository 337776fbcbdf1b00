"""The JSON Schema and the README's table say what the model says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from jsonschema import Draft202012Validator

from molecule_runtime.core.config import json_schema, load, reference

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[1] / "README.md"


def blocks() -> Iterator[tuple[str, dict[str, Any]]]:
    schema = json_schema()
    yield "config.yaml", schema
    yield from cast("dict[str, dict[str, Any]]", schema["$defs"]).items()


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_every_key_of_the_schema_has_a_description_and_unknown_ones_are_allowed() -> None:
    for name, block in blocks():
        assert block.get("description"), name
        assert block.get("additionalProperties") is True, name
        for key, rule in block["properties"].items():
            assert rule.get("description"), f"{name}.{key}"


ACCEPTED = [
    "a2a:",
    "a2a: {port: null}",
    "version: 1.0",
    "security_scan: off",
    "security_scan: block",
    "compliance: off",
    "skills: [a, {name: b}]",
    "plugins: [a, {name: b}]",
    "models: [a, {id: b}]",
    "hitl: {channels: [dashboard, {type: slack}]}",
    "sandbox: {backend: null}",
    "runtime_config: {own: 1}",
    "nobody: knows",
    "mcp_servers: [{name: a, command: b}]",
]
REFUSED = [
    "a2a: {port: 0}",
    "a2a: {port: '8000'}",
    "tier: -1",
    "rbac: operator",
    "tools: x",
    "models: [{name: x}]",
    "effort: huge",
]


@pytest.mark.parametrize(("text", "good"), [(text, True) for text in ACCEPTED] + [(text, False) for text in REFUSED])
def test_the_schema_accepts_what_the_loader_accepts(tmp_path: Path, text: str, good: bool) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert (load(tmp_path, {}).config is not None) is good
    validator: Any = Draft202012Validator(json_schema())
    assert validator.is_valid(yaml.safe_load(text)) is good


def test_the_readme_holds_the_table_of_the_model() -> None:
    stored = README.read_text(encoding="utf-8")
    assert reference.TABLE.insert(stored) == stored, "run: python -m molecule_runtime.core.config.reference"


def test_the_table_has_every_key_of_the_schema() -> None:
    table = reference.render()
    properties = json_schema()["properties"]
    assert all(f"| `{key}` |" in table for key in properties)
    for key in ("a2a.port", "models[].id", "hitl.channels[].from", "runtime_config.required_env", "mcp_servers[].env"):
        assert f"| `{key}` |" in table


def test_the_reference_command_writes_and_checks_a_readme(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{reference.TABLE.begin}\nstale\n{reference.TABLE.end}\nafter\n", encoding="utf-8")
    assert reference.main(["--check"], file=file) == 1
    assert "-stale" in capsys.readouterr().out
    assert reference.main([], file=file) == 0
    assert reference.main(["--check"], file=file) == 0
    text = file.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_a_readme_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold"):
        reference.TABLE.insert("no markers")


def test_core_itself_loads_neither_yaml_nor_pydantic() -> None:
    program = "import sys, molecule_runtime.core; print(sorted({'yaml', 'pydantic', 'httpx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
