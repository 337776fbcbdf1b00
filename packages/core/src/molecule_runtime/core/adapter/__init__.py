"""The adapter interface: what a template implements to put an agent on the team (contract `workspace-host.md` 8, `runtime.md` 10).

Free of any SDK and cheap to import: what an adapter needs only while it is set up loads when it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.adapter.base import BaseAdapter
from molecule_runtime.core.adapter.types import (
    MAX_SNAPSHOT_LINES,
    AdapterConfig,
    PrivilegedPluginInstallError,
    RuntimeCapabilities,
    SetupResult,
    UnsupportedRuntimeError,
)

if TYPE_CHECKING:
    from molecule_runtime.core.adapter.providers import ProviderRegistry, resolve_provider_routing
    from molecule_runtime.core.adapter.skill import LoadedSkill, SkillMetadata
    from molecule_runtime.core.adapter.tool import Tool, ToolOutput

__all__ = [
    "MAX_SNAPSHOT_LINES",
    "AdapterConfig",
    "BaseAdapter",
    "LoadedSkill",
    "PrivilegedPluginInstallError",
    "ProviderRegistry",
    "RuntimeCapabilities",
    "SetupResult",
    "SkillMetadata",
    "Tool",
    "ToolOutput",
    "UnsupportedRuntimeError",
    "resolve_provider_routing",
]

_LAZY = {
    "LoadedSkill": "skill",
    "ProviderRegistry": "providers",
    "SkillMetadata": "skill",
    "Tool": "tool",
    "ToolOutput": "tool",
    "resolve_provider_routing": "providers",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
