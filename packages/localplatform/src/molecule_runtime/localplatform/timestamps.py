"""Moments as whole microseconds of Unix time: exact in SQLite, and the same after a round trip through RFC 3339."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SECOND = 1_000_000
"""Microseconds."""


def from_seconds(seconds: float) -> int:
    """Return Unix seconds as microseconds."""
    return int(seconds * SECOND)


@overload
def render(moment: int) -> str: ...
@overload
def render(moment: None) -> None: ...
def render(moment: int | None) -> str | None:
    """Return a moment as RFC 3339 in UTC."""
    if moment is None:
        return None
    return (_EPOCH + timedelta(microseconds=moment)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse(text: str) -> int:
    """Read an RFC 3339 moment.

    Raises:
        ValueError: it is none, or it has no time zone.
    """
    # A plus sign that was not percent-encoded arrives from a query string as a space.
    moment = datetime.fromisoformat(text.strip().replace(" ", "+"))
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)
