"""The errors of the local platform.

    MoleculeError
    └── LocalPlatformError
        ├── DataFolderError (ConfigurationError)   the data folder cannot be used: in use, unreadable, too new
        ├── PortTakenError (ConfigurationError)    something else listens on the wanted address
        ├── SeedError (ConfigurationError)         the file that describes a team cannot be used
        ├── TeamError                              a team cannot be seated or run
        ├── CommandError                           a command did not do what was asked
        └── DemoError                              a step of the demo failed

What a request gets wrong is not an error of this tree: see `web.Refusal`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from molecule_runtime.core.errors import ConfigurationError, MoleculeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from molecule_runtime.core.config import Finding


class LocalPlatformError(MoleculeError):
    """Base of every error of the local platform."""


class DataFolderError(LocalPlatformError, ConfigurationError):
    """The data folder cannot be used as it is."""


class PortTakenError(LocalPlatformError, ConfigurationError):
    """The address to listen on is not free."""


class SeedError(LocalPlatformError, ConfigurationError):
    """A seed cannot be used; `findings` holds everything noticed, errors and warnings, the message one line for each."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class TeamError(LocalPlatformError):
    """A team, or one member of it, cannot be seated or run; the message says why and what to do."""


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
