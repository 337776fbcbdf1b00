"""The predecessor's `mcp_cli`: `molecule-mcp` is `molecule_runtime.mcp.launch`."""

import sys

from molecule_runtime.mcp.launch import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
