"""Where this process keeps its tokens and state (contract `runtime.md` 2.1)."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.secretfile import expand_home

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

CONTAINER_DIR = Path("/configs")
"""The folder that the platform mounts in a container."""


def resolve(environ: Mapping[str, str] | None = None, *, container_dir: Path = CONTAINER_DIR) -> Path:
    """Return the folder for tokens and state, creating it when needed.

    `CONFIGS_DIR` wins; else `/configs` where it exists and is writable; else `~/.molecule-workspace`. What is created is 0700.
    A `CONFIGS_DIR` that names the container folder on a machine where it can be neither created nor written (a bridge that
    passes `/configs` on a laptop, contract `consumers.md` 4.1) also leads to the home directory, with a warning. Evaluated
    on each call: nothing is cached.

    Raises:
        ConfigurationError: another `CONFIGS_DIR` cannot be created, or there is no usable home directory.
    """
    chosen = env.CONFIGS_DIR.get(environ)
    if chosen:
        path = expand_home(chosen)
        problem = _problem_with(path)
        if problem is None:
            return path
        if path != container_dir:
            raise ConfigurationError(
                f"CONFIGS_DIR {str(path)!r} cannot be used: {problem}; name a folder that this user can create and write"
            )
        home = _home_dir(environ)
        logger.warning("CONFIGS_DIR is %s, which cannot be used here (%s); using %s", path, problem, home)
        return home
    if container_dir.is_dir() and _problem_with(container_dir) is None:
        return container_dir
    return _home_dir(environ)


def _home_dir(environ: Mapping[str, str] | None) -> Path:
    path = Path(env.HOME.get(environ) or expand_home("~")) / ".molecule-workspace"
    problem = _problem_with(path)
    if problem is not None:
        raise ConfigurationError(
            f"no folder for tokens and state: {path} cannot be used ({problem}); set CONFIGS_DIR to one that can"
        )
    return path


def _problem_with(path: Path) -> str | None:
    """Create the folder (0700: it holds tokens) and try a write; return what is wrong in a few words, or None."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A real write: os.access says yes on a read-only mount for root.
        probe = path / f".molecule-write-test-{os.urandom(8).hex()}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()
    except OSError as exc:
        return exc.strerror or type(exc).__name__
    except ValueError as exc:
        # A character that no path can hold.
        return str(exc)
    return None
