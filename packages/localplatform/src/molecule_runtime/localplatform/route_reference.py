"""Renders the table of routes in the README: `python -m molecule_runtime.localplatform.route_reference [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from molecule_runtime.core.readme_table import ReadmeTable
from molecule_runtime.localplatform.openapi import readme_table
from molecule_runtime.localplatform.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Sequence

README = Path(__file__).parents[3] / "README.md"
"""In the source tree; the wheel carries the README as its description."""


def render() -> str:
    """Return the table of every route, in the order of `ROUTES`."""
    return readme_table(ROUTES)


TABLE = ReadmeTable(
    module="molecule_runtime.localplatform.route_reference",
    name="routes",
    render=render,
    description="Write the table of routes into the README.",
)


def main(argv: Sequence[str] | None = None, *, file: Path = README) -> int:
    """Write the table into the README, or with `--check` print how it differs and return 1."""
    return TABLE.main(argv, file=file)


if __name__ == "__main__":
    sys.exit(main())
