"""The predecessor's `adapter_base`: the adapter interface is `molecule_runtime.core.adapter`."""

from molecule_runtime.core.adapter import (
    AdapterConfig,
    BaseAdapter,
    PrivilegedPluginInstallError,
    ProviderRegistry,
    RuntimeCapabilities,
    SetupResult,
    resolve_provider_routing,
)

__all__ = [
    "AdapterConfig",
    "BaseAdapter",
    "PrivilegedPluginInstallError",
    "ProviderRegistry",
    "RuntimeCapabilities",
    "SetupResult",
    "resolve_provider_routing",
]
