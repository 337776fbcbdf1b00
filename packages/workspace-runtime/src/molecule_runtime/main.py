"""The predecessor's `main`: the workspace host is `molecule_runtime.a2a.cli`."""

import sys

from molecule_runtime.a2a.cli import main_sync

__all__ = ["main_sync"]

if __name__ == "__main__":
    sys.exit(main_sync())
