"""Each wheel, built as for a release and installed alone, brings what it promises and nothing else."""

from __future__ import annotations

import json
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import REPOSITORY, Environment

if TYPE_CHECKING:
    import subprocess

    from .conftest import Built

pytestmark = pytest.mark.packaging

NAMESPACE = "molecule_runtime"
META = "molecule-ai-workspace-runtime"
LEGACY = tuple(
    Path(entry).name
    for entry in tomllib.loads((REPOSITORY / "packages/workspace-runtime/pyproject.toml").read_text(encoding="utf-8"))[
        "tool"
    ]["hatch"]["build"]["targets"]["wheel"]["only-include"]
)
"""The predecessor's module names, which the meta package owns."""

OWN: dict[str, tuple[str, ...]] = {
    "molecule-runtime-core": ("core", "mcp_schemas", "mcp_target_resolution"),
    "molecule-runtime-tools": ("tools",),
    "molecule-runtime-skills": ("skills",),
    "molecule-runtime-a2a": ("a2a",),
    "molecule-runtime-mcp": ("mcp",),
    "molecule-runtime-localplatform": ("localplatform",),
    META: LEGACY,
}
"""What each wheel ships in the namespace."""

CLOSURE: dict[str, frozenset[str]] = {
    "molecule-runtime-core": frozenset({"molecule-runtime-core"}),
    "molecule-runtime-tools": frozenset({"molecule-runtime-tools", "molecule-runtime-core"}),
    "molecule-runtime-skills": frozenset({"molecule-runtime-skills", "molecule-runtime-core"}),
    "molecule-runtime-a2a": frozenset({"molecule-runtime-a2a", "molecule-runtime-core"}),
    "molecule-runtime-mcp": frozenset({"molecule-runtime-mcp", "molecule-runtime-tools", "molecule-runtime-core"}),
    "molecule-runtime-localplatform": frozenset({"molecule-runtime-localplatform", "molecule-runtime-core"}),
    META: frozenset(OWN),
}
"""Which of our wheels come along when one is installed: the diagram of `ARCHITECTURE.md`, executable."""

FOREIGN_SDKS: dict[str, frozenset[str]] = {
    "molecule-runtime-core": frozenset({"mcp", "a2a-sdk", "starlette", "uvicorn", "watchfiles"}),
    "molecule-runtime-tools": frozenset({"mcp", "a2a-sdk", "starlette", "uvicorn"}),
    "molecule-runtime-skills": frozenset({"mcp", "a2a-sdk", "starlette", "uvicorn"}),
    "molecule-runtime-a2a": frozenset({"mcp", "watchfiles"}),
    "molecule-runtime-mcp": frozenset({"a2a-sdk", "watchfiles"}),
    "molecule-runtime-localplatform": frozenset({"mcp", "a2a-sdk", "watchfiles"}),
}
"""Third parties that installing a wheel must not bring, since it exists to do without them."""

UPSTREAM_WARNINGS: dict[str, tuple[str, ...]] = {}
"""`-W` filters for warnings that a third party raises on import, by wheel. Ours are always errors."""

COMMANDS = {
    "molecule-mcp": "molecule-runtime-mcp",
    "molecule-runtime": "molecule-runtime-a2a",
    "molecule-local": "molecule-runtime-localplatform",
    "molecule-audit": "molecule-runtime-tools",
}
"""Each command and the wheel that brings it."""

every_wheel = pytest.mark.parametrize("dist", OWN)


def stems(names: tuple[str, ...]) -> set[str]:
    return {name.removesuffix(".py") for name in names}


def test_the_tables_name_exactly_the_members() -> None:
    pyprojects = [
        tomllib.loads(path.read_text(encoding="utf-8")) for path in REPOSITORY.glob("packages/*/pyproject.toml")
    ]
    assert {pyproject["project"]["name"] for pyproject in pyprojects} == set(OWN) == set(CLOSURE)


def test_one_wheel_and_one_sdist_are_built_for_each_member(built: Built) -> None:
    files = {path for path in built.dist.iterdir() if path.name != ".gitignore"}
    expected = {built.artifact(dist, suffix) for dist in OWN for suffix in ("-py3-none-any.whl", ".tar.gz")}
    assert files == expected


