"""Keeps a table in a README equal to the code that it describes: written between two markers, or checked."""

from __future__ import annotations

import argparse
import difflib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadmeTable:
    """A table that a module renders.

    Attributes:
        module: what writes it, as in `python -m`.
        name: of its markers.
        render: returns the table.
        description: for `--help`.
    """

    module: str
    name: str
    render: Callable[[], str]
    description: str

    @property
    def begin(self) -> str:
        """The marker before the table."""
        return f"<!-- {self.name}: written by python -m {self.module} -->"

    @property
    def end(self) -> str:
        """The marker after the table."""
        return f"<!-- {self.name}: end -->"

    def insert(self, readme: str) -> str:
        """Return the README with the table between its markers.

        Raises:
            ValueError: the markers are not there, once each and in order.
        """
        before, begin, rest = readme.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not begin or not end or self.begin in rest or self.end in after:
            raise ValueError(f"the README must hold {self.begin} and {self.end}, once each and in this order")
        return f"{before}{self.begin}\n\n{self.render()}\n\n{self.end}{after}"

    def main(self, argv: Sequence[str] | None, *, file: Path) -> int:
        """Write the table into the README, or with `--check` print how it differs and return 1."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.description)
        parser.add_argument("--check", action="store_true", help="change nothing; fail when the README is out of date")
        options = parser.parse_args(argv)
        stored = file.read_text(encoding="utf-8")
        derived = self.insert(stored)
        if not options.check:
            file.write_text(derived, encoding="utf-8")
            return 0
        diff = difflib.unified_diff(
            stored.splitlines(keepends=True), derived.splitlines(keepends=True), str(file), "derived from the code"
        )
        sys.stdout.writelines(diff)
        return int(stored != derived)
