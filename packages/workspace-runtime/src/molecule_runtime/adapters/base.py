"""The predecessor's `adapters.base`: the adapter interface is `molecule_runtime.core`."""

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter, PrivilegedPluginInstallError, RuntimeCapabilities

__all__ = ["AdapterConfig", "BaseAdapter", "PrivilegedPluginInstallError", "RuntimeCapabilities"]
