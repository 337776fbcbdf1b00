"""A small workspace that keeps every rule, for the tests that break one rule at a time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .layout import MEMBERS, NAMESPACE, UNIMPORTED_DEPENDENCIES

if TYPE_CHECKING:
    from pathlib import Path

    from .layout import Expected

LEGACY_NAMES = ("adapters", "main.py")
"""What the meta package of the example ships."""


def build(root: Path) -> Path:
    """Write the example workspace below `root` and return it."""
    write(root / "LICENSE", "the license\n")
    write(root / "pyproject.toml", _root_pyproject())
    write(root / "tests" / "architecture" / "test_nothing.py", "")
    write(root / ".gitea" / "scripts" / "check.py", "")
    for name, expected in MEMBERS.items():
        _member(root / "packages" / name, expected)
    return root


def write(path: Path, text: str) -> None:
    """Write a file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def replace(path: Path, old: str, new: str) -> None:
    """Replace text that must be there, so that a fault cannot silently fail to be injected."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new), encoding="utf-8")


def _root_pyproject() -> str:
    mypy_path = [f"$MYPY_CONFIG_FILE_DIR/packages/{name}/src" for name in MEMBERS]
    namespaces = [f"packages/{name}/src/{NAMESPACE}" for name in MEMBERS]
    sources = "\n".join(f"{expected.dist} = {{ workspace = true }}" for expected in MEMBERS.values())
    return f"""
[tool.uv.workspace]
members = ["packages/*"]
[tool.uv.sources]
{sources}
[tool.mypy]
mypy_path = {json.dumps(mypy_path)}
[tool.ruff]
namespace-packages = {json.dumps(namespaces)}
"""


def _member(folder: Path, expected: Expected) -> None:
    names = list(expected.portions or LEGACY_NAMES)
    paths = [f"src/{NAMESPACE}/{name}" for name in names]
    siblings = [MEMBERS[name].dist for name in sorted(expected.siblings)]
    dependencies = [f"{dist}>=0.1,<0.2" for dist in siblings]
    if expected.portions == ("skills",):
        dependencies.append("pyyaml>=6")
    # What the layout excuses from being imported must at least be depended on.
    excused = {dist for member, dist in UNIMPORTED_DEPENDENCIES if member == folder.name}
    dependencies += sorted(f"{dist}>=0.1" for dist in excused if dist not in siblings)
    scripts = "\n".join(f'{script} = "{NAMESPACE}.{folder.name}.cli:main"' for script in sorted(expected.scripts))
    for name in names:
        target = folder / "src" / NAMESPACE / name
        if name.endswith(".py"):
            write(target, "")
            continue
        write(target / "__init__.py", "")
        write(target / "py.typed", "")
    for file in ("README.md", "CHANGELOG.md"):
        write(folder / file, "")
    write(folder / "LICENSE", "the license\n")
    write(folder / "changes" / "2.added.md", "")
    write(folder / "tests" / "test_nothing.py", "")
    source = folder / "src" / NAMESPACE
    if expected.scripts:
        write(source / folder.name / "cli.py", "import os\n\ndef main() -> None:\n    os.environ\n")
    if expected.portions == ("core",) or folder.name == "core":
        write(source / "core" / "env.py", "import os\n\ncurrent = os.environ\n")
        write(source / "core" / "_private.py", "")
    elif expected.portions is not None:
        imports = [f"import {NAMESPACE}.{name}\n" for name in sorted(expected.siblings)]
        imports += ["import yaml\n"] if folder.name == "skills" else []
        write(source / folder.name / "uses.py", "".join(imports))
    write(
        folder / "pyproject.toml",
        f"""
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"
[project]
name = "{expected.dist}"
version = "0.1.0"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = ">=3.11"
classifiers = ["Typing :: Typed"]
dependencies = {json.dumps(dependencies)}
[project.scripts]
{scripts}
[tool.hatch.build.targets.wheel]
only-include = {json.dumps(paths)}
sources = ["src"]
core-metadata-version = "2.4"
[tool.hatch.build.targets.sdist]
only-include = {json.dumps([*paths, "tests", "CHANGELOG.md", "README.md"])}
core-metadata-version = "2.4"
""",
    )
