"""What the checks look at. They only read it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.errors import ConfigurationError, TargetError
from molecule_runtime.core.platform.pools import ConnectionPools
from molecule_runtime.core.preflight import Health, ask_health
from molecule_runtime.core.secretfile import expand_home
from molecule_runtime.core.targets import WorkspaceTarget, resolve_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

AT_ONCE = 16
"""Platforms or workspaces that are asked at the same time."""

SHELL = "this shell"

_NAMING = (env.WORKSPACE_ID, env.MOLECULE_WORKSPACES, env.MOLECULE_WORKSPACES_FILE)


@dataclass(frozen=True, slots=True)
class Source:
    """Settings that molecule-mcp is started with: those of a shell, or of one entry in a client's file."""

    name: str
    environ: Mapping[str, str] = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Machine:
    """One installation of molecule-mcp and what starts it.

    Attributes:
        environ: the environment of this process.
        cwd: the folder of this process; None where there is none.
        offline: nothing may be asked of a platform.
        clients: the settings in clients' files that are complete.
    """

    environ: Mapping[str, str] = field(default_factory=env.current)
    cwd: Path | None = None
    offline: bool = False
    clients: tuple[Source, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _targets: tuple[WorkspaceTarget, ...] | None = None
    _healths: dict[str, Health | Exception] | None = None

    @property
    def home(self) -> Path:
        """The home directory."""
        return Path(env.HOME.get(self.environ) or expand_home("~"))

    def sources(self) -> tuple[Source, ...]:
        """Return every place that says which workspaces to serve, this shell first."""
        named = any(variable.is_set(self.environ) for variable in _NAMING)
        return (*([Source(SHELL, self.environ)] if named else []), *self.clients)

    def folders(self) -> tuple[Path, ...]:
        """Return the folders for tokens and state, without those that cannot be used."""
        found: dict[Path, None] = {}
        for source in self.sources() or (Source(SHELL, self.environ),):
            with contextlib.suppress(ConfigurationError):
                found[configs_dir.resolve(source.environ)] = None
        return tuple(found)

    def targets(self) -> tuple[WorkspaceTarget, ...]:
        """Return the workspaces of all sources, each once; settings that are missing or wrong give none."""
        with self._lock:
            if self._targets is None:
                found: dict[tuple[str, str, str], WorkspaceTarget] = {}
                for source in self.sources():
                    with contextlib.suppress(TargetError):
                        for target in resolve_targets(source.environ):
                            found.setdefault((target.platform_url, target.id, target.token.read()), target)
                self._targets = tuple(found.values())
            return self._targets

    def healths(self) -> dict[str, Health | Exception]:
        """Return what each platform answered, by its URL. Asked once."""
        urls = sorted({target.platform_url for target in self.targets()})
        with self._lock:
            if self._healths is None:
                self._healths = anyio.run(_ask_all, urls)
            return self._healths


async def _ask_all(urls: list[str]) -> dict[str, Health | Exception]:
    answers: dict[str, Health | Exception] = {}
    limiter = anyio.CapacityLimiter(AT_ONCE)

    async def ask(url: str, pools: ConnectionPools) -> None:
        async with limiter:
            try:
                answers[url] = await ask_health(url, pools)
            except (httpx.HTTPError, OSError) as exc:
                answers[url] = exc

    async with ConnectionPools() as pools, anyio.create_task_group() as group:
        for url in urls:
            group.start_soon(ask, url, pools)
    return answers
