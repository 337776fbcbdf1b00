"""One row that cannot be read costs no other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from molecule_runtime.core.platform.activity_rows import UnreadRow, is_identified, read_activity


def test_a_row_that_cannot_be_read_keeps_what_can_and_says_what_cannot() -> None:
    good, bad = read_activity([{"id": "a"}, {"id": "b", "source_id": 7, "summary": "s", "new_field": 1}])
    assert not isinstance(good, UnreadRow)
    assert isinstance(bad, UnreadRow)
    assert (bad.id, bad.source_id, bad.summary, bad.unread) == ("b", None, "s", ("source_id",))
    assert bad.problem == "source_id is not as the platform's contract says"
    assert is_identified(good)
    assert is_identified(bad)


@pytest.mark.parametrize("item", [7, None, "text", [], {}, {"id": 7, "summary": "s"}])
def test_a_row_without_an_id_has_the_same_made_up_one_each_time(item: object) -> None:
    (row,) = read_activity([item])
    assert isinstance(row, UnreadRow)
    assert "id" in row.unread
    assert not is_identified(row)
    assert row.id.startswith("unreadable-")
    assert read_activity([item])[0].id == row.id != read_activity([{"other": 1}])[0].id


def test_what_is_no_list_is_no_answer() -> None:
    with pytest.raises(ValidationError):
        read_activity({"rows": []})
