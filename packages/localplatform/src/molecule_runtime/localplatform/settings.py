"""What a local platform is started with. Nothing here reads the environment: `cli.main` does, through `core.env`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from molecule_runtime.localplatform.urls import UrlRule

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
        url_rule: which agents may be called (20): `local` admits this machine, `private` also private networks, `strict` is the rule of a
            hosted platform.
        rate_limit: requests a minute of one client address (1.3); None: 600, and no limit for this machine, whose agents share one address.
        org_id: when set, requests must carry it in `X-Molecule-Org-Id`, as on a hosted tenant (1.4).
        stale_after: seconds without a heartbeat after which a workspace is offline (19).
        sweep_interval: seconds between the looks for stale workspaces (19).
        a2a_idle_timeout: seconds without any event of the target after which it counts as busy (5.3).
        a2a_ceiling: longest turn that an agent's message may take, in seconds (5.3).
        human_wait: seconds after which a person gets `push-async` instead of waiting on (24.5).
        delegation_retry_after: seconds before the one retry of a delegation (6.1).
        delegation_results_in_inbox: leave results also in the delegating workspace's inbox (24.4: `DELEGATION_RESULT_INBOX_PUSH`).
        activity_retention: seconds that activity is kept (7.1); unread messages of an inbox longer, to `activity_ceiling`.
        activity_ceiling: seconds after which activity goes, read or not (24.4).
        approval_expiry: seconds after which an approval that nobody decided is denied, when somebody looks (9.4).
        upload_expiry: seconds that a file waits for a polling workspace to fetch it (24.9).
        schedule_tick: seconds between the looks for schedules that are due (12.7).
        stop_grace: seconds that running turns get when the platform stops.
        clock: Unix time in seconds.
    """

    data: Path
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = ()
    url_rule: UrlRule = "local"
    rate_limit: int | None = None
    org_id: str = ""
    stale_after: float = 90.0
    sweep_interval: float = 15.0
    a2a_idle_timeout: float = 300.0
    a2a_ceiling: float = 1800.0
    human_wait: float = 90.0
    delegation_retry_after: float = 8.0
    delegation_results_in_inbox: bool = False
    activity_retention: float = 7 * 86_400.0
    activity_ceiling: float = 30 * 86_400.0
    approval_expiry: float = 600.0
    upload_expiry: float = 7 * 86_400.0
    schedule_tick: float = 30.0
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
