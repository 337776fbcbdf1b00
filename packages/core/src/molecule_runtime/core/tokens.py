"""Where a workspace's token comes from. A source is read for each use, so a rotated file is picked up without a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from molecule_runtime.core import env
from molecule_runtime.core.configs_dir import CONTAINER_DIR
from molecule_runtime.core.secretfile import expand_home, read_secret, secret_problem, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOKEN_FILE_NAME = ".auth_token"  # noqa: S105 - a file name
"""In the configs dir; contract `runtime.md` 2.2."""

INBOUND_SECRET_FILE_NAME = ".platform_inbound_secret"  # noqa: S105 - a file name
"""In the configs dir; contract `runtime.md` 2.3."""


class TokenSource(Protocol):
    """Gives a workspace's current token."""

    @property
    def description(self) -> str:
        """Where the token comes from, for messages; never the token."""
        ...

    def read(self) -> str:
        """Return the current token, or `""` when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that was given as a value."""

    value: str = field(repr=False)
    description: str = field(default="given as a value", compare=False)

    def read(self) -> str:
        """Return the token."""
        return self.value


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token in a file, read on each use; a missing or unusable file gives no token."""

    path: Path

    @property
    def description(self) -> str:
        """Name the file."""
        return f"file {self.path}"

    def read(self) -> str:
        """Return the token in the file, or `""`."""
        try:
            return read_secret(self.path)
        except (OSError, ValueError):
            return ""

    def save(self, token: str) -> None:
        """Replace the token in the file (0600, atomically); no write when it already holds the token.

        Raises:
            ValueError: the token is blank, or could not be read back.
            OSError: the file cannot be written.
        """
        stripped = token.strip()
        if problem := secret_problem(stripped):
            raise ValueError(f"refusing to save a token that {problem}")
        if self.read() != stripped:
            write_private(self.path, stripped)


@dataclass(frozen=True, slots=True)
class FirstOf:
    """The first of several sources that has a token."""

    sources: tuple[TokenSource, ...]

    @property
    def description(self) -> str:
        """Name the source in use, or all of them when none has a token."""
        for source in self.sources:
            if source.read():
                return source.description
        return " or ".join(source.description for source in self.sources)

    def read(self) -> str:
        """Return the first token found, or `""`."""
        for source in self.sources:
            if token := source.read():
                return token
        return ""


def workspace_token(configs_dir: Path, environ: Mapping[str, str] | None = None) -> TokenSource:
    """Return the token source of a single-workspace process (contract `runtime.md` 2.2).

    In a container (the file's parent is exactly `/configs`) the file wins over the environment, since the provisioner rotates
    the file while the environment stays as it was at start; anywhere else the environment wins over a file left behind.
    """
    file = TokenFile(configs_dir / TOKEN_FILE_NAME)
    sources: list[TokenSource] = []
    if value := env.MOLECULE_WORKSPACE_TOKEN.get(environ):
        sources.append(StaticToken(value, description=f"environment variable {env.MOLECULE_WORKSPACE_TOKEN.name}"))
    if path := env.MOLECULE_WORKSPACE_TOKEN_FILE.get(environ):
        sources.append(TokenFile(expand_home(path)))
    if configs_dir == CONTAINER_DIR:
        return FirstOf((file, *sources))
    return FirstOf((*sources, file))


def a2a_token(environ: Mapping[str, str] | None = None) -> TokenSource | None:
    """Return the source of the secret of `a2a.inbound_auth: bearer`, or None where the environment names none."""
    sources: list[TokenSource] = []
    if path := env.MOLECULE_A2A_TOKEN_FILE.get(environ):
        sources.append(TokenFile(expand_home(path)))
    if value := env.MOLECULE_A2A_TOKEN.get(environ):
        sources.append(StaticToken(value, description=f"environment variable {env.MOLECULE_A2A_TOKEN.name}"))
    return FirstOf(tuple(sources)) if sources else None
