"""The event log of an adapter that nobody gave one."""

from __future__ import annotations

from typing import Any


class DisabledEventLog:
    """Takes every event and keeps none."""

    enabled = False

    def append(self, *_event: Any, **_fields: Any) -> None:
        """Drop the event."""

    def query(self, *_filters: Any, **_options: Any) -> list[Any]:
        """Return no events."""
        return []
