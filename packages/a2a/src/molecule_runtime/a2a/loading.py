"""Finds the adapter: a module that `ADAPTER_MODULE` names, or an installed one that config.yaml names (contract `consumers.md` 1.1.1)."""

from __future__ import annotations

import importlib
import inspect
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

from molecule_runtime.a2a.daemon_thread import in_daemon_thread
from molecule_runtime.a2a.errors import AdapterLoadError
from molecule_runtime.core import features
from molecule_runtime.core.adapter import BaseAdapter
from molecule_runtime.core.errors import ConfigurationError
from molecule_runtime.core.redaction import redact_text

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)

IMPORT_DEADLINE = 120.0
"""Seconds; an agent framework on a slow disk takes tens of seconds to import."""


async def load_adapter(module: str, runtime: str, *, deadline: float = IMPORT_DEADLINE) -> BaseAdapter:
    """Import the adapter's class and return an instance.

    The import runs in a thread: it may block, and the host must still see a signal and its own deadline.

    Args:
        module: the module of `ADAPTER_MODULE`; `""` to look `runtime` up among the installed adapters.
        runtime: the `runtime` key of config.yaml.
        deadline: seconds for the import.

    Raises:
        AdapterLoadError: the import failed or took too long, or the module holds no adapter.
        ConfigurationError: `runtime` names no installed adapter.
    """
    source = f"ADAPTER_MODULE {module!r}" if module else f"adapter {runtime!r} (runtime in config.yaml)"
    try:
        with anyio.fail_after(deadline):
            return await in_daemon_thread(lambda: _instance(module, runtime, source), name="molecule-adapter-import")
    except TimeoutError:
        raise AdapterLoadError(
            f"{source} was not imported within {deadline:.0f} s; look for work at import time"
        ) from None


def find_adapter_class(module: ModuleType) -> type[BaseAdapter]:
    """Return the adapter class of a module: its `Adapter`, else the one concrete `BaseAdapter` subclass that it defines.

    Raises:
        AdapterLoadError: there is none, or there are several and none is named `Adapter`.
    """
    named: object = getattr(module, "Adapter", None)
    if named is not None:
        if not inspect.isclass(named) or not callable(getattr(named, "create_executor", None)):
            raise AdapterLoadError(f"{module.__name__}.Adapter is not an adapter class; derive it from BaseAdapter")
        return cast("type[BaseAdapter]", named)
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, BaseAdapter)
        and not inspect.isabstract(value)
        and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        what = "no adapter" if not found else f"{len(found)} adapters ({', '.join(sorted(c.__name__ for c in found))})"
        raise AdapterLoadError(f"module {module.__name__!r} defines {what}; name one class Adapter")
    return found[0]


def _instance(module: str, runtime: str, source: str) -> BaseAdapter:
    try:
        return _adapter_class(module, runtime)()
    except (AdapterLoadError, ConfigurationError):
        raise
    except BaseException as exc:
        # BaseException: a module may call sys.exit() while it is imported, and that must not look like a clean stop.
        logger.debug("cannot load %s", source, exc_info=True)
        reason = " ".join(redact_text(str(exc)).split())[:300] or "no message"
        raise AdapterLoadError(f"{source} cannot be loaded: {type(exc).__name__}: {reason}") from exc


def _adapter_class(module: str, runtime: str) -> type[BaseAdapter]:
    if module:
        # A console script has its own folder in front of sys.path; templates start in the folder of their adapter.
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        return find_adapter_class(importlib.import_module(module))
    return cast("type[BaseAdapter]", features.load(features.ADAPTERS, runtime))
