"""The table of the tools in the README: every tool of this build, with the permission that it really needs and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

from molecule_runtime.core import registry
from molecule_runtime.tools import available_tools

from .test_dispatcher import GATED_INSIDE

WHEEL = Path(__file__).parents[1]
TESTS = (WHEEL / "tests", WHEEL.parent / "mcp" / "tests", WHEEL.parents[1] / "tests")
CASES = WHEEL.parents[1] / "tests" / "integration" / "tools" / "cases.py"


def rows() -> dict[str, tuple[str, str, str]]:
    """The permission and the tests of each tool."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in (WHEEL / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if len(cells) == 5 and line.startswith("| `"):
            found[cells[0]] = (cells[1], cells[3], cells[4])
    return found


def test_every_tool_of_this_build_is_in_the_table_with_its_permission() -> None:
    permissions = {spec.name: spec.permission or GATED_INSIDE.get(spec.name, "") for spec in registry.TOOLS}
    assert {name: permission for name, (permission, *_) in rows().items()} == {
        name: permissions[name] for name in available_tools()
    }


def test_the_tests_of_the_table_exist() -> None:
    for reference in sorted({reference for _, *references in rows().values() for reference in references}):
        file, _, name = reference.partition("::")
        texts = [path.read_text(encoding="utf-8") for folder in TESTS for path in folder.rglob(file)]
        assert any(f"def {name}(" in text for text in texts), reference


def test_every_tool_of_the_table_is_called_in_the_test_of_the_three_views() -> None:
    assert {through for *_, through in rows().values()} == {"test_views.py::test_every_tool_serves_two_tenants_apart"}
    assert set(re.findall(r'Case\(\s*"(\w+)"', CASES.read_text(encoding="utf-8"))) == rows().keys()
