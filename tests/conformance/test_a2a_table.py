"""The table of the A2A suite says which test pins which section, and tells the truth."""

from __future__ import annotations

import ast
import re
from pathlib import Path

SUITE = Path(__file__).parent / "a2a"
ROW = re.compile(r"^\| ([0-9.]+) \| .+ \| (.+) \|$")
VERSIONS = {"A2A 1.0": "1.0", "A2A 0.3.0": "0.3.0", "JSON-RPC 2.0": "json-rpc"}


def marked() -> set[tuple[str, str, str]]:
    """Return version, section and test of every marker."""
    found: set[tuple[str, str, str]] = set()
    for path in sorted(SUITE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            test = f"{path.stem.removeprefix('test_')}::{node.name.removeprefix('test_')}"
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.spec":
                    version, *sections = [ast.literal_eval(argument) for argument in decorator.args]
                    found |= {(version, section, test) for section in sections}
    return found


def tabled() -> set[tuple[str, str, str]]:
    """Return version, section and test of every row of the README."""
    found: set[tuple[str, str, str]] = set()
    version = ""
    for line in (SUITE / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            version = VERSIONS[line.removeprefix("## ")]
        elif row := ROW.match(line):
            found |= {(version, row[1], test.strip("`")) for test in row[2].split("<br>")}
    return found


def test_every_test_of_the_a2a_suite_is_in_its_table_under_the_sections_that_it_pins() -> None:
    assert len(marked()) > 100
    assert tabled() == marked()
