"""`python -m molecule_runtime.localplatform` is `molecule-local`."""

from __future__ import annotations

import sys

from molecule_runtime.localplatform.cli import main

if __name__ == "__main__":
    sys.exit(main())
