"""`python -m molecule_runtime.a2a`: the same as the `molecule-runtime` command."""

import sys

from molecule_runtime.a2a.cli import main

if __name__ == "__main__":
    sys.exit(main())
