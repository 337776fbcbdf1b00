"""Renders the table of environment variables in the README: `python -m molecule_runtime.core.env_reference [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core import env
from molecule_runtime.core.readme_table import ReadmeTable

if TYPE_CHECKING:
    from collections.abc import Sequence

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


TABLE = ReadmeTable(
    module="molecule_runtime.core.env_reference",
    name="environment",
    render=render,
    description="Write the table of environment variables into the README.",
)


def main(argv: Sequence[str] | None = None, *, file: Path = README) -> int:
    """Write the table into the README, or with `--check` print how it differs and return 1."""
    return TABLE.main(argv, file=file)


if __name__ == "__main__":
    sys.exit(main())
