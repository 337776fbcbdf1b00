"""The errors of the tools wheel.

    ToolsError (MoleculeError)
    ├── ToolRefusedError     the tool did not do what was asked; the text is for the agent
    │   ├── WorkspaceNotNamedError               several workspaces are served, and none was named
    │   ├── ApprovalDeniedError                  a person said no
    │   └── ApprovalTimeoutError (TimeoutError)  nobody decided in time
    ├── JournalError         the journal of delegations and approvals cannot be used
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


class WorkspaceNotNamedError(ToolRefusedError):
    """Several workspaces are served and the call names none: who acts is never guessed."""


class ApprovalDeniedError(ToolRefusedError):
    """A person said no: the action must not be done, and not be asked for again in other words.

    Attributes:
        request_id: of the request that was answered.
    """

    def __init__(self, message: str, *, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class ApprovalTimeoutError(ToolRefusedError, TimeoutError):
    """Nobody decided in time, which is not a no: the action may be asked for again.

    Attributes:
        request_id: of the request, which was taken back.
    """

    def __init__(self, message: str, *, request_id: str) -> None:
        super().__init__(message)
        self.request_id = request_id


class JournalError(ToolsError):
    """The journal could not be read or written; the message names the file and the remedy."""


class AuditError(ToolsError):
    """The ledger could not be read or written; the message names the file and the remedy."""


class LedgerKeyError(AuditError):
    """A key of the ledger is missing, unsafe or not usable; the message never shows one."""
