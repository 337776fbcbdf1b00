"""The mark of a process that cannot recover by itself."""

import logging
from collections.abc import Generator

import pytest

from molecule_runtime.core import wedge
from molecule_runtime.core.presence import Vitals


@pytest.fixture(autouse=True)
def clean() -> Generator[None]:
    wedge.reset_for_test()
    yield
    wedge.reset_for_test()


def test_the_first_reason_stays_until_it_is_cleared(caplog: pytest.LogCaptureFixture) -> None:
    assert (wedge.is_wedged(), wedge.wedge_reason()) == (False, "")
    wedge.mark_wedged("the SDK lost its session")
    wedge.mark_wedged("something that followed from it")
    assert (wedge.is_wedged(), wedge.wedge_reason()) == (True, "the SDK lost its session")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    wedge.clear_wedge()
    wedge.clear_wedge()
    assert (wedge.is_wedged(), wedge.wedge_reason()) == (False, "")
    wedge.mark_wedged("again")
    assert wedge.wedge_reason() == "again"


def test_a_reason_is_one_short_line_without_secrets() -> None:
    wedge.mark_wedged("api_key=sk-abcdefghijklmnopqrstuvwxyz123456\n" + "x" * 500)  # secret-scan: allow, made up
    reason = wedge.wedge_reason()
    assert "sk-abc" not in reason
    assert len(reason) <= wedge.MAX_REASON
    assert "\n" not in reason
    wedge.reset_for_test()
    wedge.mark_wedged("")
    assert wedge.is_wedged()


def test_every_beat_says_it_until_it_is_cleared() -> None:
    vitals = Vitals()
    assert vitals.heartbeat("ws-1").runtime_state == ""
    wedge.mark_wedged("the SDK lost its session")
    beat = vitals.heartbeat("ws-1")
    assert (beat.runtime_state, beat.sample_error) == ("wedged", "the SDK lost its session")
    wedge.clear_wedge()
    assert vitals.heartbeat("ws-1").runtime_state == ""
