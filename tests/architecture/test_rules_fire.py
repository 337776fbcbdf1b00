"""Every rule reports an injected fault, and is quiet about a workspace without one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from .example import build, replace, write
from .rules import RULES, NothingToCheckError, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fault = tuple[str, str, Callable[[Path], object]]

PACKAGES = "packages"


def _core(root: Path) -> Path:
    return root / PACKAGES / "core" / "src" / "molecule_runtime" / "core"


def _tools(root: Path) -> Path:
    return root / PACKAGES / "tools" / "src" / "molecule_runtime" / "tools"


def _pyproject(root: Path, member: str) -> Path:
    return root / PACKAGES / member / "pyproject.toml"


# rule, a part of the violation that it must report, and what breaks it
FAULTS: list[Fault] = [
    (
        "members_are_the_expected_ones",
        "packages/eighth is not in the layout",
        lambda root: write(root / PACKAGES / "eighth" / "README.md", ""),
    ),
    (
        "members_are_the_expected_ones",
        "packages/tools is missing",
        lambda root: shutil.rmtree(root / PACKAGES / "tools"),
    ),
    (
        "members_are_the_expected_ones",
        "packages/tools has no pyproject.toml",
        lambda root: _pyproject(root, "tools").unlink(),
    ),
    (
        "members_have_the_standard_files",
        "tools: CHANGELOG.md is missing",
        lambda root: (root / PACKAGES / "tools" / "CHANGELOG.md").unlink(),
    ),
    (
        "members_have_the_standard_files",
        "tools: changes/ is missing",
        lambda root: shutil.rmtree(root / PACKAGES / "tools" / "changes"),
    ),
    (
        "members_have_the_standard_files",
        "tools: LICENSE differs",
        lambda root: write(root / PACKAGES / "tools" / "LICENSE", "another license\n"),
    ),
    (
        "root_is_a_workspace_and_not_a_package",
        "[project] table",
        lambda root: replace(root / "pyproject.toml", "[tool.mypy]", '[project]\nname = "x"\n[tool.mypy]'),
    ),
    (
        "root_is_a_workspace_and_not_a_package",
        "[tool.uv.sources]",
        lambda root: replace(root / "pyproject.toml", "molecule-runtime-tools = { workspace = true }", ""),
    ),
    (
        "root_is_a_workspace_and_not_a_package",
        "mypy_path",
        lambda root: replace(root / "pyproject.toml", "DIR/packages/tools/src", "DIR/packages/tool/src"),
    ),
    (
        "root_is_a_workspace_and_not_a_package",
        "namespace-packages",
        lambda root: replace(root / "pyproject.toml", '"packages/tools/src/molecule_runtime"', '"x"'),
    ),
    (
        "tests_are_not_packages",
        "packages/mcp/tests/__init__.py",
        lambda root: write(root / PACKAGES / "mcp" / "tests" / "__init__.py", ""),
    ),
    (
        "tests_are_not_packages",
        "tests/mcp/__init__.py",
        lambda root: write(root / "tests" / "mcp" / "__init__.py", ""),
    ),
    (
        "namespace_holds_only_what_the_member_owns",
        "tools: molecule_runtime/__init__.py is not its to ship",
        lambda root: write(_tools(root).parent / "__init__.py", ""),
    ),
    (
        "namespace_holds_only_what_the_member_owns",
        "tools: molecule_runtime/py.typed is not its to ship",
        lambda root: write(_tools(root).parent / "py.typed", ""),
    ),
    (
        "namespace_holds_only_what_the_member_owns",
        "core: molecule_runtime/mcp_schemas is missing",
        lambda root: shutil.rmtree(_core(root).parent / "mcp_schemas"),
    ),
    (
        "namespace_holds_only_what_the_member_owns",
        "tools: src/tools is outside the namespace",
        lambda root: write(_tools(root).parents[1] / "tools" / "__init__.py", ""),
    ),
    (
        "namespace_holds_only_what_the_member_owns",
        "workspace-runtime: the wheel table ships molecule_runtime/__init__.py",
        lambda root: replace(_pyproject(root, "workspace-runtime"), "main.py", "__init__.py"),
    ),
    (
        "portions_are_typed_packages",
        "tools: molecule_runtime/tools/py.typed is missing",
        lambda root: (_tools(root) / "py.typed").unlink(),
    ),
    (
        "names_have_one_owner",
        "molecule_runtime.core has 2 owners: core, tools",
        lambda root: write(_tools(root).parent / "core" / "extra.py", ""),
    ),
    (
        "names_have_one_owner",
        "molecule_runtime.tools has 2 owners",
        lambda root: replace(_pyproject(root, "workspace-runtime"), "main.py", "tools.py"),
    ),
    (
        "build_tables_are_exact",
        "tools: [tool.hatch.build.targets.wheel]",
        lambda root: replace(_pyproject(root, "tools"), 'sources = ["src"]', ""),
    ),
    (
        "build_tables_are_exact",
        "tools: [tool.hatch.build.targets.sdist]",
        lambda root: replace(_pyproject(root, "tools"), '"tests", ', ""),
    ),
    (
        "build_tables_are_exact",
        "tools: [build-system]",
        lambda root: replace(_pyproject(root, "tools"), "hatchling.build", "setuptools.build_meta"),
    ),
    (
        "build_tables_are_exact",
        "tools: settings of tools",
        lambda root: replace(
            _pyproject(root, "tools"), "[build-system]", "[tool.mypy]\nstrict = false\n[build-system]"
        ),
    ),
    (
        "project_tables_agree",
        "tools: the distribution is 'molecule-tools'",
        lambda root: replace(_pyproject(root, "tools"), 'name = "molecule-runtime-tools"', 'name = "molecule-tools"'),
    ),
    (
        "project_tables_agree",
        "mcp: the command molecule-mcp is missing",
        lambda root: replace(_pyproject(root, "mcp"), "molecule-mcp =", "other ="),
    ),
    (
        "project_tables_agree",
        "mcp: the command other is not in the layout",
        lambda root: replace(_pyproject(root, "mcp"), "molecule-mcp =", "other ="),
    ),
    (
        "project_tables_agree",
        "which is not a module of this member",
        lambda root: replace(_pyproject(root, "mcp"), "mcp.cli:main", "mcp.gone:main"),
    ),
    (
        "project_tables_agree",
        "has no start",
        lambda root: replace(_pyproject(root, "mcp"), "mcp.cli:main", "mcp.cli:start"),
    ),
    (
        "project_tables_agree",
        "its owner's at molecule_runtime.mcp.cli:main",
        lambda root: replace(
            _pyproject(root, "workspace-runtime"),
            "[project.scripts]",
            '[project.scripts]\nmolecule-mcp = "molecule_runtime.main:start"',
        ),
    ),
    (
        "project_tables_agree",
        "requires-python is '>=3.13'",
        lambda root: replace(_pyproject(root, "tools"), ">=3.11", ">=3.13"),
    ),
    (
        "project_tables_agree",
        "'Typing :: Typed' is missing",
        lambda root: replace(_pyproject(root, "tools"), "Typing :: Typed", "Topic :: Software Development"),
    ),
    (
        "sibling_requirements_fit_the_workspace",
        "has no floor",
        lambda root: replace(_pyproject(root, "tools"), "core>=0.1,<0.2", "core<0.2"),
    ),
    (
        "sibling_requirements_fit_the_workspace",
        "has no cap",
        lambda root: replace(_pyproject(root, "tools"), "core>=0.1,<0.2", "core>=0.1"),
    ),
    (
        "sibling_requirements_fit_the_workspace",
        "is pinned",
        lambda root: replace(_pyproject(root, "tools"), "core>=0.1,<0.2", "core==0.1.0"),
    ),
    (
        "sibling_requirements_fit_the_workspace",
        "refuses the workspace version 0.2.0",
        lambda root: replace(_pyproject(root, "core"), 'version = "0.1.0"', 'version = "0.2.0"'),
    ),
    (
        "sibling_requirements_fit_the_workspace",
        "localplatform: molecule-runtime-mcp<10,>=9 refuses the workspace version",
        lambda root: replace(
            _pyproject(root, "localplatform"),
            "[project.scripts]",
            '[project.optional-dependencies]\ndemo = ["molecule-runtime-mcp>=9,<10"]\n[project.scripts]',
        ),
    ),
    (
        "sibling_dependencies_follow_the_layers",
        "core: may not depend on tools",
        lambda root: replace(
            _pyproject(root, "core"), "dependencies = []", 'dependencies = ["molecule-runtime-tools"]'
        ),
    ),
    (
        "sibling_dependencies_follow_the_layers",
        "tools: must depend on core",
        lambda root: replace(_pyproject(root, "tools"), '"molecule-runtime-core>=0.1,<0.2"', ""),
    ),
    (
        "imports_are_declared",
        "httpx is imported but httpx is not a dependency",
        lambda root: write(_tools(root) / "net.py", "def get() -> None:\n    import httpx\n"),
    ),
    (
        "imports_are_declared",
        "molecule_runtime.mcp.cli.main is imported but molecule-runtime-mcp is not a dependency",
        lambda root: write(
            _core(root) / "up.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from molecule_runtime.mcp.cli import main\n",
        ),
    ),
    (
        "imports_are_declared",
        "molecule-runtime-tools is not a dependency",
        lambda root: write(_core(root) / "up.py", "from molecule_runtime import tools\n"),
    ),
    (
        "imports_are_declared",
        "molecule_runtime.nowhere",
        lambda root: write(_core(root) / "up.py", "import molecule_runtime.nowhere\n"),
    ),
    (
        "dependencies_are_imported",
        "tools: depends on httpx but imports nothing of it",
        lambda root: replace(_pyproject(root, "tools"), '["molecule', '["httpx>=0.28", "molecule'),
    ),
    (
        "dependencies_are_imported",
        "the layout excuses workspace-runtime from importing molecule-runtime-skills",
        lambda root: replace(_pyproject(root, "workspace-runtime"), '"molecule-runtime-skills>=0.1,<0.2", ', ""),
    ),
    (
        "private_names_stay_at_home",
        "molecule_runtime.core._private",
        lambda root: write(_tools(root) / "peeks.py", "import molecule_runtime.core._private\n"),
    ),
    (
        "private_names_stay_at_home",
        "molecule_runtime.core.env._variable",
        lambda root: write(_tools(root) / "peeks.py", "from molecule_runtime.core.env import _variable\n"),
    ),
    (
        "private_names_stay_at_home",
        "packages/tools/tests/test_peeks.py:1",
        lambda root: write(
            root / PACKAGES / "tools" / "tests" / "test_peeks.py", "from molecule_runtime.core import _private\n"
        ),
    ),
    (
        "imports_are_absolute",
        "relative import",
        lambda root: write(_tools(root) / "near.py", "from . import uses\n"),
    ),
    (
        "imports_are_absolute",
        "bare import of molecule_runtime",
        lambda root: write(_tools(root) / "bare.py", "import molecule_runtime\n"),
    ),
    (
        "environment_is_read_in_one_place",
        "tools/reads.py:2",
        lambda root: write(_tools(root) / "reads.py", 'import os\nX = os.environ["X"]\n'),
    ),
    (
        "environment_is_read_in_one_place",
        "tools/reads.py:3",
        lambda root: write(
            _tools(root) / "reads.py", 'import os as system\ndef f() -> object:\n    return system.getenv("X")\n'
        ),
    ),
    (
        "environment_is_read_in_one_place",
        "tools/reads.py:1",
        lambda root: write(_tools(root) / "reads.py", "from os import environ as e\n"),
    ),
    (
        "environment_is_read_in_one_place",
        "the allow-list names molecule_runtime.core.env, which matches no module",
        lambda root: (_core(root) / "env.py").rename(_core(root) / "environment.py"),
    ),
    (
        "modules_say_what_they_are",
        "tools/utils.py",
        lambda root: write(_tools(root) / "utils.py", ""),
    ),
    (
        "modules_say_what_they_are",
        "tools/helpers",
        lambda root: write(_tools(root) / "helpers" / "__init__.py", ""),
    ),
    (
        "modules_say_what_they_are",
        ".gitea/scripts/_utils.py",
        lambda root: write(root / ".gitea" / "scripts" / "_utils.py", ""),
    ),
]


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_is_quiet_about_the_example_workspace(rule: str, tmp_path: Path) -> None:
    assert list(RULES[rule](load(build(tmp_path)))) == []


@pytest.mark.parametrize(("rule", "report", "inject"), FAULTS, ids=[f"{rule}-{report}" for rule, report, _ in FAULTS])
def test_the_rule_reports_the_fault(rule: str, report: str, inject: Callable[[Path], object], tmp_path: Path) -> None:
    root = build(tmp_path)
    inject(root)
    violations = list(RULES[rule](load(root)))
    assert [line for line in violations if report in line], violations


def test_every_rule_has_a_failing_example() -> None:
    assert {rule for rule, _, _ in FAULTS} == set(RULES)


def test_a_workspace_without_members_is_an_error_and_not_a_pass(tmp_path: Path) -> None:
    write(tmp_path / "pyproject.toml", "")
    with pytest.raises(NothingToCheckError):
        load(tmp_path)


def test_a_workspace_without_source_is_an_error_and_not_a_pass(tmp_path: Path) -> None:
    root = build(tmp_path)
    for source in root.glob("packages/*/src"):
        shutil.rmtree(source)
    with pytest.raises(NothingToCheckError):
        load(root)
