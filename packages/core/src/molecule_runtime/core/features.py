"""What is installed: wheels announce features and adapters through entry points, and nothing imports upwards."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from molecule_runtime.core.errors import ConfigurationError, MissingFeatureError

FEATURES = "molecule_runtime.features"
ADAPTERS = "molecule_runtime.adapters"

DISTRIBUTIONS = {
    "tools": "molecule-runtime-tools",
    "skills": "molecule-runtime-skills",
    "a2a": "molecule-runtime-a2a",
    "mcp": "molecule-runtime-mcp",
    "localplatform": "molecule-runtime-localplatform",
}
"""Which wheel brings which feature."""


def names(group: str) -> list[str]:
    """Return the sorted names that installed wheels announce in an entry-point group."""
    return sorted({entry.name for entry in metadata.entry_points(group=group)})


def load(group: str, name: str) -> Any:
    """Import and return what the entry point `name` of `group` points to.

    Raises:
        MissingFeatureError: a feature whose wheel is not installed.
        ConfigurationError: no installed wheel announces the name, or several do.
    """
    found = list(metadata.entry_points(group=group, name=name))
    if not found:
        if group == FEATURES and name in DISTRIBUTIONS:
            raise MissingFeatureError(f"feature {name!r}", distribution=DISTRIBUTIONS[name])
        known = ", ".join(names(group)) or "none"
        raise ConfigurationError(f"{name!r} is not among the installed {group.rpartition('.')[2]} ({known})")
    targets = {entry.value for entry in found}
    if len(targets) > 1:
        raise ConfigurationError(
            f"several wheels announce {name!r} in {group}: {', '.join(sorted(targets))}; uninstall all but one"
        )
    return found[0].load()
