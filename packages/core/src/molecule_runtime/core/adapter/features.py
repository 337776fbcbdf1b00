"""What an installed wheel may bring to an adapter: the objects behind the entry-point group `molecule_runtime.features`.

A feature is any object, usually a module, with some of the functions below; what it does not have it does not bring. They are called
in a worker thread and may block.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from molecule_runtime.core import features

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from molecule_runtime.core.adapter.skill import FoundSkills
    from molecule_runtime.core.adapter.tool import Tool
    from molecule_runtime.core.adapter.types import AdapterConfig
    from molecule_runtime.core.platform import wire
    from molecule_runtime.core.plugins import Plugin, PluginAdaptor

logger = logging.getLogger(__name__)

REQUIRED = ("skills", "tools")
"""Features that every workspace is set up with; one that is absent is said so."""


class SkillsFeature(Protocol):
    """Reads skills."""

    def load_skills(self, config: AdapterConfig, *, runtime: str, folders: Sequence[Path]) -> FoundSkills:
        """Return the skills that `config.tools` names, then those in `folders`; a bad one is a problem and not an exception."""
        ...


class ToolsFeature(Protocol):
    """Brings tools."""

    def tools(self, config: AdapterConfig, *, children: Sequence[wire.Peer]) -> Sequence[Tool]:
        """Return the tools of this workspace; `children` is its team, if it leads one."""
        ...


class PluginsFeature(Protocol):
    """Installs plugins."""

    def plugin_adaptor(self, plugin: Plugin, *, runtime: str) -> PluginAdaptor | None:
        """Return what installs this plugin for this runtime, or None to leave it to others."""
        ...


@dataclass(slots=True, kw_only=True)
class Installed:
    """The features of this environment."""

    objects: dict[str, Any] = field(default_factory=dict[str, Any])
    absent: tuple[str, ...] = ()
    """One line for each that is not installed, with the line that installs it."""
    problems: list[str] = field(default_factory=list[str])

    def offering(self, function: str) -> list[tuple[str, Any]]:
        """Return `(feature, function)` of every feature that has a function of this name."""
        found = [(name, getattr(item, function, None)) for name, item in self.objects.items()]
        return [(name, call) for name, call in found if callable(call)]


def installed() -> Installed:
    """Load every announced feature. One that cannot be imported is a problem, and the others still load."""
    found = Installed()
    names = features.names(features.FEATURES)
    for name in names:
        try:
            found.objects[name] = features.load(features.FEATURES, name)
        except Exception as exc:  # another wheel's import may raise anything
            logger.warning("feature %s is installed but cannot be loaded", name, exc_info=True)
            found.problems.append(f"feature {name} is installed but cannot be loaded: {type(exc).__name__}: {exc}")
    found.absent = tuple(
        f"{name}: not installed; install it with: pip install {features.DISTRIBUTIONS[name]}"
        for name in REQUIRED
        if name not in names
    )
    return found
