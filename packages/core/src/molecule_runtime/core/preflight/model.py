"""What a check is, what it may find, and what it may look at."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from molecule_runtime.core import configs_dir, env
from molecule_runtime.core.identity import validate_platform_url, validate_workspace_id
from molecule_runtime.core.targets import WorkspaceTarget, org_id_of
from molecule_runtime.core.tokens import workspace_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from molecule_runtime.core.config import LoadedConfig, WorkspaceConfig
    from molecule_runtime.core.tokens import TokenSource

_T = TypeVar("_T")


class Subject(Protocol):
    """What a list of checks looks at."""

    @property
    def offline(self) -> bool:
        """Whether nothing may be asked of the platform."""
        ...


SubjectT = TypeVar("SubjectT", bound=Subject)

ADAPTER_DEADLINE = 60.0
"""Seconds for the import of an adapter; an agent framework on a slow disk takes tens of seconds."""


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found.

    Attributes:
        reason: one sentence.
        fix: what to do; `""` when there is nothing to do.
        detail: more for somebody who looks closer, such as the end of a program's output.
    """

    status: Status
    reason: str
    fix: str = ""
    detail: str = ""


def ok(reason: str) -> Outcome:
    """Return that all is well."""
    return Outcome(Status.OK, reason)


def warn(reason: str, fix: str = "", *, detail: str = "") -> Outcome:
    """Return something that does not keep the workspace from running."""
    return Outcome(Status.WARN, reason, fix, detail)


def fail(reason: str, fix: str = "", *, detail: str = "") -> Outcome:
    """Return something that keeps the workspace from running."""
    return Outcome(Status.FAIL, reason, fix, detail)


def skip(reason: str) -> Outcome:
    """Return that there was nothing to check, or no way to."""
    return Outcome(Status.SKIP, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[SubjectT]):
    """One thing to check.

    Attributes:
        id: a stable name for programs, such as `a2a.port`.
        title: what is checked, for people.
        severity: the worst that it may find.
        run: does it; may take its time up to the deadline, and touches nothing that another check touches.
        network: it talks to the platform.
        at_boot: it is cheap and local, so the host runs it at every start.
        deadline: seconds after which the check counts as failed.
    """

    id: str
    title: str
    severity: Status
    run: Callable[[SubjectT], Iterable[Outcome]]
    network: bool = False
    at_boot: bool = False
    deadline: float = 10.0


@dataclass(slots=True, kw_only=True)
class Context:
    """What the checks look at. They only read it.

    Attributes:
        loaded: the reading of config.yaml.
        environ: the environment of the workspace.
        platform_url: where the platform is when `PLATFORM_URL` does not say.
        offline: nothing may be asked of the platform.
        adapter_deadline: seconds for the import of the adapter.
    """

    loaded: LoadedConfig
    environ: Mapping[str, str] = field(default_factory=env.current)
    platform_url: str = "http://localhost:8080"
    offline: bool = False
    adapter_deadline: float = ADAPTER_DEADLINE
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _locks: dict[str, threading.Lock] = field(default_factory=dict[str, threading.Lock], repr=False)
    _kept: dict[str, object] = field(default_factory=dict[str, object], repr=False)

    @property
    def folder(self) -> Path:
        """The folder of config.yaml."""
        return self.loaded.path.parent

    @property
    def config(self) -> WorkspaceConfig | None:
        """The configuration; None when it cannot be used."""
        return self.loaded.config

    def state(self) -> Path:
        """Return the folder for tokens and state.

        Raises:
            ConfigurationError: there is none.
        """
        return self.once("state", lambda: configs_dir.resolve(self.environ))

    def token(self) -> TokenSource:
        """Return where the token comes from.

        Raises:
            ConfigurationError: there is no folder for tokens and state.
        """
        return workspace_token(self.state(), self.environ)

    def target(self) -> WorkspaceTarget:
        """Return the workspace as the platform knows it.

        Raises:
            ConfigurationError: `WORKSPACE_ID` or `PLATFORM_URL` cannot be used.
        """
        return WorkspaceTarget(
            id=validate_workspace_id(env.WORKSPACE_ID.get(self.environ)),
            token=self.token(),
            platform_url=validate_platform_url(env.PLATFORM_URL.get(self.environ) or self.platform_url),
            org_id=org_id_of(self.environ),
        )

    def once(self, key: str, make: Callable[[], _T]) -> _T:
        """Return what `make` returned the first time, for checks that need the same thing; an error is tried again."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._kept:
                self._kept[key] = make()
            return cast("_T", self._kept[key])


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of a report: the check and what it found."""

    check: str
    title: str
    status: Status
    reason: str
    fix: str = ""
    detail: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return the result for JSON."""
        return {
            "check": self.check,
            "title": self.title,
            "status": str(self.status),
            "reason": self.reason,
            "fix": self.fix,
            "detail": self.detail,
        }
