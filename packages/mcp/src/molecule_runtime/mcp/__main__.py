"""`python -m molecule_runtime.mcp` is `molecule-mcp`."""

import sys

from molecule_runtime.mcp.launch import main

if __name__ == "__main__":
    sys.exit(main())
