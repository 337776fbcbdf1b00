"""Renders the table of environment variables in the README: `python -m molecule_runtime.core.env_reference [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import env

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = "<!-- environment: written by python -m molecule_runtime.core.env_reference -->"
END = "<!-- environment: end -->"
README = Path(__file__).parents[3] / "README.md"
"""In the source tree; the wheel carries the README as its description."""


def render() -> str:
    """Return the table of every variable, in the order of `env.ALL`."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for variable in env.ALL:
        default = f"`{variable.default}`" if variable.default else ""
        secret = " Secret." if variable.secret else ""
        lines.append(f"| `{variable.name}` | {default} | {variable.meaning.replace('|', chr(92) + '|')}{secret} |")
    return "\n".join(lines)


def insert(readme: str, table: str) -> str:
    """Return the README with the table between its markers.

    Raises:
        ValueError: the markers are not there, once each and in order.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"the README must hold {BEGIN} and {END}, once each and in this order")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def main(argv: Sequence[str] | None = None, *, file: Path = README) -> int:
    """Write the table into the README, or with `--check` change nothing and return 1 when it differs."""
    parser = argparse.ArgumentParser(prog="python -m molecule_runtime.core.env_reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the README is out of date")
    options = parser.parse_args(argv)
    stored = file.read_text(encoding="utf-8")
    derived = insert(stored, render())
    if not options.check:
        file.write_text(derived, encoding="utf-8")
    return int(options.check and stored != derived)


if __name__ == "__main__":
    sys.exit(main())
