"""molecule-local: the embedded platform, the HTTP contract on one SQLite file."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from molecule_runtime.localplatform.app import create_app
    from molecule_runtime.localplatform.events import EventBus, Frame
    from molecule_runtime.localplatform.server import RunningPlatform, serve
    from molecule_runtime.localplatform.settings import LocalSettings

__all__ = ["EventBus", "Frame", "LocalSettings", "RunningPlatform", "create_app", "serve"]

_HOMES = {
    "EventBus": "events",
    "Frame": "events",
    "LocalSettings": "settings",
    "RunningPlatform": "server",
    "create_app": "app",
    "serve": "server",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used: the command line begins here too, and need not load the server for `--help`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
