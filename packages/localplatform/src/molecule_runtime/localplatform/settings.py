"""What a local platform is started with. Nothing here reads the environment: `cli.main` does, through `core.env`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
"""The platform's own default port (contract 0.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """The settings of one local platform. Section numbers are those of `platform-api.md`.

    Attributes:
        data: folder of the database and the admin token (0700).
        host: address to listen on.
        port: 0 takes a free one.
        allowed_hosts: further names that a `Host` header may carry, besides loopback and `host`.
        url_rule: `local` admits loopback agents, `strict` is the rule of a hosted platform (20).
        stale_after: seconds without a heartbeat after which a workspace is offline (19).
        sweep_interval: seconds between the looks for stale workspaces (19).
        a2a_idle_timeout: seconds without any event of the target after which it counts as busy (5.3).
        a2a_ceiling: longest turn that an agent's message may take, in seconds (5.3).
        human_wait: seconds after which a person gets `push-async` instead of waiting on (24.5).
        delegation_retry_after: seconds before the one retry of a delegation (6.1).
        stop_grace: seconds that running turns get when the platform stops.
        clock: Unix time in seconds.
    """

    data: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = ()
    url_rule: Literal["local", "strict"] = "local"
    stale_after: float = 90.0
    sweep_interval: float = 15.0
    a2a_idle_timeout: float = 300.0
    a2a_ceiling: float = 1800.0
    human_wait: float = 90.0
    delegation_retry_after: float = 8.0
    stop_grace: float = 5.0
    clock: Callable[[], float] = field(default=time.time, repr=False)


def default_data_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return `$MOLECULE_LOCAL_DATA`, else `$XDG_DATA_HOME/molecule-local`, else `~/.local/share/molecule-local`."""
    if chosen := env.MOLECULE_LOCAL_DATA.get(environ):
        return Path(chosen).expanduser()
    xdg = env.XDG_DATA_HOME.get(environ)
    # The XDG specification: a relative path is invalid and must be ignored.
    base = Path(xdg) if xdg and Path(xdg).is_absolute() else Path("~/.local/share").expanduser()
    return base / "molecule-local"
