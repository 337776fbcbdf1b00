"""2,000 turns over 20 conversations on one host, with cancels, broken streams and blocked loops, and what the host holds after each part.

uv run python -m tests.benchmarks.host_soak [--turns 2000] [--segments 8] [--json]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import anyio
from tests.integration.host.soak import Soak, leaks, soak


def main() -> None:
    """Run it and print a table; exit with 1 when a task, a thread or a file is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2000, help="in all, after a warm-up of 300")
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:

        async def run() -> Soak:
            return await soak(
                Path(folder),
                segments=arguments.segments,
                turns=arguments.turns // arguments.segments,
                warm_up=300,
            )

        soaked = anyio.run(run)
    left = leaks(soaked.held[0], soaked.held[-1])
    if arguments.json:
        print(soaked.as_json())
    else:
        print(", ".join(f"{count} {kind}" for kind, count in soaked.done.items()))
        print(f"{'turns':>6}  {'tasks':>6}  {'threads':>8}  {'files':>6}  {'KiB':>8}")
        for held in soaked.held:
            print(f"{held.turns:6}  {len(held.tasks):6}  {held.threads:8}  {held.descriptors:6}  {held.resident:8}")
        print(f"left behind: {left or 'nothing'}")
    raise SystemExit(1 if left else 0)


if __name__ == "__main__":
    main()
