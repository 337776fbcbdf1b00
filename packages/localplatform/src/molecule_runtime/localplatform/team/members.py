"""Who is on a team, as checked values: where nothing is left to look up, neither in the file nor in the environment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from molecule_runtime.core.platform.wire import DeliveryMode
    from molecule_runtime.localplatform.team.seed import Policy

EXTERNAL = "external"
"""The runtime of a member that connects from elsewhere (contract 14.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartRule:
    """When the process of a member is run anew.

    Attributes:
        policy: always, on-failure (only when its exit code is not 0) or never.
        attempts: quick failures in a row after which it is given up.
    """

    policy: Policy = "on-failure"
    attempts: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One agent of the team.

    Attributes:
        role: None leaves the role that its workspace has.
        parent: name of the member above it.
        external: it connects from elsewhere instead of being run here.
        runtime: the installed adapter that runs it, or what else to call what runs it.
        adapter_module: the module of its adapter, where `runtime` names none.
        adapter_folder: where that module is, when it is not an installed one.
        command: the program that runs it, instead of our workspace host.
        config: further keys of its config.yaml.
        environ: further variables of its process.
        prompt: its system prompt.
        files: what to copy into its folder.
        port: 0 takes a free one.
        delivery: how a member from elsewhere gets its messages.
    """

    name: str
    role: str | None = None
    parent: str | None = None
    external: bool = False
    runtime: str = ""
    adapter_module: str = ""
    adapter_folder: Path | None = None
    command: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    environ: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    prompt: str = field(default="", repr=False)
    files: tuple[Path, ...] = ()
    port: int = 0
    restart: RestartRule = RestartRule()
    delivery: DeliveryMode = "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A team: parents stand before the members below them."""

    name: str
    members: tuple[Member, ...]
