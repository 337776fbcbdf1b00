"""The contracts every molecule-runtime wheel shares: targets, tools, wire models, the platform client and the adapter interface.

Importing this package is cheap: it loads no HTTP client, YAML parser or validator, and the adapter interface only when asked for.
"""

import logging
from typing import TYPE_CHECKING

from molecule_runtime.core.errors import ConfigurationError, MoleculeError, PlatformError

if TYPE_CHECKING:
    from molecule_runtime.core.adapter import (
        AdapterConfig,
        BaseAdapter,
        PrivilegedPluginInstallError,
        RuntimeCapabilities,
    )

__all__ = [
    "AdapterConfig",
    "BaseAdapter",
    "ConfigurationError",
    "MoleculeError",
    "PlatformError",
    "PrivilegedPluginInstallError",
    "RuntimeCapabilities",
]

# There is no namespace module to hold it, so core gives the tree its null handler; nothing else configures logging on import.
logging.getLogger("molecule_runtime").addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # a type checker would otherwise let every name pass

    def __getattr__(name):
        """Import the adapter interface when one of its names is asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from molecule_runtime.core import adapter

        return globals().setdefault(name, getattr(adapter, name))
