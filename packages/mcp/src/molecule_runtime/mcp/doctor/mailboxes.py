"""Checks of the inbox file."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING

from molecule_runtime.core import console
from molecule_runtime.core.preflight import Outcome, fail, ok, skip, warn
from molecule_runtime.mcp.errors import McpError
from molecule_runtime.mcp.listing import list_mailboxes
from molecule_runtime.mcp.opening import INBOX_FILE
from molecule_runtime.mcp.store import InboxStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from molecule_runtime.mcp.doctor.subject import Machine

OLD_SECONDS = 24 * 3600.0
"""A message that has waited for a day: nobody seems to read this inbox."""


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
            yield from _judge(path)


def _judge(path: Path) -> Iterator[Outcome]:
    try:
        with closing(InboxStore(path)) as store:
            states = list_mailboxes(store)
    except McpError as exc:
        yield fail(str(exc), "give the file to the user that runs molecule-mcp")
        return
    for state in states:
        where = f"{path}: {state.mailbox.workspace_id} at {state.mailbox.origin}"
        if state.full:
            yield warn(
                f"{where} is full ({state.waiting} messages), and is not polled until some are popped",
                "have the agent work through its messages: wait_for_message, then inbox_pop",
            )
        elif state.oldest is not None and time.time() - state.oldest > OLD_SECONDS:
            hours = (time.time() - state.oldest) / 3600
            yield warn(
                f"{where}: the oldest of {state.waiting} messages has waited for {hours:.0f} hours",
                "see whether the agent calls wait_for_message and inbox_pop; `molecule-mcp inbox list` shows them",
            )
    yield ok(f"{path} is whole; {console.count(sum(state.waiting for state in states), 'message')} waiting")


def _damage(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            said = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)")]
    except sqlite3.Error as exc:
        return str(exc)
    return None if said == ["ok"] else "; ".join(said)
