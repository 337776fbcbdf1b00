"""The import-linter contracts hold for this repository, and each of them fires on an injected import."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from .example import write

COMMAND = Path(sys.executable).with_name("lint-imports")
PRETEND = "pretend_runtime"


def lint(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "--no-cache", "--config", config],
        cwd=folder,
        env={"PATH": str(COMMAND.parent), "PYTHONPATH": str(folder), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def contracts(repository: Path) -> list[dict[str, Any]]:
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    found: list[dict[str, Any]] = settings["contracts"]
    assert found, "the root pyproject.toml has no import contract"
    return found


def pretend(folder: Path, contracts: list[dict[str, Any]]) -> Path:
    """Write the same contracts for another namespace, with an empty module for every name they mention."""
    lines = [f'[tool.importlinter]\nroot_package = "{PRETEND}"\ninclude_external_packages = true\n']
    for contract in contracts:
        lines.append("[[tool.importlinter.contracts]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in contract.items()]
    config = folder / "pyproject.toml"
    write(config, "\n".join(lines).replace("molecule_runtime", PRETEND))
    for contract in contracts:
        for name in (*contract["source_modules"], *contract["forbidden_modules"]):
            if name.startswith("molecule_runtime."):
                write(module_of(folder, name), "")
    return config


def module_of(folder: Path, name: str) -> Path:
    return folder.joinpath(*name.replace("molecule_runtime", PRETEND).split("."), "__init__.py")


def test_the_repository_keeps_every_import_contract(repository: Path) -> None:
    result = lint(repository, repository / "pyproject.toml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_the_contracts_are_kept_by_a_workspace_without_imports(tmp_path: Path, contracts: list[dict[str, Any]]) -> None:
    result = lint(tmp_path, pretend(tmp_path, contracts))
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(contracts)} kept, 0 broken" in result.stdout


def test_every_contract_is_broken_by_an_import_it_forbids(tmp_path: Path, contracts: list[dict[str, Any]]) -> None:
    config = pretend(tmp_path, contracts)
    for contract in contracts:
        source, forbidden = contract["source_modules"][0], contract["forbidden_modules"][0]
        with module_of(tmp_path, source).open("a", encoding="utf-8") as file:
            file.write(f"import {forbidden.replace('molecule_runtime', PRETEND)}\n")
    result = lint(tmp_path, config)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"0 kept, {len(contracts)} broken" in result.stdout
