"""The `token_usage` table: what the models of a workspace used on each day, in UTC (contract 5.5, 7.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from molecule_runtime.localplatform import timestamps

if TYPE_CHECKING:
    import sqlite3

MAX_TOKENS = 10_000_000
"""Of one call, as far as it counts (contract 7.5)."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one workspace used in one day."""

    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0


def of_answer(answer: Any) -> tuple[int, int] | None:
    """Return the input and output tokens that an answer states in `result.usage` or `usage`, or None."""
    if not isinstance(answer, dict):
        return None
    body = cast("dict[str, Any]", answer)
    result = body.get("result")
    for holder in (cast("dict[str, Any]", result) if isinstance(result, dict) else {}, body):
        usage = holder.get("usage")
        if isinstance(usage, dict):
            counts = cast("dict[str, Any]", usage)
            return _count(counts.get("input_tokens")), _count(counts.get("output_tokens"))
    return None


def add(connection: sqlite3.Connection, workspace_id: str, input_tokens: int, output_tokens: int, *, now: int) -> None:
    """Count one call."""
    connection.execute(
        "INSERT INTO token_usage (workspace_id, day, input_tokens, output_tokens, calls) VALUES (?, ?, ?, ?, 1)"
        " ON CONFLICT (workspace_id, day) DO UPDATE SET input_tokens = input_tokens + excluded.input_tokens,"
        " output_tokens = output_tokens + excluded.output_tokens, calls = calls + 1",
        (workspace_id, timestamps.render(now)[:10], input_tokens, output_tokens),
    )


def on_day(connection: sqlite3.Connection, workspace_id: str, day: str) -> Usage:
    """Return what was used on a day, as `2026-06-30`."""
    found = connection.execute(
        "SELECT input_tokens, output_tokens, calls FROM token_usage WHERE workspace_id = ? AND day = ?",
        (workspace_id, day),
    ).fetchone()
    return Usage() if found is None else Usage(*found)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return max(0, min(value, MAX_TOKENS))
