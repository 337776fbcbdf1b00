"""The predecessor's `adapters`: what every template imports its base class from, and how a host found the adapter."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from molecule_runtime.core import env, features

if TYPE_CHECKING:
    from molecule_runtime.core.adapter import BaseAdapter


def get_adapter(runtime: str) -> type[BaseAdapter]:
    """Return the adapter class of this process: `Adapter` of the module that ADAPTER_MODULE names, else the installed one.

    Raises:
        AttributeError: that module has no `Adapter`.
        KeyError: ADAPTER_MODULE is not set, and no installed wheel announces an adapter for `runtime`.
    """
    module = env.ADAPTER_MODULE.get()
    if module:
        return cast("type[BaseAdapter]", importlib.import_module(module).Adapter)
    if runtime not in features.names(features.ADAPTERS):
        raise KeyError(f"no adapter for {runtime!r}: set ADAPTER_MODULE to the module of the template's adapter")
    return cast("type[BaseAdapter]", features.load(features.ADAPTERS, runtime))


def list_adapters() -> list[str]:
    """Return the runtimes for which an adapter is installed."""
    return features.names(features.ADAPTERS)
