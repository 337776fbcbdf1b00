"""Loads a session and the MCP SDK, without the parts of the SDK that a server does not use.

`mcp` and `mcp.server` import, for the sake of the names that they offer, the client, the authorization of clients and a second server
framework: more than half of all. Nobody here asks these two packages for a name, so their own code does not run until somebody does.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from molecule_runtime.core.starting import COMMAND_LINES, loading

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

OWN: Final = ("molecule_runtime.mcp.stdio", "molecule_runtime.tools.telemetry_sdk")
"""What a session over stdio needs before the SDK: with it, the first calls are answered."""

SESSION: Final = ("molecule_runtime.mcp.session",)
HTTP: Final = ("molecule_runtime.mcp.http_server", "molecule_runtime.tools.telemetry_sdk")

_UNREAD: Final = ("mcp", "mcp.server")
_WEB_SERVER: Final = "uvicorn"
"""`sse_starlette` prepares it for its shutdown where it is installed; a session over stdio has none."""


def load_own() -> None:
    """Load what a session over stdio needs of our own."""
    with loading():
        _import(OWN)


def load_session() -> None:
    """Load what a session over stdio needs with the SDK."""
    load(SESSION, without=(*COMMAND_LINES, _WEB_SERVER))


def load_http() -> None:
    """Load what sessions over HTTP need."""
    load(HTTP)


def load(names: Sequence[str], *, unread: Sequence[str] = _UNREAD, without: tuple[str, ...] = COMMAND_LINES) -> None:
    """Import modules without running the code of the packages `unread` around theirs; for the start of a process.

    Where that fails, since a package is not as it was any more, everything is imported as anybody would.
    """
    before = set(sys.modules)
    try:
        with loading(without=without):
            for package in unread:
                _leave_unread(package)
            _import(names)
    except Exception as exc:
        logger.info("%s: loading everything instead", exc)
        families = {name.partition(".")[0] for name in (*names, *unread)}
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in families:
                del sys.modules[name]
        _import(names)


def _import(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)


class _Unread(ModuleType):
    """A package whose own code runs when a name is asked for that is not there without it."""

    def __getattr__(self, name: str) -> Any:
        if importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            return importlib.import_module(f"{self.__name__}.{name}")
        self.__class__ = ModuleType  # type: ignore[assignment]
        if self.__spec__ is not None and self.__spec__.loader is not None:
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _leave_unread(package: str) -> None:
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Unread
    sys.modules[package] = module
    parent, _, child = package.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
