"""What a molecule-runtime agent can do: the implementation behind the registry, and the one dispatcher that runs it."""

from molecule_runtime.tools.context import RuntimeIdentity, ToolContext
from molecule_runtime.tools.dispatcher import available_tools, dispatch
from molecule_runtime.tools.errors import ToolsError
from molecule_runtime.tools.inbox import Inbox, InboxMessage
from molecule_runtime.tools.permissions import Permissions
from molecule_runtime.tools.result import ToolResult

__all__ = [
    "Inbox",
    "InboxMessage",
    "Permissions",
    "RuntimeIdentity",
    "ToolContext",
    "ToolResult",
    "ToolsError",
    "available_tools",
    "dispatch",
]
