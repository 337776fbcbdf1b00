"""How long a newcomer waits: `molecule-local demo --once` from nothing to done, beside the time that its SDKs take to import.

uv run python -m tests.benchmarks.demo_cold_start [--runs 5]
"""

from __future__ import annotations

import argparse
import sys

from tests.benchmarks.measure import compare, report

FLOOR = "import both SDKs"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    commands = {
        FLOOR: [sys.executable, "-c", "import a2a.server.routes, a2a.server.request_handlers, mcp.server.stdio"],
        "demo --once": [sys.executable, "-m", "molecule_runtime.localplatform", "demo", "--once"],
    }
    print(report(compare(commands, runs=runs), floor=FLOOR))


if __name__ == "__main__":
    main()
