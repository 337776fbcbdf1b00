"""The errors of the local platform.

    MoleculeError
    └── LocalPlatformError
        ├── DataFolderError (ConfigurationError)   the data folder cannot be used: in use, unreadable, too new
        ├── PortTakenError (ConfigurationError)    something else listens on the wanted address
        ├── CommandError                           a command did not do what was asked
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


class CommandError(LocalPlatformError):
    """A command did not do what was asked; the message is the line that the user sees.

    Attributes:
        status: the HTTP status of the platform's refusal, or None where it did not refuse anything.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class DemoError(LocalPlatformError):
    """A step of the demo failed; the message says what was expected and what came."""
