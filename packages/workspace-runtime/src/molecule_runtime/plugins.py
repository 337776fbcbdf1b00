"""The predecessor's `plugins`: what the plugins of a workspace contribute is read by `molecule_runtime.core.plugins`."""

from molecule_runtime.core.plugins import LoadedPlugins, Plugin, load_plugins

__all__ = ["LoadedPlugins", "Plugin", "load_plugins"]