@every_wheel
def test_the_wheel_holds_only_its_portions_and_its_license(dist: str, built: Built) -> None:
    with zipfile.ZipFile(built.artifact(dist, ".whl")) as wheel:
        names = wheel.namelist()
        (metadata,) = (name.rpartition("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
        license_text = wheel.read(f"{metadata}/licenses/LICENSE")
    assert license_text == (REPOSITORY / "LICENSE").read_bytes()
    content = [name for name in names if not name.startswith(f"{metadata}/")]
    assert {name.split("/")[0] for name in content} == {NAMESPACE}
    assert {name.split("/")[1] for name in content} == set(OWN[dist])
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name]
    described = {
        f"{metadata}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }
    assert {name for name in names if name.startswith(f"{metadata}/")} <= described


@every_wheel
def test_the_wheel_ships_every_source_file_of_its_portions(dist: str, built: Built) -> None:
    """A file matched by `.gitignore` would silently be left out."""
    (source,) = (
        path.parent / "src"
        for path in REPOSITORY.glob("packages/*/pyproject.toml")
        if tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"] == dist
    )
    on_disk = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    with zipfile.ZipFile(built.artifact(dist, ".whl")) as wheel:
        shipped = {name for name in wheel.namelist() if name.startswith(f"{NAMESPACE}/")}
    assert shipped == {name for name in on_disk if "__pycache__" not in name}


@every_wheel
def test_the_sdist_holds_the_sources_the_tests_and_the_documents(dist: str, built: Built) -> None:
    with tarfile.open(built.artifact(dist, ".tar.gz")) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    top = {name.split("/")[0] for name in names}
    assert top <= {"src", "tests", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO", ".gitignore"}
    assert {"src", "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO"} <= top


@every_wheel
def test_the_wheel_installs_alone_into_a_consistent_environment(dist: str, built: Built) -> None:
    environment = built.environment(dist)
    built.uv.run("pip", "check", "--python", environment.folder)


@every_wheel
def test_the_installed_files_are_those_of_the_built_wheels(dist: str, built: Built) -> None:
    """Nobody's upload of the same name to an index may have been installed instead."""
    site_packages = built.environment(dist).site_packages()
    for ours in CLOSURE[dist]:
        with zipfile.ZipFile(built.artifact(ours, ".whl")) as wheel:
            for name in wheel.namelist():
                if not name.endswith("/RECORD"):
                    assert (site_packages / name).read_bytes() == wheel.read(name), name


@every_wheel
def test_exactly_the_closure_is_importable_and_nothing_warns(dist: str, built: Built) -> None:
    filters = [argument for text in UPSTREAM_WARNINGS.get(dist, ()) for argument in ("-W", text)]
    names = sorted(stems(OWN[dist]))
    result = probe(built.environment(dist), *filters, names=names)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout) == {
        "file": None,
        "imported": [f"{NAMESPACE}.{name}" for name in names],
        "importable": sorted({name for ours in CLOSURE[dist] for name in stems(OWN[ours])}),
    }


def probe(environment: Environment, *filters: str, names: list[str]) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).with_name("install_probe.py")
    return environment.run("python", "-I", "-W", "error", *filters, script, *names)


@pytest.fixture(scope="module")
def empty(built: Built) -> Environment:
    """Return an environment without any distribution, to inject faults into."""
    folder = built.uv.folder / "environments" / "empty"
    built.uv.run("venv", "--quiet", "--python", sys.executable, folder)
    return Environment(folder=folder)


def test_the_probe_sees_a_namespace_that_is_a_package_and_a_portion_too_many(empty: Environment) -> None:
    for name in ("__init__.py", "core/__init__.py", "stray.py"):
        path = empty.site_packages() / NAMESPACE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = json.loads(probe(empty, names=["core"]).stdout)
    assert found["file"] is not None
    assert "stray" in found["importable"]


@pytest.mark.parametrize("source", ["import molecule_runtime.absent\n", "import warnings\nwarnings.warn('old')\n"])
def test_the_probe_fails_for_a_portion_that_needs_an_undeclared_sibling_or_warns(
    source: str, empty: Environment
) -> None:
    portion = empty.site_packages() / NAMESPACE / "faulty"
    portion.mkdir(parents=True, exist_ok=True)
    (portion / "__init__.py").write_text(source, encoding="utf-8")
    assert probe(empty, "-B", names=["faulty"]).returncode == 1


@pytest.mark.parametrize("dist", FOREIGN_SDKS)
def test_the_wheel_does_not_bring_what_it_exists_to_do_without(dist: str, built: Built) -> None:
    listed = json.loads(built.uv.run("pip", "list", "--format", "json", "--python", built.environment(dist).folder))
    assert {item["name"] for item in listed} & FOREIGN_SDKS[dist] == set()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_command_answers_from_its_own_wheel(command: str, flag: str, built: Built) -> None:
    result = built.environment(COMMANDS[command]).run(command, flag)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip()
    if flag == "--help":
        assert command in result.stdout
    assert result.stderr == ""


@every_wheel
def test_the_wheel_brings_the_commands_of_its_closure_and_no_others(dist: str, built: Built) -> None:
    expected = {command for command, owner in COMMANDS.items() if owner in CLOSURE[dist]}
    assert {name for name in built.environment(dist).scripts() if name.startswith("molecule")} == expected
