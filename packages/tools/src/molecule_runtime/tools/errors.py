"""The errors of the tools wheel.

    ToolsError (MoleculeError)
    ├── ToolRefusedError     the tool did not do what was asked; the text is for the agent
    └── AuditError           the audit ledger cannot be used
        └── LedgerKeyError   a key of it is missing or not usable

A refused tool is an answer, not a crash: the dispatcher turns it into a result with `is_error`.
"""

from __future__ import annotations

from molecule_runtime.core.errors import MoleculeError


class ToolsError(MoleculeError):
    """Base of every error of this wheel."""


class ToolRefusedError(ToolsError):
    """The tool could not do what was asked; the message tells the agent what to do instead."""


class AuditError(ToolsError):
    """The ledger could not be read or written; the message names the file and the remedy."""


class LedgerKeyError(AuditError):
    """A key of the ledger is missing, unsafe or not usable; the message never shows one."""
