"""What a molecule-runtime agent can do: the implementation behind the registry, and the one dispatcher that runs it."""

from molecule_runtime.tools.approvals import ApprovalGate, requires_approval
from molecule_runtime.tools.background import Background
from molecule_runtime.tools.context import RuntimeIdentity, ToolContext
from molecule_runtime.tools.dispatcher import available_tools, dispatch
from molecule_runtime.tools.errors import ApprovalDeniedError, ApprovalTimeoutError, ToolsError
from molecule_runtime.tools.feature import approval_gate
from molecule_runtime.tools.inbox import Inbox, InboxMessage
from molecule_runtime.tools.journal import Journal
from molecule_runtime.tools.permissions import Permissions
from molecule_runtime.tools.result import ToolResult

__all__ = [
    "ApprovalDeniedError",
    "ApprovalGate",
    "ApprovalTimeoutError",
    "Background",
    "Inbox",
    "InboxMessage",
    "Journal",
    "Permissions",
    "RuntimeIdentity",
    "ToolContext",
    "ToolResult",
    "ToolsError",
    "approval_gate",
    "available_tools",
    "dispatch",
    "requires_approval",
]
