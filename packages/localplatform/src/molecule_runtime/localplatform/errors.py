"""The errors of the local platform.

    MoleculeError
    └── LocalPlatformError
        ├── DataFolderError (ConfigurationError)   the data folder cannot be used: in use, unreadable, too new
        ├── PortTakenError (ConfigurationError)    something else listens on the wanted address
        └── DemoError                              a step of the demo failed

What a request gets wrong is not an error of this tree: see `web.Refusal`.
"""

from __future__ import annotations

from molecule_runtime.core.errors import ConfigurationError, MoleculeError


class LocalPlatformError(MoleculeError):
    """Base of every error of the local platform."""


class DataFolderError(LocalPlatformError, ConfigurationError):
    """The data folder cannot be used as it is."""


class PortTakenError(LocalPlatformError, ConfigurationError):
    """The address to listen on is not free."""


class DemoError(LocalPlatformError):
    """A step of the demo failed; the message says what was expected and what came."""
