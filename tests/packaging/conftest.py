"""The built wheels and the clean environments that the packaging tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A virtual environment that holds one wheel of the project and what that wheel asks for."""

    folder: Path

    def run(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment as a new user would: empty home, empty folder, no settings."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [self.folder / "bin" / command, *arguments],
            cwd=home,
            env={"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.defpath}", "HOME": str(home), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def scripts(self) -> set[str]:
        """Return the names of the commands in the environment."""
        return {path.name for path in (self.folder / "bin").iterdir()}

    def site_packages(self) -> Path:
        """Return where the distributions are."""
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """The uv command, away from the workspace and its lock."""

    command: str
    folder: Path

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run uv and return what it prints; a refusal fails the test with uv's own words."""
        environment = {name: value for name, value in os.environ.items() if name not in {"UV_LOCKED", "VIRTUAL_ENV"}}
        result = subprocess.run(
            [self.command, *arguments],
            cwd=cwd or self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert result.returncode == 0, f"uv {' '.join(map(str, arguments))}\n{result.stdout}{result.stderr}"
        return result.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What `uv build` made, and environments made from it, each once in a session."""

    uv: Uv
    dist: Path
    constraints: Path
    _environments: dict[str, Environment] = field(default_factory=dict[str, Environment])

    def artifact(self, dist: str, suffix: str) -> Path:
        """Return the one file of a distribution, by suffix."""
        found = sorted(self.dist.glob(f"{dist.replace('-', '_')}-*{suffix}"))
        assert len(found) == 1, f"{dist}: expected one *{suffix}, found {found}"
        return found[0]

    def environment(self, dist: str) -> Environment:
        """Return the environment that holds only this wheel and its dependencies."""
        if dist not in self._environments:
            folder = self.uv.folder / "environments" / dist
            self.uv.run("venv", "--quiet", "--python", sys.executable, folder)
            # Our wheels come from the folder, third parties in the versions of uv.lock.
            self.uv.run(
                *("pip", "install", "--quiet", "--python", folder, "--link-mode", "hardlink"),
                *("--find-links", self.dist, "--constraints", self.constraints, self.artifact(dist, ".whl")),
            )
            self._environments[dist] = Environment(folder=folder)
        return self._environments[dist]


def build_requirements() -> list[str]:
    """Return what builds are pinned to; that the members ask for nothing else is a rule of the architecture."""
    root = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    pinned: list[str] = root["tool"]["uv"]["build-constraint-dependencies"]
    return pinned


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build every member, and freeze the third parties of the lock as constraints."""
    # `uv run` names itself; what is on the PATH may be a script that looks for it.
    command = shutil.which(os.environ.get("UV", "uv"))
    if command is None:
        pytest.skip("uv is not on PATH: the wheels cannot be built (pip install uv)")
    folder = tmp_path_factory.mktemp("packaging")
    uv = Uv(command=command, folder=folder)
    dist, constraints, backend = folder / "dist", folder / "constraints.txt", folder / "backend"
    # The environment that uv would make anew for each of the fourteen artifacts.
    uv.run("venv", "--quiet", "--python", sys.executable, backend)
    uv.run("pip", "install", "--quiet", "--python", backend, "--link-mode", "hardlink", *build_requirements())
    uv.run(
        *("build", "--all-packages", "--no-sources", "--quiet", "--out-dir", dist),
        *("--no-build-isolation", "--python", backend),
        cwd=REPOSITORY,
    )
    uv.run(
        *("export", "--quiet", "--frozen", "--all-packages", "--no-dev", "--no-emit-workspace", "--no-hashes"),
        *("--output-file", constraints),
        cwd=REPOSITORY,
    )
    return Built(uv=uv, dist=dist, constraints=constraints)
