"""Checks of this machine: Python, the installation, PATH, variables, the folder for state, config.yaml."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import platform
import shutil
import stat
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.config import FILE_NAME, config_folder, load
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.preflight import Outcome, Status, fail, ok, skip, warn
from molecule_runtime.core.version import version_of
from molecule_runtime.tools.permissions import likely_mistakes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from molecule_runtime.mcp.doctor.subject import Machine

COMMAND = "molecule-mcp"

LEAST_PYTHON = (3, 11)

LEAST_FREE_BYTES = 64 * 1024 * 1024
"""The inbox of one workspace may hold ten thousand messages."""

_WHEELS = ("molecule-runtime-mcp", "molecule-runtime-tools", "molecule-runtime-core", "mcp")
_REINSTALL = "install it anew: pipx reinstall molecule-runtime-mcp"


def check_python(_: Machine) -> Iterator[Outcome]:
    """Whether this Python is new enough."""
    said = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    if sys.version_info < LEAST_PYTHON:
        wanted = ".".join(str(part) for part in LEAST_PYTHON)
        yield fail(f"{said} is too old", f"install Python {wanted} or newer, and molecule-runtime-mcp with it")
    else:
        yield ok(said)


def check_installation(_: Machine) -> Iterator[Outcome]:
    """Whether every part is there and can be imported."""
    spec = importlib.util.find_spec("molecule_runtime")
    if spec is not None and spec.origin is not None:
        yield fail(
            f"an older molecule_runtime at {spec.origin} hides parts of this one",
            "remove it: pip uninstall molecule-ai-workspace-runtime, then " + _REINSTALL,
        )
    try:
        importlib.import_module("molecule_runtime.mcp.stdio")
    except Exception as exc:  # a broken installation fails in any way
        yield fail(f"the server cannot be imported: {type(exc).__name__}: {exc}", _REINSTALL)
        return
    yield ok(", ".join(f"{wheel} {version_of(wheel)}" for wheel in _WHEELS))


def check_path(machine: Machine) -> Iterator[Outcome]:
    """Whether a client that starts `molecule-mcp` by name starts this one."""
    own = Path(sysconfig.get_path("scripts"), COMMAND)
    found = shutil.which(COMMAND, path=machine.environ.get("PATH", os.defpath))
    if found is None:
        yield warn(f"{COMMAND} is not on the PATH", f"run pipx ensurepath, or give clients its whole path: {own}")
    elif Path(found).resolve() == own.resolve():
        yield ok(found)
    else:
        # pipx and uv put a link to the command of the environment on the PATH, which the resolution above follows.
        yield warn(
            f"a client that starts {COMMAND} gets {found}, which is another installation than this one ({own})",
            "remove one of the two, or give clients the whole path",
        )


def check_environment(machine: Machine) -> Iterator[Outcome]:
    """Whether every variable that is set has a value that can be used."""
    found = env.problems(machine.environ)
    for problem in found:
        reason, _, wanted = problem.partition("; it must be ")
        yield fail(reason, f"set it to {wanted}, or remove it")
    if not found:
        yield ok("every variable that is set can be used")


def check_folder(machine: Machine) -> Iterator[Outcome]:
    """Whether each folder for tokens and state can be written, and by nobody else."""
    for source in machine.sources():
        try:
            configs_dir.resolve(source.environ)
        except ConfigurationError as exc:
            yield fail(f"{source.name}: {exc}", f"set {env.CONFIGS_DIR.name} to a folder that this user can write")
    for folder in machine.folders():
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o022:
            yield fail(f"{folder} can be written by other users (mode {mode:04o})", f"chmod 700 {folder}")
        elif mode & 0o055:
            yield warn(f"{folder} can be listed by other users (mode {mode:04o})", f"chmod 700 {folder}")
        yield from _loose_files(folder)
        free = shutil.disk_usage(folder).free
        if free < LEAST_FREE_BYTES:
            yield warn(f"{folder} has {free // 1024} KiB left", "make room: messages are kept there")
        yield ok(f"{folder} can be written")


def check_configuration(machine: Machine) -> Iterator[Outcome]:
    """Everything that is wrong with config.yaml; there need not be one."""
    folders: dict[Path, None] = {}
    for environ in [source.environ for source in machine.sources()] or [machine.environ]:
        with contextlib.suppress(ConfigurationError):  # the check of the folder says so
            folders[config_folder(environ)] = None
    for folder in folders:
        if not (folder / FILE_NAME).exists():
            yield ok(f"{folder / FILE_NAME} is written on the first start, with the role operator")
            continue
        loaded = load(folder, machine.environ)
        for finding in loaded.findings:
            status = Status.FAIL if finding.severity == "error" else Status.WARN
            yield Outcome(status, str(finding).removesuffix(f"; {finding.remedy}"), finding.remedy)
        roles = likely_mistakes(loaded.config.rbac) if loaded.config is not None else []
        for mistake in roles:
            yield warn(f"{loaded.path}: {mistake}", "correct rbac in config.yaml, unless that is meant")
        if not loaded.findings and not roles:
            yield ok(f"{loaded.path} is valid")
    if not folders:
        yield skip("there is no folder for it")


def _loose_files(folder: Path) -> Iterator[Outcome]:
    for path in sorted(folder.iterdir()):
        try:
            status = path.lstat()
        except OSError:  # it went in between
            continue
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISREG(status.st_mode) and mode & 0o077:
            yield warn(f"{path} is open to other users (mode {mode:04o})", f"chmod 600 {path}")
