"""How code of each language is started: the interpreter of the system, never one from somebody's home."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from molecule_runtime.tools.sandbox.job import SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from molecule_runtime.tools.sandbox.job import Language

SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
"""Where interpreters and the tools of the system are, inside the sandbox and out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """What runs a language.

    Attributes:
        command: found on `SYSTEM_PATH`.
        options: before the file of the code.
        file: the name of the code in its folder.
        image: docker's; contract `workspace-host.md` 19.7, but for bash, which alpine has not.
        package: what to install where the command is missing.
    """

    command: str
    options: tuple[str, ...] = ()
    file: str
    image: str
    package: str


INTERPRETERS: Final[Mapping[Language, Interpreter]] = {
    "python": Interpreter(
        command="python3", options=("-B",), file="main.py", image="python:3.11-slim", package="python3"
    ),
    "node": Interpreter(command="node", file="main.js", image="node:20-slim", package="nodejs"),
    "bash": Interpreter(command="bash", file="main.sh", image="debian:12-slim", package="bash"),
}


def system_command(name: str, package: str) -> str:
    """Return the path of a command of the system.

    Raises:
        SandboxUnavailableError: it is not installed.
    """
    path = shutil.which(name, path=SYSTEM_PATH)
    if path is None:
        raise SandboxUnavailableError(
            f"{name} is not installed in {SYSTEM_PATH}; install it, on Debian with: apt-get install {package}"
        )
    return path


def command_line(language: Language, folder: str) -> list[str]:
    """Return what runs the code in a folder on this machine.

    Raises:
        SandboxUnavailableError: the interpreter is not installed.
    """
    known = INTERPRETERS[language]
    return [system_command(known.command, known.package), *known.options, f"{folder}/{known.file}"]
