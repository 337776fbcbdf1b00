"""The predecessor's `a2a_mcp_server`: run as a module or by its path, it is `molecule-mcp` over stdio.

Channel plugins start it as `python -m molecule_runtime.a2a_mcp_server` (contract `consumers.md` 4.1).
"""

import sys

from molecule_runtime.mcp.cli import main
from molecule_runtime.mcp_schemas import MOLECULE_MCP_TOOLS

__all__ = ["TOOLS", "cli_main"]

TOOLS = MOLECULE_MCP_TOOLS
"""The very list of the registry, never a copy (contract `runtime.md` 19.1)."""


def cli_main() -> int:
    """Serve over stdio; returns the exit code."""
    return main([])


if __name__ == "__main__":
    sys.exit(cli_main())
