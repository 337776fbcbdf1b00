"""The bearer token of the HTTP transport: given in the environment, else made once and kept in a file of ours."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from molecule_runtime.core import env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.secretfile import expand_home, read_secret, secret_problem, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOKEN_FILE: Final = "molecule-mcp-http.token"  # noqa: S105 - a file's name
"""In the folder for state."""

MIN_LENGTH: Final = 16
"""Characters; whoever reaches the port may try as many tokens as they like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpToken:
    """The token that clients must send.

    Attributes:
        file: where clients can read it; None where it was given in `MOLECULE_MCP_HTTP_TOKEN`.
    """

    secret: str
    file: Path | None

    def __repr__(self) -> str:
        return f"HttpToken(file={str(self.file)!r})"


def load_token(state_dir: Path, environ: Mapping[str, str] | None = None) -> HttpToken:
    """Return the token of `MOLECULE_MCP_HTTP_TOKEN`, else of `MOLECULE_MCP_HTTP_TOKEN_FILE`, else of a file in `state_dir`.

    That last one is made when it is missing and stays, so that a client's configuration holds after a restart.

    Raises:
        ConfigurationError: the token is too short or no token at all, or its file cannot be used.
    """
    if given := env.MOLECULE_MCP_HTTP_TOKEN.get(environ):
        return HttpToken(secret=_checked(given, env.MOLECULE_MCP_HTTP_TOKEN.name), file=None)
    if named := env.MOLECULE_MCP_HTTP_TOKEN_FILE.get(environ):
        path = expand_home(named)
        name = f"{env.MOLECULE_MCP_HTTP_TOKEN_FILE.name}={str(path)!r}"
        return HttpToken(secret=_checked(_read(path, name), name), file=path)
    path = state_dir / TOKEN_FILE
    try:
        _make(path)
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigurationError(
            f"the token of the HTTP transport cannot be kept in {str(path)!r}: {exc.strerror or exc};"
            f" make the folder writable, or give a token in {env.MOLECULE_MCP_HTTP_TOKEN.name}"
        ) from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(
            f"others may read the token in {str(path)!r} (mode {stat.S_IMODE(mode):o}); remove the file, and a new token is made"
        )
    return HttpToken(secret=_checked(_read(path, str(path)), str(path)), file=path)


def _make(path: Path) -> None:
    """Write a new token unless there is one; of two processes that start at once, both use what the first wrote."""
    if path.exists():
        return
    new = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    write_private(new, secrets.token_urlsafe(32) + "\n")
    try:
        # Not a rename: this one fails where the other process was faster.
        path.hardlink_to(new)
    except FileExistsError:
        pass
    finally:
        new.unlink()


def _read(path: Path, name: str) -> str:
    try:
        return read_secret(path)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise ConfigurationError(f"{name}: the file of the token cannot be used: {reason}") from None


def _checked(secret: str, name: str) -> str:
    if problem := secret_problem(secret):
        raise ConfigurationError(f"{name} {problem}")
    if len(secret) < MIN_LENGTH:
        raise ConfigurationError(
            f"{name} has {len(secret)} characters; use at least {MIN_LENGTH}, for example what `openssl rand -hex 32` prints"
        )
    return secret
