"""A short soak of one host: turns that end well, badly or not at all leave nothing behind (the long one: `tests.benchmarks.host_soak`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .soak import KINDS, leaks, soak

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

GROWTH = 8 * 1024
"""KiB that the host may grow by in the second half: caches that fill up, never something a turn."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_turns_that_are_cancelled_left_or_block_the_loop_leave_nothing_behind(tmp_path: Path) -> None:
    soaked = await soak(tmp_path, segments=2, turns=60, warm_up=80)
    assert all(soaked.done[kind] >= 10 for kind in KINDS)
    first, *_, last = soaked.held
    assert leaks(first, last) == {}
    assert last.resident - soaked.held[-2].resident < GROWTH
