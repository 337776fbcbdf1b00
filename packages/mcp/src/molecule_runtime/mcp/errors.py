"""The errors of the mcp wheel.

McpError (MoleculeError)
├── ListenError    the HTTP transport cannot listen on its address
└── StateError     the inbox file cannot be used
"""

from __future__ import annotations

from molecule_runtime.core.errors import MoleculeError


class McpError(MoleculeError):
    """Base of every error of this wheel."""


class StateError(McpError):
    """The file that keeps the inbox cannot be opened or written."""


class ListenError(McpError):
    """The address of the HTTP transport is taken, does not exist here, or may not be used."""
