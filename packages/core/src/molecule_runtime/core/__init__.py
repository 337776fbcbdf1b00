"""The contracts every molecule-runtime wheel shares: targets, tools, wire models, the platform client and the adapter interface.

Importing this package is cheap: it loads no HTTP client, YAML parser or validator until something needs one.
"""

import logging

from molecule_runtime.core.adapter import AdapterConfig, BaseAdapter, PrivilegedPluginInstallError, RuntimeCapabilities
from molecule_runtime.core.errors import ConfigurationError, MoleculeError, PlatformError

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
