"""The table of the tools in the README: every tool of this build, with the permission that it really needs and a test that exists."""

from __future__ import annotations

from pathlib import Path

from molecule_runtime.core import registry
from molecule_runtime.tools import available_tools

from .test_dispatcher import GATED_INSIDE

WHEEL = Path(__file__).parents[1]
TESTS = (WHEEL / "tests", WHEEL.parent / "mcp" / "tests", WHEEL.parents[1] / "tests")


def rows() -> dict[str, tuple[str, str]]:
    """The permission and the test of each tool."""
    found: dict[str, tuple[str, str]] = {}
    for line in (WHEEL / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if len(cells) == 4 and line.startswith("| `"):
            found[cells[0]] = (cells[1], cells[3])
    return found


def test_every_tool_of_this_build_is_in_the_table_with_its_permission() -> None:
    permissions = {spec.name: spec.permission or GATED_INSIDE.get(spec.name, "") for spec in registry.TOOLS}
    assert {name: permission for name, (permission, _) in rows().items()} == {
        name: permissions[name] for name in available_tools()
    }


def test_the_tests_of_the_table_exist() -> None:
    for _, reference in rows().values():
        file, _, name = reference.partition("::")
        texts = [path.read_text(encoding="utf-8") for folder in TESTS for path in folder.rglob(file)]
        assert any(f"def {name}(" in text for text in texts), reference
