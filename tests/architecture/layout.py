"""The layout of the project as data: members, portions, commands and who may depend on whom.

This is the executable form of `ARCHITECTURE.md`. A new wheel, portion or command begins with a line here.
"""

from __future__ import annotations

from dataclasses import dataclass

NAMESPACE = "molecule_runtime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What one member must look like."""

    dist: str
    portions: tuple[str, ...] | None
    """Names it owns in the namespace; None: what its own wheel table lists (the predecessor's flat modules)."""
    siblings: frozenset[str] = frozenset()
    """Members that it declares in `[project] dependencies`, by folder name."""
    scripts: frozenset[str] = frozenset()
    """Commands that it installs."""
    optional_scripts: frozenset[str] = frozenset()
    """Commands of other members that it may install too."""


COMMANDS = frozenset({"molecule-mcp", "molecule-runtime", "molecule-local", "molecule-audit"})

MEMBERS = {
    "core": Expected(dist="molecule-runtime-core", portions=("core", "mcp_schemas", "mcp_target_resolution")),
    "tools": Expected(
        dist="molecule-runtime-tools",
        portions=("tools",),
        siblings=frozenset({"core"}),
        scripts=frozenset({"molecule-audit"}),
    ),
    "skills": Expected(dist="molecule-runtime-skills", portions=("skills",), siblings=frozenset({"core"})),
    "a2a": Expected(
        dist="molecule-runtime-a2a",
        portions=("a2a",),
        siblings=frozenset({"core"}),
        scripts=frozenset({"molecule-runtime"}),
    ),
    "mcp": Expected(
        dist="molecule-runtime-mcp",
        portions=("mcp",),
        siblings=frozenset({"core", "tools"}),
        scripts=frozenset({"molecule-mcp"}),
    ),
    "localplatform": Expected(
        dist="molecule-runtime-localplatform",
        portions=("localplatform",),
        siblings=frozenset({"core"}),
        scripts=frozenset({"molecule-local"}),
    ),
    "workspace-runtime": Expected(
        dist="molecule-ai-workspace-runtime",
        portions=None,
        siblings=frozenset({"core", "tools", "skills", "a2a", "mcp", "localplatform"}),
        # pipx installs only the commands of the package it is given, so the meta package may repeat them.
        optional_scripts=COMMANDS,
    ),
}

ENVIRONMENT_READERS = {
    "molecule_runtime.core.env": "the one place that names and reads environment variables",
    "*.cli": "a command's main() hands the process environment to the loader",
}
"""Modules that may touch `os.environ`, with the reason. `*.cli` is any module of that name."""

UNIMPORTED_DEPENDENCIES: dict[tuple[str, str], str] = {
    ("localplatform", "python-multipart"): "Starlette reads multipart forms with it",
} | {
    ("workspace-runtime", sibling): "the meta package is its dependencies: it exists to install every wheel"
    for sibling in (
        "molecule-runtime-a2a",
        "molecule-runtime-core",
        "molecule-runtime-localplatform",
        "molecule-runtime-mcp",
        "molecule-runtime-skills",
        "molecule-runtime-tools",
    )
}
"""Dependencies that need not be imported in `src`, by member and distribution, with the reason."""

FORBIDDEN_NAMES = frozenset({"utils", "helpers"})
"""Module and folder names that say nothing about what is inside."""
