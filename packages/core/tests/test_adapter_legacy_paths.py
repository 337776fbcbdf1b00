"""The predecessor's import paths give the same interface, where the meta package is installed."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import pytest

from molecule_runtime.core import adapter

adapters: Any = pytest.importorskip("molecule_runtime.adapters", reason="the meta package is not installed")


@pytest.mark.parametrize("path", ["molecule_runtime.adapter_base", "molecule_runtime.adapters.base"])
def test_the_names_of_the_predecessor_are_ours(path: str) -> None:
    module = importlib.import_module(path)
    for name in ("AdapterConfig", "BaseAdapter", "RuntimeCapabilities", "SetupResult", "resolve_provider_routing"):
        assert getattr(module, name) is getattr(adapter, name)


def test_the_adapter_of_the_environment_is_found_whatever_runtime_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("adapter_of_a_template")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("ADAPTER_MODULE", module.__name__)
    with pytest.raises(AttributeError):
        adapters.get_adapter("anything")
    vars(module)["Adapter"] = adapter.BaseAdapter
    assert adapters.get_adapter("anything") is adapter.BaseAdapter


def test_without_the_environment_an_installed_adapter_is_found_by_its_runtime() -> None:
    with pytest.raises(KeyError, match="ADAPTER_MODULE"):
        adapters.get_adapter("nobody-has-this")
    for runtime in adapters.list_adapters():
        assert adapters.get_adapter(runtime).name() == runtime
