"""The errors of delivery.

McpError
└── DeliveryError (ValueError)   the engine's file cannot be read, or not be changed without losing something
"""

from __future__ import annotations

from molecule_runtime.mcp.errors import McpError


class DeliveryError(McpError, ValueError):
    """The file is as it was; the message says what is wrong with it and what would mend it."""
