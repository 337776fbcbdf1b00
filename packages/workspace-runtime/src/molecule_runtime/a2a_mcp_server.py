"""The predecessor's `a2a_mcp_server`: run as a module or by its path, it is `molecule-mcp`.

Channel plugins start it as `python -m molecule_runtime.a2a_mcp_server` (contract `consumers.md` 4.1), adapters by its path (1.8).
"""

import os
import sys

if __name__ == "__main__":
    # Run by its path, Python searches this folder first: `import mcp` would find our own `molecule_runtime/mcp`, not the SDK.
    _here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - the least that must be imported before this
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _here]  # noqa: PTH100
    from molecule_runtime.mcp.launch import main as launch

    # Before anything else is imported, so that the client has its answers at once.
    sys.exit(launch())

from molecule_runtime.mcp.launch import main
from molecule_runtime.mcp_schemas import MOLECULE_MCP_TOOLS
from molecule_runtime.mcp_tools import (  # pyright: ignore[reportMissingTypeStubs] - a namespace has no py.typed
    handle_molecule_tool_call as handle_tool_call,
)

__all__ = ["TOOLS", "cli_main", "handle_tool_call"]

TOOLS = MOLECULE_MCP_TOOLS
"""The very list of the registry, never a copy (contract `runtime.md` 19.1)."""


def cli_main(transport: str = "stdio", port: int = 9100) -> int:
    """Serve over stdio, or over HTTP on a port of this machine (contract `runtime.md` 5.1); returns the exit code."""
    return main([] if transport == "stdio" else ["--transport", transport, "--port", str(port)])
