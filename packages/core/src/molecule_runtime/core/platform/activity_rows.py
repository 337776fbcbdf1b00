"""Reads the platform's activity list row by row, so that one that cannot be read costs no other."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import TypeAdapter, ValidationError

from molecule_runtime.core.platform.wire import ActivityRow

if TYPE_CHECKING:
    from collections.abc import Mapping

_list: Final = TypeAdapter(list[Any])
_MAX_FIELDS_NAMED: Final = 5


class UnreadRow(ActivityRow):
    """A row of which not all could be read. What could is there, and the rest is as if it were absent.

    Attributes:
        unread: the fields that could not be read; `id` where the row has none, and then `id` is made up of its content.
    """

    unread: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Say what is wrong with it."""
        named = ", ".join(self.unread[:_MAX_FIELDS_NAMED])
        return f"{named} {'is' if len(self.unread) == 1 else 'are'} not as the platform's contract says"


def is_identified(row: ActivityRow) -> bool:
    """Tell whether the platform knows the row by its id, so that it can be asked for what came after it."""
    return not (isinstance(row, UnreadRow) and "id" in row.unread)


def read_activity(data: object) -> list[ActivityRow]:
    """Return the rows of an answer, in its order.

    Raises:
        ValidationError: it is no list at all.
    """
    return [_read(item) for item in _list.validate_python(data)]


def _read(item: object) -> ActivityRow:
    try:
        return ActivityRow.model_validate(item)
    except ValidationError as exc:
        bad = {str(error["loc"][0]) for error in exc.errors() if error["loc"]}
    fields: dict[str, Any] = dict(cast("Mapping[str, Any]", item)) if isinstance(item, dict) else {}
    kept = {name: value for name, value in fields.items() if name not in bad}
    if "id" not in kept:
        bad.add("id")
        # The same row is the same message each time it is read.
        content = json.dumps(item, sort_keys=True, default=repr)
        kept["id"] = f"unreadable-{hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()[:32]}"
    return UnreadRow.model_validate({**kept, "unread": tuple(sorted(bad))})
