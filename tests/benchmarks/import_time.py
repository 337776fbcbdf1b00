"""What it costs to import the light parts of core, beside the standard library's own modules, and how large core is when installed.

uv run python -m tests.benchmarks.import_time [--runs 20]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import compare, report

ROOT = Path(__file__).parents[2]
FLOOR = "json, dataclasses"
STATEMENTS = {
    FLOOR: "import json, dataclasses",
    "mcp_schemas": "import molecule_runtime.mcp_schemas",
    "mcp_target_resolution": "import molecule_runtime.mcp_target_resolution",
    "core.BaseAdapter": "from molecule_runtime.core import BaseAdapter",
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    print(
        report(
            compare({name: [sys.executable, "-c", code] for name, code in STATEMENTS.items()}, runs=runs), floor=FLOOR
        )
    )
    print()
    print(installed_sizes())


def installed_sizes() -> str:
    """Install core alone into a scratch environment and return the size of what came, largest first."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "venv"
        for command in (
            ["uv", "venv", "--quiet", str(scratch)],
            ["uv", "pip", "install", "--quiet", "--python", str(scratch), str(ROOT / "packages/core")],
        ):
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=300)
        (packages,) = scratch.glob("lib/python*/site-packages")
        sizes = {
            entry.name: sum(
                file.stat().st_size for file in ([entry] if entry.is_file() else entry.rglob("*")) if file.is_file()
            )
            for entry in packages.iterdir()
            if not entry.name.startswith("_")
        }
    lines = [
        f"{size / 1024:9.0f} KiB  {name}"
        for name, size in sorted(sizes.items(), key=lambda item: -item[1])
        if size > 50 * 1024
    ]
    return "\n".join(["installed with core:", *lines, f"{sum(sizes.values()) / 1024:9.0f} KiB  in all"])


if __name__ == "__main__":
    main()
