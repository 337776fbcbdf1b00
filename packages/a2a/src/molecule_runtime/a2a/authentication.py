"""Who may send this workspace messages (`a2a.inbound_auth`), and with which secret; the card says which."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from molecule_runtime.a2a.statefile import FILE_NAME
from molecule_runtime.core import env
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.identity import is_loopback
from molecule_runtime.core.secretfile import secret_problem
from molecule_runtime.core.tokens import INBOUND_SECRET_FILE_NAME, TOKEN_FILE_NAME, TokenFile

if TYPE_CHECKING:
    from pathlib import Path

    from molecule_runtime.a2a.settings import HostSettings
    from molecule_runtime.core.config import WorkspaceConfig
    from molecule_runtime.core.tokens import TokenSource

logger = logging.getLogger(__name__)

Mode = Literal["none", "bearer", "platform"]

SCHEME = "bearer"
"""The name of the scheme on the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundAuth:
    """How senders of messages show that they may.

    Attributes:
        mode: `none` lets everybody in, `bearer` whoever has this workspace's own secret for it, `platform` the platform.
        secret: read for each request, so that a changed file counts at once; None in mode `none`.
    """

    mode: Mode = "none"
    secret: TokenSource | None = None

    @property
    def meaning(self) -> str:
        """Say on the card what the bearer token is."""
        if self.mode == "platform":
            return "The secret that the platform gave this workspace; send messages through the platform."
        return "A token that whoever runs this workspace gives out."


def inbound_auth_of(settings: HostSettings, config: WorkspaceConfig) -> InboundAuth:
    """Return how senders are authenticated.

    Raises:
        ConfigurationError: `bearer` is asked for, and there is no secret for it.
    """
    mode: Mode = config.a2a.inbound_auth
    if mode == "none" and settings.require_auth:
        mode = "platform"
    if mode == "platform":
        return InboundAuth(mode=mode, secret=platform_secret_of(settings))
    if mode == "none":
        return InboundAuth()
    names = f"{env.MOLECULE_A2A_TOKEN_FILE.name} (a file that holds it) or {env.MOLECULE_A2A_TOKEN.name}"
    source = settings.a2a_token
    if source is None:
        raise ConfigurationError(f"a2a.inbound_auth is 'bearer' and there is no secret for it; set {names}")
    if problem := secret_problem(source.read()):
        raise ConfigurationError(
            f"a2a.inbound_auth is 'bearer' and the secret from {source.description} {problem}; set {names}"
        )
    return InboundAuth(mode=mode, secret=source)


def platform_secret_of(settings: HostSettings) -> TokenFile:
    """Return the secret that the platform shows on its internal routes; it arrives with the registration."""
    return TokenFile(settings.configs_dir / INBOUND_SECRET_FILE_NAME)


def secret_files_of(settings: HostSettings) -> tuple[Path, ...]:
    """Return the files of this workspace that hold a credential, or what others told it; they are never given out."""
    state = (f"{FILE_NAME}{suffix}" for suffix in ("", "-wal", "-shm"))
    own = [settings.configs_dir / name for name in (TOKEN_FILE_NAME, INBOUND_SECRET_FILE_NAME, *state)]
    return (*own, *settings.secret_files)


def warn_if_open(auth: InboundAuth, bind_host: str) -> None:
    """Say once, when the workspace starts, that everybody who reaches it may send it messages."""
    if auth.mode != "none" or is_loopback(bind_host):
        return
    logger.warning(
        "a2a.inbound_auth is 'none' and this workspace listens on %s: everybody who reaches that address may send it messages;"
        " set a2a.inbound_auth to 'bearer' or 'platform' in config.yaml, or MOLECULE_BIND_HOST=127.0.0.1",
        bind_host,
    )
