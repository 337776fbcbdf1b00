"""Cron expressions and time zones: what a schedule's owner writes, and when it is due next (contract 12.2).

Five fields, as Debian's cron reads them; `L`, `LW` and `MON#1` are understood too. In zones with summer time the library `cronsim` follows
Debian: a run at a fixed time that the clock skips in spring takes place right after the gap, and one in the hour that comes twice in autumn
takes place the first time only. Runs at least hourly, whose minute or hour begins with `*`, keep their rhythm in real time.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MAX_EXPRESSION_CHARS = 128
MAX_ZONE_CHARS = 64

_FIELDS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class CronError(ValueError):
    """An expression or a time zone cannot be used; the message says why, for its owner."""


def next_after(expression: str, zone: str, moment: int) -> int | None:
    """Return the first moment after this one at which a schedule is due (microseconds), or None when there is none for 50 years.

    Raises:
        CronError: the expression or the time zone cannot be read.
    """
    after = _EPOCH + moment * _MICROSECOND
    try:
        runs = CronSim(_five_fields(expression), after.astimezone(_zone(zone)))
    except CronSimError as exc:
        raise CronError(f"invalid cron expression: {_lowered(str(exc))}") from None
    for run in runs:
        due = run.astimezone(UTC)
        # In the second pass through the hour that comes twice, cronsim still names runs of the first.
        if due > after:
            return (due - _EPOCH) // _MICROSECOND
    return None


def _five_fields(expression: str) -> str:
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise CronError(f"invalid cron expression: longer than {MAX_EXPRESSION_CHARS} characters")
    if not expression.isascii():
        raise CronError("invalid cron expression: it has characters that are not ASCII")
    if len(expression.split()) != _FIELDS:
        raise CronError("invalid cron expression: five fields are needed: minute hour day-of-month month day-of-week")
    return expression


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where the system has no time zone data
    if len(name) > MAX_ZONE_CHARS:
        raise CronError(f"invalid timezone: longer than {MAX_ZONE_CHARS} characters")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # Also a folder or another file of the time zone data, a path upwards, a lone surrogate.
        raise CronError(
            f"invalid timezone {name!r}: use an IANA name such as Europe/Berlin (without system time zone data: pip install tzdata)"
        ) from None


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
