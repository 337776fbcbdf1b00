"""Checks of the inbox file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from molecule_runtime.core.preflight import Outcome, fail, ok, skip
from molecule_runtime.mcp.opening import INBOX_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from molecule_runtime.mcp.doctor.subject import Machine


def check_inbox(machine: Machine) -> Iterator[Outcome]:
    """Whether each inbox file is whole, and how much waits in it."""
    folders = machine.folders()
    if not folders:
        yield skip("there is no folder for it")
    for folder in folders:
        path = folder / INBOX_FILE
        if not path.exists():
            yield ok(f"{path} is made on the first start")
        elif (said := _damage(path)) is not None:
            yield fail(
                f"{path} is damaged: {said}",
                f"stop every molecule-mcp and move {path} away: messages of the last days that were not popped are fetched again",
            )
        else:
            yield ok(f"{path} is whole")


def _damage(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            said = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)")]
    except sqlite3.Error as exc:
        return str(exc)
    return None if said == ["ok"] else "; ".join(said)
