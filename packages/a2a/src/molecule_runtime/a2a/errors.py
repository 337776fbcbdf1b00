"""The errors of the workspace host.

    A2aError (MoleculeError)
    ├── StateFileError             what a restart must not lose cannot be stored or read
    ├── TaskTooLargeError          an agent has said more than a task may hold
    ├── PushTargetError            push notifications may not be sent there
    └── BootError                  the process cannot serve; it ends with exit code 1
        ├── AdapterLoadError       the adapter module cannot be imported or holds no adapter
        └── AddressInUseError      the port is taken

Messages are one line for people: what, which value, and what to do.
"""

from __future__ import annotations

from molecule_runtime.core.errors import MoleculeError


class A2aError(MoleculeError):
    """Base of the workspace host's own errors."""


class StateFileError(A2aError):
    """The state file cannot be opened, written or read."""


class TaskTooLargeError(A2aError):
    """An agent has said more than one task may hold."""


class PushTargetError(A2aError):
    """Push notifications may not be sent there; the message goes on after the name of the field."""


class BootError(A2aError):
    """The host cannot start, although its settings can be read."""


class AdapterLoadError(BootError):
    """The adapter cannot be imported, or its module does not hold exactly one adapter."""


class AddressInUseError(BootError):
    """Another process listens on the configured port."""
